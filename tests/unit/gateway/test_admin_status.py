"""What is shown of the processes that share a port."""

from __future__ import annotations

import json
import re
from pathlib import Path

from gateway.admin import status as picture
from gateway.requests.core import GatewayCore
from mesh.links.events import Identity
from mesh.links.links import Links
from mesh.links.session import Session
from mesh.protocol.messages import Role, StageFacts


def core() -> GatewayCore:
    identity = Identity(incarnation=0xABC, role=Role.GATEWAY, mesh="m", host="h", pid=12)
    return GatewayCore(Links(identity, lambda: 0.5), {"/i": (("embed", "r"),)}, 3, 0.0)


def test_a_row_says_who_it_is_and_whether_it_takes_requests() -> None:
    made = core()
    row = picture.row(made, 2, 1.0, is_open=True, draining=False)
    assert row == {
        "process": 2,
        "gateway": "0000000000000abc",
        "pid": 12,
        "in_flight": 0,
        "ready": False,
        "draining": False,
    }
    made.replicas.routes = {}
    made.queues.missing = False
    assert picture.row(made, 2, 1.0, is_open=True, draining=False)["ready"]
    assert not picture.row(made, 2, 1.0, is_open=False, draining=False)["ready"]
    assert not picture.row(made, 2, 1.0, is_open=True, draining=True)["ready"]


def test_rows_stand_in_order_and_tell_who_did_not_answer() -> None:
    own, other = {"process": 2, "pid": 12}, {"process": 3, "pid": 13}
    assert picture.rows(own, {1: None, 3: json.dumps(other).encode()}) == [
        {"process": 1, "ready": False, "answers": False},
        {"process": 2, "pid": 12, "answers": True},
        {"process": 3, "pid": 13, "answers": True},
    ]


def test_what_strangers_are_shown_names_no_host_and_no_process() -> None:
    whole = {
        "gateway": "0000000000000abc",
        "mesh": "m",
        "stages": {"embed": {"replicas": 1}},
        "replicas": [{"stage": "embed", "replica": "f", "host": "h", "pid": 7, "feed": "tcp://a"}],
        "processes": [{"process": 1, "gateway": "0000000000000abc", "pid": 8, "ready": True}],
    }
    assert picture.public(whole) == {
        "mesh": "m",
        "stages": {"embed": {"replicas": 1}},
        "replicas": [{"stage": "embed"}],
        "processes": [{"process": 1, "ready": True}],
    }


# --- docs/status.md ------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[3] / "docs" / "status.md").read_text()


def explained(heading: str, *, private: bool = False) -> set[str]:
    """The names in the first column of a section's table; those alone that strangers never see."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    mark = "•" if private else ""
    return {name for cell in cells for name in re.findall(rf"`(\w+)`(?: ?{mark})", cell)}


def shown() -> dict[str, list[str]]:
    """The names in each part of a status."""
    made = core()
    session = Session(1, 0xBEE, Role.REPLICA, 0)
    session.stage = StageFacts("embed", "r", 1, 1.0, 1)
    made.replicas.sessions[0xBEE] = session
    status = picture.status(made, 1.0)
    row = picture.row(made, 1, 1.0, is_open=True, draining=False)
    return {
        "The gateway": [
            *(name for name in status if name not in ("routes", "stages", "replicas")),
            "draining",
        ],
        "`stages`": list(status["stages"]["embed"]),
        "`replicas`": list(status["replicas"][0]),
        "`processes`": list(picture.rows(row, {})[0]),
    }


def test_the_page_explains_all_that_is_shown_and_nothing_else() -> None:
    assert {heading: explained(heading) for heading in shown()} == {
        heading: set(names) for heading, names in shown().items()
    }


def test_the_page_says_what_strangers_are_not_shown() -> None:
    for heading, names in shown().items():
        left_out = set(names) - picture.public(dict.fromkeys(names, ())).keys()
        assert explained(heading, private=True) == left_out, heading
