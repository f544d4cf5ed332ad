"""Where a user's class is found, as people write it and as a replica is handed it."""

import json
from dataclasses import asdict

from mesh.process.worker_source import WorkerSource


def test_a_source_is_shown_as_people_write_it() -> None:
    assert str(WorkerSource("Embed", module="a.b")) == "a.b:Embed"
    assert str(WorkerSource("Embed", file="/a/b.py")) == "/a/b.py:Embed"


def test_a_source_travels_as_json() -> None:
    source = WorkerSource("Embed", file="/a/service.py", sys_path=("/a",), argv=("x", "--y"))
    assert WorkerSource.from_json(json.loads(json.dumps(asdict(source)))) == source
