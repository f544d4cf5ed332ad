"""What the Makefile and the container files call is what there is."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OCR = ROOT / "examples" / "ocr"


def dry_run(*arguments: str) -> str:
    """What make would do, without doing it; its own rules for the environment count as done."""
    command = ["make", "--dry-run", "--no-print-directory", *arguments]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()[-1]


def test_the_demo_gets_what_make_is_told() -> None:
    line = dry_run("demo", "ONCE=1", "IMAGE=my page.png", "PORT=8010")
    assert line.split("demo.py ")[1].split() == [
        "--once", "--image", '"my', 'page.png"', "--port", "8010",
    ]  # fmt: skip
    assert dry_run("demo").split("demo.py")[1].split() == []


def test_each_stage_of_the_containers_file_has_its_container() -> None:
    described = tomllib.loads((OCR / "compose.toml").read_text())
    composed = (ROOT / "docker-compose.yml").read_text()
    started = re.findall(r"command: mesh stage (\S+) -c compose.toml", composed)
    assert started == list(described["stages"]) == described["routes"]["/inference"]
    assert "command: mesh gateway -c compose.toml" in composed
    port = described["gateway"]["http"].rpartition(":")[2]
    assert f'"${{ADDRESS:-127.0.0.1}}:${{PORT:-8000}}:{port}"' in composed


CONTAINERS = [OCR / "compose.toml", *sorted((ROOT / "tests" / "compose").rglob("*.toml"))]


@pytest.mark.parametrize("file", CONTAINERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_port_that_others_reach_serves_listed_names_only(file: Path) -> None:
    """A page whose name comes to mean 127.0.0.1 would else reach what is published there."""
    gateway = tomllib.loads(file.read_text())["gateway"]
    assert gateway["http"].startswith("0.0.0.0:")
    assert {"localhost", "127.0.0.1", "gateway"} <= set(gateway["hosts"])
    assert not any("*" in host for host in gateway["hosts"])


def test_each_part_of_the_containers_file_has_its_keys() -> None:
    stages = tomllib.loads((OCR / "compose.toml").read_text())["stages"]
    composed = (ROOT / "docker-compose.yml").read_text()
    parts = {"gateway": "gateway", **{stage: f"stage-{stage}" for stage in stages}}
    for part, folder in parts.items():
        assert f"- keys-{part}:/made/{folder}\n" in composed
        assert composed.count(f"- keys-{part}:/keys:ro\n") == 1
    assert f'ARG PARTS="{" ".join(parts.values())}"' in (ROOT / "Dockerfile").read_text()


def test_the_containers_serve_the_same_pipeline_as_the_file_for_one_host() -> None:
    one, many = (tomllib.loads((OCR / name).read_text()) for name in ("mesh.toml", "compose.toml"))
    assert one["routes"] == many["routes"]
    assert {name: stage["worker"] for name, stage in one["stages"].items()} == {
        name: stage["worker"] for name, stage in many["stages"].items()
    }
