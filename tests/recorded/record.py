"""Writes down how this release says every message: `python tests/recorded/record.py NAME`.

Run it for each release that adds a field or a message, under a new name. A file that is there is
never written again: who runs an older release beside this one sends just these bytes.
`tests/unit/mesh/test_recorded_bytes.py` reads all of them.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from mesh.protocol import messages as m
from mesh.protocol.messages import Header, Message, Type
from mesh.protocol.wire import decode, encode, seal

FOLDER = Path(__file__).parent
NOW = 1000.0
PATH = (("detect", "5f3c"), ("embed", "5f3c"))


def plain(value: Any) -> Any:
    """The value in what JSON knows. Fields go by their order, as on the wire: names may change."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"fields": [plain(getattr(value, one.name)) for one in dataclasses.fields(value)]}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"fields": [plain(one) for one in value]}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return round(value, 3) if isinstance(value, float) else value


def samples() -> list[Message]:
    """A message of each type, with a value in each field; and what is often left out."""
    stage = m.StageFacts(
        "embed", "5f3c", 32, 1.5, 1 << 26, False, True, "text/plain", "{}", "2", "r"
    )
    meta = m.Meta("POST", "/inference", "a=1", (("accept", "*/*"),))
    lone = m.Task(7, 1, PATH[:1], 0, 1, NOW + 2, [b"x"], 1)
    full = m.Task(
        *(7, 2, PATH, 1, 2, NOW + 3.5, [b"x", bytes(20_000)], 20_001, 1, 1, "00-ab-cd-01"),
        *((5, 900), meta, "order-17"),
    )
    suspect = m.Task(7, 3, PATH, 0, 3, NOW + 1, [b"y"], 1, m.Flag.SOLO, group=5)
    load = m.Load(41, 3, 52_000)
    failure = m.Outcome(
        2, 1, m.OutcomeKind(2), 1, (5, 9), [b"trace"], "server_error", "it broke", 503
    )
    result = m.Outcome(
        3, 1, m.OutcomeKind.RESULT, 1, (5, 9), [b"{}"], "text/html", "", 201, (("a", "b"),)
    )
    rest = [m.HandoffNotice(4, 1, 1, 99)], [m.BatchStats("embed", 2, 10, 20, "size", 1, 2, 300, 4)]
    return [
        m.Hello(
            m.Role.REPLICA, 5, "mesh", (1,), 8, 3, "tcp://10.0.0.7:7001", stage, "h", 41, (7,), 40
        ),
        m.Hello(m.Role.SUPERVISOR, 5, "mesh", (1,)),
        m.Welcome(5, 1, m.Role.GATEWAY, 3, True, 1.5),
        m.Tasks([lone]),
        m.Tasks([lone, full]),
        m.Tasks([suspect]),
        m.Part(3, 100, 10, b"piece"),
        m.Credit(),
        m.Credit(load),
        m.Outcomes([m.Outcome(1, 1, m.OutcomeKind.RESULT, buffers=[b"x"])]),
        m.Outcomes([failure, result], *rest),
        m.Outcomes([failure], *rest, load=load),
        m.Death(99, "embed", 9, 0, [(7, 1), (7, 2)]),
        m.Submit(1, "/inference", 1500, 1, "00-ab-cd-01", [b"x"]),
        m.Answer(result),
        m.Cancel(7, [1, 2]),
        m.Peers(4, [m.Peer("tcp://10.0.0.7:7001", 99, m.Role.REPLICA, "embed", "5f3c")]),
        m.Ping(1, 2, 3, 4, 5, 6, (7,)),
        m.Ping(1, 2, 3, 4, 5, 6, (7,), load),
        m.Drain(12),
        m.Bye("stopping"),
        m.Who(),
        m.Err(11, "it could not be read"),
    ]


def record() -> list[dict[str, Any]]:
    """Each sample as bytes, and as this release reads them."""
    written = []
    for message in samples():
        encoded = encode(message, NOW)
        frames = seal(Header(encoded.type, 7, 8, 3, 2, 64, 1 << 20, 250), encoded)
        raw = [bytes(frame) for frame in frames]
        header, read = decode(raw, NOW)
        written.append(
            {
                "type": header.type.name,
                "frames": [frame.hex() for frame in raw],
                "header": plain(header),
                "message": plain(read),
            }
        )
    assert {Type[one["type"]] for one in written} == set(Type)
    return written


if __name__ == "__main__":
    with (FOLDER / f"{sys.argv[1]}.json").open("x") as file:
        json.dump(record(), file, indent=1)
        file.write("\n")
