"""The flags of a script: mosec's names and units, and nothing of the user's."""

import pytest

from mesh.config import flags
from mesh.config.flags import ALL_STAGES, merge_http, parse_flags
from mesh.config.schema import entries
from mesh.config.settings import GatewaySettings, MeshSettings, StageSettings


def test_units_are_those_of_mosec() -> None:
    line = "--timeout 5000 --capacity 9 --max-request-size 2048 --wait 2.5 --namespace shop"
    read = parse_flags([*line.split(), "--log-level=error", "--access-log", "--path", "/x"])
    assert read.values == {
        ("gateway", "timeout"): (5.0, "--timeout"),
        ("gateway", "capacity"): (9, "--capacity"),
        ("gateway", "max_body"): (2048, "--max-request-size"),
        ("gateway", "namespace"): ("shop", "--namespace"),
        ("gateway", "access_log"): (True, "--access-log"),
        ("", "log_level"): ("error", "--log-level"),
    }
    assert (read.wait, read.path) == (2.5, "/x")


def test_nothing_said_nothing_set() -> None:
    read = parse_flags([])
    assert (read.values, read.wait, read.warnings) == ({}, 10.0, [])
    assert merge_http("127.0.0.1:8000", read) == "127.0.0.1:8000"


def test_debug_is_a_log_level_and_shows_clients_what_workers_raise() -> None:
    assert parse_flags(["--debug"]).values == {
        ("", "log_level"): ("debug", "--debug"),
        ("gateway", "debug"): (True, "--debug"),
    }


def test_address_and_port_are_halves_of_one_setting() -> None:
    assert merge_http("0.0.0.0:80", parse_flags(["--port", "0"])) == "0.0.0.0:0"
    assert merge_http("0.0.0.0:80", parse_flags(["--address", "::1"])) == "[::1]:80"
    assert merge_http("[::1]:80", parse_flags([])) == "[::1]:80"


def test_the_users_own_arguments_are_left_alone() -> None:
    read = parse_flags(["train", "-h", "--epochs", "3", "--tim", "1", "--prot=80", "-c"])
    assert read.values == {}
    assert read.warnings == ["--prot is none of ours and is left alone; did you mean --port?"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "http"], "must be a port, 0 to 65535"),
        (["--port", "70000"], "must be a port"),
        (["--timeout", "3s"], "argument --timeout: must be a number of ms, not '3s'"),
        (["--timeout", "0"], "must be at least 1ms, not '0'"),
        (["--timeout", "-1"], "must be at least 1ms, not '-1'"),
        (["--timeout", "nan"], "must be at least 1ms, not 'nan'"),
        (["--timeout"], "expected one argument"),
        (["--capacity", "0"], "must be at least 1"),
        (["--capacity", "1.5"], "must be a whole number of requests, not '1.5'"),
        (["--capacity", "inf"], "must be a whole number of requests"),
        (["--drain-grace", "5"], "'5' needs a unit, such as '10ms'"),
        (["--start-timeout", "0s"], "must be at least 1ms"),
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
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


SETTINGS = [
    *((f"--{key}".replace("_", "-"), key) for key in entries(StageSettings)),
    *((f"--{key}".replace("_", "-"), key) for key in entries(GatewaySettings)),
    *((f"--{key}".replace("_", "-"), key) for key in entries(MeshSettings)),
]


@pytest.mark.parametrize(("flag", "key"), SETTINGS)
def test_a_flag_with_a_settings_name_works_or_is_refused_or_is_anybodys(
    flag: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """None of them is passed over in silence."""
    if flag.removeprefix("--") in flags._ANYBODYS:
        assert parse_flags([f"{flag}=x"]).values == {}
        return
    if flag in flags._parser().format_usage():
        return
    with pytest.raises(SystemExit) as caught:
        parse_flags([f"{flag}=x"])
    assert caught.value.code == 2
    assert f"{flag} sets nothing; " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--replicas", "--replicas sets nothing; give it to append_worker, as num"),
        ("--max_batch_size=8", "--max_batch_size sets nothing; give it to append_worker"),
        ("--kill-grace", "set the variable MESH_STAGES_NAME_KILL_GRACE"),
        ("--keys", "set the variable MESH_GATEWAY_KEYS"),
        ("--gateways", "set the variable MESH_GATEWAYS"),
        ("--max-body", "use --max-request-size, in bytes"),
        ("--log_level", "--log_level is written --log-level"),
    ],
)
def test_what_is_meant_for_us_and_would_do_nothing_is_refused(
    argument: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_flags([argument])
    assert said in capsys.readouterr().err
    assert parse_flags(["--", argument]).values == {}


def test_every_flag_of_mosec_is_known() -> None:
    line = (
        "--path /x --capacity 9 --timeout 5000 --wait 3 --address ::1 --port 80 --namespace shop "
        "--debug --log-level info --dry-run --compression --max-request-size 2048"
    )
    read = parse_flags(line.split())
    assert (read.dry_run, read.path, read.wait, read.address, read.port) == (
        *(True, "/x", 3.0, "::1", 80),
    )
    assert ("gateway", "compression") in read.values
    assert read.warnings == []


def test_what_holds_for_every_stage_is_no_table() -> None:
    line = "--start-timeout 5min --drain-grace 20s --restart-grace 1s --max-attempts 2"
    assert parse_flags([*line.split(), "--capacity-bytes", "1GiB"]).values == {
        (ALL_STAGES, "start_timeout"): (300.0, "--start-timeout"),
        ("gateway", "drain_grace"): (20.0, "--drain-grace"),
        ("gateway", "restart_grace"): (1.0, "--restart-grace"),
        ("gateway", "max_attempts"): (2, "--max-attempts"),
        ("gateway", "capacity_bytes"): (2**30, "--capacity-bytes"),
    }


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
        ("crit", "critical"),
        ("NOTSET", "debug"),
        ("0", "debug"),
        ("10", "debug"),
        ("20", "info"),
        ("30", "warning"),
        ("40", "error"),
        ("50", "critical"),
    ],
)
def test_levels_are_taken_as_people_write_them(written: str, level: str) -> None:
    assert parse_flags(["--log-level", written]).values["", "log_level"][0] == level


@pytest.mark.parametrize("line", ["--debug --log-level info", "--log-level INFO --debug"])
def test_a_level_that_is_named_wins_over_that_of_debug(line: str) -> None:
    values = parse_flags(line.split()).values
    assert values["", "log_level"] == ("info", "--log-level")
    assert values["gateway", "debug"] == (True, "--debug")


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
    assert "construction may take (default 120s)" in shown
    assert "(default None)" not in shown
