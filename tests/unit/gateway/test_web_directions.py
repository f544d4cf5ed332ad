"""What a client is told that asked at the wrong place."""

from __future__ import annotations

import json

import pytest

from gateway.web import directions
from mesh.config.settings import PAGES

MANY = {f"/route-{number}": ("echo",) for number in range(33)}
ECHO = {"/inference": ("echo",)}


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/infrence", "/inference"),
        ("/Inference", "/inference"),
        ("/v1/inference", "/inference"),
        ("//inference", "/inference"),
        ("/healthz", "/health"),
        ("/metric", "/metrics"),
        ("/wp-login.php", None),
        ("/favicon.ico", None),
        ("", None),
    ],
)
def test_a_mistyped_path_is_recognized(path: str, meant: str | None) -> None:
    text = directions.not_found(path, ECHO, PAGES)
    assert text.endswith("; routes: /inference")
    assert (f"did you mean {meant}?" in text) if meant else ("mean" not in text)


def test_what_is_said_is_bounded_and_repeats_nothing() -> None:
    text = directions.not_found("/x\n" * 20_000, MANY, PAGES)
    assert text.endswith("/route-19 and 13 more")
    assert len(text) < 400
    assert "\n" not in text


def test_without_routes_it_says_so_plainly() -> None:
    assert directions.named([]) == "none"
    assert directions.no_inference_here("h", {}) == "inference is not at / but at a route: none"


@pytest.mark.parametrize(
    ("host", "path", "command"),
    [
        ("127.0.0.1:8000", "/a", "curl -d @request.json http://127.0.0.1:8000/a"),
        ("[::1]:80", "/a", "curl -d @request.json 'http://[::1]:80/a'"),
        ("$(rm -r .)", "/a;b", "curl -d @request.json 'http://HOST/a;b'"),
        ("x" * 101, "/a", "curl -d @request.json http://HOST/a"),
    ],
)
def test_a_command_can_be_pasted(host: str, path: str, command: str) -> None:
    assert directions.call(host, path) == command


def test_the_root_lists_all() -> None:
    assert directions.no_inference_here("h", MANY).endswith(
        "curl -d @request.json http://h/route-0"
    )
    text = directions.root_text("Meshline 1", ECHO, {"/health": "200"})
    assert text == (
        "Meshline 1\n\nRoutes (POST):\n  /inference  echo\n\nPages (GET):\n  /health     200\n"
    )
    found = json.loads(directions.root_json("1", ECHO, {"/health": "200"}))
    assert found == {
        "name": "meshline",
        "version": "1",
        "routes": {"/inference": ["echo"]},
        "pages": {"/health": "200"},
    }
