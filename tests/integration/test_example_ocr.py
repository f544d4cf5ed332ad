"""examples/ocr and its demo: real pictures through a gateway and three stages, over HTTP."""

import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from example_runs import file, folder, hub_hops, run_client, script, serving
from site_runs import START_PATIENCE as PATIENCE
from site_runs import free_port

from mesh import Client, DecodingError, ValidationError

STAGES = ("decode", "detect", "recognize")
DEMO = folder("ocr") / "demo.py"


def sample(name):
    import skimage

    return Path(skimage.__file__).parent / "data" / name


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with serving(file, "ocr", tmp_path_factory.mktemp("ocr")) as client:
        yield client


def test_the_readme_shows_what_is_printed(client):
    """All but the times, and what it leaves out."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    shown = re.search(r"```\n(page\.png: .*?)```", readme, re.DOTALL).group(1).splitlines()
    printed = run_client("ocr", client).stdout.splitlines()
    said = [line for line in shown if line.strip() not in ("", "...") and " ms" not in line]
    assert len(said) >= 4
    assert [line for line in said if line not in printed] == []


def test_a_page_is_read_over_http(client):
    response = client.post("/inference", sample("page.png").read_bytes())
    lines = response.json()["lines"]
    assert lines[0]["text"] == "Region-based segmentation"
    words = " ".join(line["text"] for line in lines).split()
    assert {"markers", "coins", "background.", "unambiguously", "histogram"} <= set(words)
    assert all(0.9 < line["score"] <= 1 and len(line["box"]) == 4 for line in lines)
    assert set(response.timings) >= {*STAGES, *(f"{stage}-queue" for stage in STAGES)}
    assert response.timings["detect"] > response.timings["decode"] > 0
    assert response.request_id


def test_a_jpeg_is_read_as_well(client):
    import io

    from PIL import Image

    jpeg = io.BytesIO()
    Image.open(sample("page.png")).convert("RGB").save(jpeg, "JPEG", quality=95)
    lines = client.post("/inference", jpeg.getvalue()).json()["lines"]
    words = " ".join(line["text"] for line in lines).split()
    assert {"segmentation", "markers", "coins", "histogram"} <= set(words)


def test_its_client_prints_lines_scores_boxes_and_timings(client):
    ran = run_client("ocr", client)
    assert ran.returncode == 0, ran.stderr
    assert "page.png: 7 lines" in ran.stdout
    assert re.search(r"0\.9\d+  the markers are found .* \[\d+,\d+ \d+,\d+", ran.stdout)
    assert "YAMAHA" in ran.stdout
    assert re.search(r"detect \d+\.\d ms", ran.stdout)


def test_no_image_and_too_large_an_image_are_the_clients_fault(client):
    with pytest.raises(DecodingError, match="no image") as caught:
        client.post("/inference", b"this is a letter").raise_for_status()
    assert (caught.value.status, caught.value.stage) == (400, "decode")
    header = b"\x00\x00\x00\rIHDR" + b"\x00\x00\x75\x30" * 2 + b"\x08\x00\x00\x00\x00"
    png = b"\x89PNG\r\n\x1a\n" + header + b"\x00\x00\x00\x00" + b"\x00\x00\x00\x00IEND\xaeB`\x82"
    with pytest.raises((ValidationError, DecodingError)):
        client.post("/inference", png).raise_for_status()


def test_images_go_straight_from_stage_to_stage(client):
    client.post("/inference", sample("page.png").read_bytes()).raise_for_status()
    assert hub_hops(client) == 0


def test_the_script_gives_pages_the_time_that_they_take(tmp_path):
    page = sample("page.png").read_bytes()

    def read(url):
        with Client(url, timeout=PATIENCE) as client:
            return client.post("/inference", page)

    with serving(script, "ocr", tmp_path) as client, ThreadPoolExecutor() as pool:
        # Together they take longer than a request has unless the script says otherwise.
        for answer in pool.map(read, [client.url] * 3):
            answer.raise_for_status()
            assert answer.json()["lines"][0]["text"] == "Region-based segmentation"
        assert hub_hops(client) == 0


def run_demo(*arguments):
    command = [sys.executable, DEMO, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_the_demo_shows_its_images_and_ends():
    ran = run_demo("--once", "--port", str(free_port()))
    assert ran.returncode == 0, ran.stderr
    assert "Region-based segmentation" in ran.stdout
    assert "YAMAHA" in ran.stdout
    assert re.search(r"decode-queue .*recognize \d+\.\d ms", ran.stdout)


def test_the_demo_reads_another_image(tmp_path):
    picture = tmp_path / "moon.png"
    picture.write_bytes(sample("moon.png").read_bytes())
    ran = run_demo("--once", "--port", str(free_port()), "--image", str(picture))
    assert ran.returncode == 0, ran.stderr
    assert "moon.png: 0 lines" in ran.stdout


def test_the_demo_stays_until_ctrl_c():
    port = free_port()
    demo = subprocess.Popen(
        [sys.executable, DEMO, "--port", str(port), "--image", sample("page.png")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        shown = read_until(demo.stdout, b"Ctrl-C ends it.")
        curl = next(line for line in shown.decode().splitlines() if "curl" in line)
        asked = subprocess.run(shlex.split(curl), capture_output=True, timeout=60, check=True)
        assert b"Region-based segmentation" in asked.stdout
        demo.send_signal(signal.SIGINT)
        assert demo.wait(PATIENCE) == 0
    finally:
        demo.kill()
        demo.communicate()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass


def read_until(pipe, end):
    shown = b""
    while end not in shown:
        assert select.select([pipe], [], [], PATIENCE)[0], shown.decode()
        some = os.read(pipe.fileno(), 65536)
        assert some, f"the demo ended early:\n{shown.decode()}"
        shown += some
    return shown


def test_the_demo_says_that_its_port_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ran = run_demo("--once", "--port", str(port))
    assert ran.returncode == 1
    assert f"port {port}: Address already in use; choose another with --port" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_demo_says_that_there_is_no_such_image():
    ran = run_demo("--once", "--image", "nowhere.png")
    assert ran.returncode == 1
    assert ran.stderr == "error: there is no image nowhere.png\n"
