"""mesh.toml and the environment: what is taken, what is refused, and which line is named."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.config.settings import MeshSettings
from mesh.config.sources import Draft, find_line
from mesh.errors import SettingsError

WHOLE = """\
name = "shop"
gateways = ["tcp://g:7000"]

[gateway]  # the door
http = "127.0.0.1:9000"
timeout = "500ms"
insecure = true
[stages.read]
worker = "service:Read"

[stages.embed-it]
worker = "service:Embed"
replicas = 2
max_wait_time = "10ms"
env = [{ CUDA = "0" }, { CUDA = "1" }]

[routes]
"/inference" = ["read", "embed-it"]
"""


def drafted(text: str) -> Draft:
    draft = Draft(file="mesh.toml")
    draft.add_toml(text)
    return draft


def read(text: str) -> MeshSettings:
    return drafted(text).build()


def test_a_whole_file() -> None:
    mesh = read(WHOLE)
    assert (mesh.name, mesh.gateways) == ("shop", ("tcp://g:7000",))
    assert (mesh.gateway.port, mesh.gateway.timeout) == (9000, 0.5)
    embed = mesh.stages["embed-it"]
    assert (embed.replicas, embed.max_wait_time, embed.env[1]) == (2, 0.01, {"CUDA": "1"})
    assert mesh.routes == {"/inference": ("read", "embed-it")}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "shop"', "name = ", "mesh.toml: not valid TOML: .*line 1"),
        ('name = "shop"', 'title = "x"', "line 1: title: unknown setting"),
        ('name = "shop"', 'gatewey = "x"', "line 1: gatewey: unknown .* did you mean 'gateway'"),
        ('name = "shop"', 'stage = "x"', "line 1: stage: unknown .* did you mean 'stages'"),
        ('name = "shop"', "timeout = 1", r"line 1: timeout: does not .* but in \[gateway\]"),
        ('name = "shop"', "replicas = 1", r"line 1: replicas: .* but in \[stages.NAME\]"),
        ("timeout", "log_level", r"line 6: \[gateway\] log_level: .* at the top of the file"),
        ("timeout", "timeuot", r"line 6: \[gateway\] timeuot: .* did you mean 'timeout'"),
        ('"500ms"', "500", r"line 6: \[gateway\] timeout: needs a unit"),
        ("replicas = 2", "replicas = 3", r"line 15: \[stages.embed-it\] env: has 2 tables for 3"),
        ('"embed-it"]', '"embed"]', r"line 18: \[routes\] /inference: there is no stage 'embed'"),
        ('["read", "embed-it"]', '"read"', r"line 18: .* list of stage names"),
        ('["read", "embed-it"]', "[1]", r"line 18: .* list of stage names"),
        ('worker = "service:Read"', "", r"line 8: \[stages.read\] worker: is missing"),
        ("[stages.read]", '[stages."a b"]', r"line 8: \[stages.a b\]: a stage's name"),
        ("[routes]\n", "[x]\n", "line 17: x: unknown setting"),
    ],
)
def test_mistakes_are_named_with_their_place(old: str, new: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read(WHOLE.replace(old, new, 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "mesh.toml: describes no stage"),
        ("gateway = 1", r"line 1: gateway: must be a table \[gateway\]"),
        ("stages.x = 1", r"line 1: \[stages\] x: must be a table \[stages.x\], not 1"),
        ('[stages.x]\nworker = "m:C"', r'there are no \[routes\]; .* "/inference" = \["x"\]'),
    ],
)
def test_files_that_say_too_little(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read(text)


def test_a_request_has_time_for_its_stages_unless_somebody_says_how_long() -> None:
    text = '[stages.a]\nworker = "m:A"\ntimeout = "20s"\n[routes]\n"/x" = ["a"]\n'
    draft = Draft("mesh.toml")
    draft.add_toml(text)
    assert draft.build().gateway.timeout == 40.0
    draft.add_environment({"MESH_GATEWAY_TIMEOUT": "25s"})
    assert draft.build().gateway.timeout == 25.0


def test_variables_of_mosec_are_answered_with_ours() -> None:
    said = Draft().add_environment({"MOSEC_TIMEOUT": "5000", "MOSEC_X": "1", "MOSEC": "1"})
    assert said == [
        "the variable MOSEC_TIMEOUT is mosec's and is not read here; set MESH_GATEWAY_TIMEOUT, "
        "such as 3000ms",
        "the variable MOSEC_X is mosec's and is not read here",
    ]


def test_the_environment_wins_over_the_file() -> None:
    draft = drafted(WHOLE)
    environment = {
        "MESH_GATEWAY_HTTP": "0.0.0.0:80",
        "MESH_GATEWAYS": "tcp://a:1,tcp://b:2",
        "MESH_STAGES_EMBED_IT_MAX_BATCH_SIZE": "8",
        "MESH_LOG_LEVEL": "debug",
        "HOME": "/root",
    }
    assert draft.add_environment(environment) == []
    mesh = draft.build()
    assert (mesh.gateway.host, mesh.log_level) == ("0.0.0.0", "debug")
    assert mesh.gateways == ("tcp://a:1", "tcp://b:2")
    assert mesh.stages["embed-it"].max_batch_size == 8


def test_variables_that_are_not_ours_get_a_warning() -> None:
    draft = drafted(WHOLE)
    warnings = draft.add_environment(
        {
            "MESH_GATEWAY_PORT": "tcp://10.0.0.1:8000",
            "MESH_GATEWAY_PORT_8000_TCP_ADDR": "10.0.0.1",
            "MESH_GATEWAY_SERVICE_HOST": "10.0.0.1",
            "MESH_GATEWAY_TIMEOUT": "tcp://10.0.0.1:1",
            "MESH_GATEWAY_HTPP": "0.0.0.0:80",
            "MESH_ZZZ": "1",
        }
    )
    assert warnings == [
        "the variable MESH_GATEWAY_HTPP names no setting and is ignored; "
        "did you mean MESH_GATEWAY_HTTP?",
        "the variable MESH_ZZZ names no setting and is ignored",
        "ignored, as Kubernetes put them there: MESH_GATEWAY_PORT, "
        "MESH_GATEWAY_PORT_8000_TCP_ADDR, MESH_GATEWAY_SERVICE_HOST, MESH_GATEWAY_TIMEOUT",
    ]
    assert draft.build() == read(WHOLE)


def test_an_address_from_the_environment_is_no_accident() -> None:
    draft = drafted(WHOLE)
    assert draft.add_environment({"MESH_GATEWAY_BIND": "tcp://127.0.0.1:7001"}) == []
    assert draft.build().gateway.bind == "tcp://127.0.0.1:7001"


def test_mistakes_elsewhere_name_the_variable_or_flag() -> None:
    with pytest.raises(SettingsError, match="MESH_GATEWAY_CAPACITY: must be a whole number"):
        drafted(WHOLE).add_environment({"MESH_GATEWAY_CAPACITY": "many"})
    draft = drafted(WHOLE)
    draft.add_text("gateway", "insecure", "false", "--no-insecure")
    draft.add_text("gateway", "bind", "tcp://*:1", "--bind")
    with pytest.raises(SettingsError, match=r"^--bind: \[gateway\] bind: tcp://\*:1 can be"):
        draft.build()


def test_without_a_file_the_setting_alone_is_named() -> None:
    draft = Draft()
    table = draft.add_stage("x")
    draft.add(table, "worker", "m:C", "append_worker(C)")
    draft.routes["/ping"] = ("x",)
    with pytest.raises(SettingsError, match=r"^\[routes\] /ping: this path is the gateway's"):
        draft.build()


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ('[gateway]\n  http = "x"', ("gateway", "http"), 2),
        ('gateway.http = "x"', ("gateway", "http"), 1),
        ('[ gateway ] # x\n\n"http"="x"', ("gateway", "http"), 3),
        ("[routes]\n'/a' = []\n\"/b\" = []", ("routes", "/b"), 3),
        ('[a]\nhttp = 1\n[gateway]\nhttp = "x"', ("gateway", "http"), 4),
        ("[gateway]\nbind = 1", ("gateway", "http"), 1),
        ('name = "x"\n[[list]]\nx = 1', ("list", "x"), 3),
        ('# http = 1\nhttp\n["a b".c]', ("a b", "c"), 3),
        ("[bad header!]\nx = 1", ("x",), 2),
        ("x = 1", ("y",), None),
        ('"" = 1', ("",), 1),
    ],
)
def test_lines_are_found(text: str, path: tuple[str, ...], line: int | None) -> None:
    assert find_line(text, path) == line


@given(st.text(alphabet="ab[]\".=\n #'\\", max_size=60))
def test_the_scan_takes_any_text(text: str) -> None:
    found: Any = find_line(text, ("a", "b"))
    assert found is None or 1 <= found <= text.count("\n") + 1
