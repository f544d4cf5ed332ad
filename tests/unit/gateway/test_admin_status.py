"""What is shown of the processes that share a port."""

from __future__ import annotations

import json

from gateway.admin import status as picture
from gateway.requests.core import GatewayCore
from mesh.links.events import Identity
from mesh.links.links import Links
from mesh.protocol.messages import Role


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
    made.roster.routes = {}
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
