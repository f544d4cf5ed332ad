"""README.md: the service that it shows is run by its commands, and answers as it says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from site_runs import MESH, running

PAGE = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = PAGE.partition("## Write a service\n")[2].partition("\n## ")[0]


def block(language):
    return re.search(rf"```{language}\n(.*?)```", SECTION, re.DOTALL).group(1)


def curls():
    """Each request that is shown, and what is said of the answer."""
    return re.findall(r"^(curl .+?) +# (.+)$", SECTION, re.MULTILINE)


def answers(site):
    """What the requests that are shown are answered."""
    for command, said in curls():
        asked = shlex.split(command.replace(":8000", f":{site.port}"))
        asked += ["--silent", "--write-out", "\n%{http_code}"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        body, _, status = done.stdout.rpartition("\n")
        yield said, status, body


def assert_as_said(site):
    five, refused = answers(site)
    assert five == ("5", "200", "5")
    said, status, body = refused
    assert said.startswith(status)
    assert status == "422"
    assert "send a JSON string" in body


def test_the_script(tmp_path):
    command = [sys.executable, "service.py"]
    assert "`python service.py --port 8000`" in SECTION
    with running(tmp_path, block("python"), block("toml"), command=command) as site:
        assert_as_said(site)
        assert len(site.replicas()) == 2


def test_the_file(tmp_path):
    (tmp_path / "hello.json").write_text('"hello"')
    with running(tmp_path, block("python"), block("toml")) as site:
        assert_as_said(site)
        for words in (["check", "--import"], ["status"], ["call", "/inference", "hello.json"]):
            assert re.search(rf"`mesh {words[0]}[ `]", SECTION)
            url = [] if words[0] == "check" else ["--url", site.url]
            done = subprocess.run(
                [MESH, *words, *url], cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "5"


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\]\(([\w/.-]+)\)", PAGE))))
def test_what_it_links_to_is_there(name):
    assert (Path(__file__).parents[2] / name).exists()
