"""The flags of a script: mosec's names and units, and nothing of the user's."""

import pytest

from mesh.flags import merge_http, parse_flags


def test_units_are_those_of_mosec() -> None:
    line = "--timeout 5000 --capacity 9 --max-request-size 2048 --wait 2.5 --namespace shop"
    flags = parse_flags([*line.split(), "--log-level=error", "--access-log", "--path", "/x"])
    assert flags.values == {
        ("gateway", "timeout"): (5.0, "--timeout"),
        ("gateway", "capacity"): (9, "--capacity"),
        ("gateway", "max_body"): (2048, "--max-request-size"),
        ("gateway", "namespace"): ("shop", "--namespace"),
        ("gateway", "access_log"): (True, "--access-log"),
        ("", "log_level"): ("error", "--log-level"),
    }
    assert (flags.wait, flags.path) == (2.5, "/x")


def test_nothing_said_nothing_set() -> None:
    flags = parse_flags([])
    assert (flags.values, flags.wait, flags.warnings) == ({}, 10.0, [])
    assert merge_http("127.0.0.1:8000", flags) == "127.0.0.1:8000"


def test_debug_is_a_log_level() -> None:
    assert parse_flags(["--debug"]).values == {("", "log_level"): ("debug", "--debug")}


def test_address_and_port_are_halves_of_one_setting() -> None:
    assert merge_http("0.0.0.0:80", parse_flags(["--port", "0"])) == "0.0.0.0:0"
    assert merge_http("0.0.0.0:80", parse_flags(["--address", "::1"])) == "[::1]:80"
    assert merge_http("[::1]:80", parse_flags([])) == "[::1]:80"


def test_the_users_own_arguments_are_left_alone() -> None:
    flags = parse_flags(["train", "-h", "--epochs", "3", "--tim", "1", "--prot=80", "-c"])
    assert flags.values == {}
    assert flags.warnings == ["--prot is none of ours and is left alone; did you mean --port?"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "http"], "must be a port, 0 to 65535"),
        (["--port", "70000"], "must be a port"),
        (["--timeout", "3s"], "could not convert"),
        (["--timeout", "0"], "must be at least 1ms"),
        (["--capacity", "0"], "must be at least 1"),
        (["--wait", "-1"], "must be a number of milliseconds"),
        (["--wait", "soon"], "must be a number of milliseconds"),
        (["--log-level", "loud"], "must be one of debug, info"),
    ],
)
def test_wrong_values_end_the_script(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_flags(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "level"),
    [
        ("INFO", "info"),
        ("Warning", "warning"),
        ("WARN", "warning"),
        ("err", "error"),
        ("CRITICAL", "critical"),
        ("fatal", "critical"),
        ("trace", "debug"),
    ],
)
def test_levels_are_taken_as_people_write_them(written: str, level: str) -> None:
    assert parse_flags(["--log-level", written]).values["", "log_level"][0] == level


def test_help_lists_levels_and_formats(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_flags(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "debug, info, warning, error, critical (default info)" in shown
    assert "--log-format" in shown
    assert "text on a terminal, else json (default auto)" in shown


def test_a_wrong_format_is_told_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_flags(["--log-format", "xml"])
    assert caught.value.code == 2
    assert "must be one of auto, text, json, not 'xml'" in capsys.readouterr().err


def test_help_lists_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_flags(["--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for flag in "port address timeout capacity max-request-size log-level debug".split():
        assert f"--{flag} " in shown
    for flag in "namespace processes wait path access-log help".split():
        assert f"--{flag}" in shown
    assert "in ms (default 3000)" in shown
