"""README.md: the services that it shows are run by its commands, and answer as it says."""

import contextlib
import re
import shlex
import socket
import subprocess
import sys

import pytest
from site_runs import MESH, ROOT, Site, running

PAGE = (ROOT / "README.md").read_text()
HELLO = ROOT / "examples" / "hello"


def section(title):
    text = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert text, f"README.md has no section {title!r}"
    return text


def block(language, title="Write a service"):
    return re.search(rf"```{language}\n(.*?)```", section(title), re.DOTALL).group(1)


def curls(title):
    """Each request that is shown, and what is said of the answer."""
    return re.findall(r"^(curl .+?) +# (.+)$", section(title), re.MULTILINE)


def answers(site, title="Write a service"):
    """What the requests that are shown are answered."""
    for command, said in curls(title):
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


def test_hello_world_is_what_the_example_has():
    code = block("python", "Hello, world")
    assert code.partition("\n")[2].strip() == (HELLO / "hello.py").read_text().strip()
    assert len([line for line in code.splitlines()[1:] if line.strip()]) <= 10


def test_hello_world(tmp_path):
    assert "python hello.py" in section("Hello, world")
    (tmp_path / "hello.py").write_text(block("python", "Hello, world"))
    with running(tmp_path, "", "", command=[sys.executable, "hello.py"]) as site:
        ((said, status, body),) = answers(site, "Hello, world")
        assert (status, body) == ("200", said)


def test_make_hello_prints_the_answer_and_ends(tmp_path):
    """What `make hello` runs once everything is installed."""
    makefile = (ROOT / "Makefile").read_text()
    assert "make hello" in section("Hello, world")
    assert "$(BIN)/python examples/hello/demo.py" in makefile
    ((_, said),) = curls("Hello, world")
    with contextlib.closing(Site(tmp_path)) as site:
        done = site.run(sys.executable, HELLO / "demo.py", "--port", site.port)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
        site.assert_nothing_is_left()


def test_make_hello_on_a_port_that_is_taken(tmp_path):
    """Whatever listens there is not asked in the service's place."""
    with contextlib.closing(Site(tmp_path)) as site:
        with socket.create_server(("127.0.0.1", site.port)) as listener:
            done = site.run(sys.executable, HELLO / "demo.py", "--port", site.port)
            listener.settimeout(0)
            with pytest.raises(BlockingIOError):
                listener.accept()
        assert done.returncode == 1
        assert f"port {site.port}: Address already in use; choose another" in done.stderr


def test_the_script(tmp_path):
    command = [sys.executable, "service.py"]
    assert "`python service.py --port 8000`" in section("Write a service")
    with running(tmp_path, block("python"), block("toml"), command=command) as site:
        assert_as_said(site)
        assert len(site.replicas()) == 2


def test_the_file(tmp_path):
    (tmp_path / "hello.json").write_text('"hello"')
    with running(tmp_path, block("python"), block("toml")) as site:
        assert_as_said(site)
        for words in (["check", "--import"], ["status"], ["call", "/inference", "hello.json"]):
            assert re.search(rf"`mesh {words[0]}[ `]", section("Write a service"))
            url = [] if words[0] == "check" else ["--url", site.url]
            done = site.run(MESH, *words, *url)
            assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "5"


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\]\(([\w/.-]+)\)", PAGE))))
def test_what_it_links_to_is_there(name):
    assert (ROOT / name).exists()


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_it_lists_every_document(name):
    assert f"](docs/{name})" in section("Documents")
