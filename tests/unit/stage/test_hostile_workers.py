"""Workers whose exceptions and results lie, empty what they were given, or raise when looked at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from test_runner import FIRST, Scripted, bodies, jsons, raising, runner, task

from mesh.errors import ClientError, ForwardTimeout, ServerError, ValidationError
from mesh.process.batch_record import SIZE, BatchRecord
from stage.runner import Runner


def emptied(then: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    def forward(items: list[Any]) -> Any:
        items.clear()
        return then(items)

    return forward


def boom(items: list[Any]) -> Any:
    raise ValueError("boom")


@pytest.mark.parametrize(
    "forward",
    [
        emptied(boom),
        emptied(lambda items: items),
        emptied(lambda items: ServerError("mine")),
        lambda items: [items.pop() for _ in (1, 2)] and boom(items),
        lambda items: items.extend(items) or boom(items),
    ],
)
def test_what_forward_does_to_its_list_costs_the_batch_and_no_more(forward: Any) -> None:
    assert bodies(runner(Scripted(forward)).run(jsons(1, 2, 3))) == ["server_error"] * 3


def test_a_list_of_results_that_shrinks_while_it_is_written_costs_nobody() -> None:
    class Shrinking(Scripted):
        def serialize(self, data: Any) -> bytes:
            self.results.clear()
            return b"%d" % data

        def forward(self, data: Any) -> Any:
            self.results = list(data)
            return self.results

    assert bodies(runner(Shrinking()).run(jsons(1, 2, 3))) == [1, 2, 3]


class Mute(ClientError):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Numbered(ValidationError):
    def __str__(self) -> Any:
        return 7


class Deep(ClientError):
    def __str__(self) -> str:
        return self.__str__()


class Faceless(ClientError):
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class Coded(ClientError):
    code = 422  # type: ignore[assignment]


class Secretive(ServerError):
    @property
    def code(self) -> str:  # type: ignore[override]
        raise RuntimeError("no code")


class Traceless(Exception):
    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no trace")

    def __repr__(self) -> str:
        raise SystemExit(3)

    __str__ = __repr__


class Causeless(Exception):
    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no cause")


class Nameless(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__", "__module__"):
            raise RuntimeError("no name")
        return super().__getattribute__(name)


class Unnamed(Exception, metaclass=Nameless):
    pass


@pytest.mark.parametrize("batching", [True, False])
@pytest.mark.parametrize("raised", [True, False])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Mute("x"), "bad_request"),
        (Numbered("x"), "validation_error"),
        (Deep("x"), "bad_request"),
        (Faceless("x"), "bad_request"),
        (Coded("x"), "bad_request"),
        (Secretive("x"), "server_error"),
        (Traceless("x"), "server_error"),
        (Causeless("x"), "server_error"),
        (Unnamed("x"), "server_error"),
        (GeneratorExit(), "server_error"),
        (asyncio.CancelledError(), "server_error"),
        (BaseExceptionGroup("several", [GeneratorExit()]), "server_error"),
    ],
    ids=map(str, range(12)),
)
def test_an_exception_that_cannot_be_looked_at_costs_its_batch(
    error: BaseException, code: str, raised: bool, batching: bool, caplog: pytest.LogCaptureFixture
) -> None:
    forward = raising(error) if raised else (lambda data: [error, error] if batching else error)
    outcomes = runner(Scripted(forward), batching=batching).run(jsons(1, 2))
    assert bodies(outcomes) == [code] * 2
    assert all(type(one.text) is str and one.text for one in outcomes)
    if code == "server_error":
        assert caplog.records


def test_what_is_meant_to_end_the_process_names_its_batch(caplog: pytest.LogCaptureFixture) -> None:
    for error in (SystemExit(3), KeyboardInterrupt()):
        batch_record = BatchRecord(bytearray(SIZE))
        one = Runner(
            Scripted(raising(error)),
            batching=True,
            log=logging.getLogger("test"),
            batch_record=batch_record,
        )
        with pytest.raises(type(error)):
            one.run(jsons(1, 2))
        assert len(batch_record.read().ids) == 2  # type: ignore[union-attr]
    assert "sys.exit(3)" in caplog.text
    assert "KeyboardInterrupt" in caplog.text


def test_a_batch_is_computed_until_its_outcomes_are_accounted_for() -> None:
    batch_record = BatchRecord(bytearray(SIZE))
    one = Runner(
        Scripted(), batching=True, log=logging.getLogger("test"), batch_record=batch_record
    )
    one.run(jsons(1, 2))
    assert batch_record.read() is not None
    one.clear()
    assert batch_record.read() is None


class Posing:
    """Says that it is a list, or whatever else."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    @property
    def __class__(self) -> Any:
        return self.kind


class Endless(list[int]):
    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


@pytest.mark.parametrize(
    "result",
    [Posing(list), Posing(np.ndarray), Endless(), np.array(5), MagicMock(spec=list)],
    ids=lambda one: type(one).__name__,
)
def test_results_that_only_look_like_a_list_cost_the_batch(result: Any) -> None:
    outcomes = runner(Scripted(lambda items: result)).run(jsons(1, 2))
    assert bodies(outcomes) == ["server_error"] * 2


@pytest.mark.parametrize("kind", [ValueError, ClientError, bytes, memoryview, type(None)])
def test_a_result_that_only_looks_like_something_fails_alone(kind: type) -> None:
    good, bad = runner(Scripted(lambda items: [1, Posing(kind)])).run(jsons(1, 2))
    assert bodies([good]) == [1]
    assert bad.code in ("encoding_error", "server_error")
    (mocked,) = runner(Scripted(lambda items: [MagicMock(spec=kind)])).run(jsons(1))
    assert mocked.code in ("encoding_error", "server_error")


class Longer(bytes):
    def __len__(self) -> int:
        return 1_000_000


@pytest.mark.parametrize("hops", [FIRST, FIRST[1:]], ids=["ipc", "body"])
def test_bytes_that_lie_about_their_length_are_sent_as_long_as_they_are(hops: Any) -> None:
    class Giving(Scripted):
        def serialize(self, data: Any) -> bytes:
            return Longer(b"ab")

        serialize_ipc = serialize

    for batching in (True, False):
        (outcome,) = runner(Giving(), batching=batching).run([task(b"[1]", hops=hops)])
        assert outcome.buffers == [b"ab"]
        assert [type(buffer) for buffer in outcome.buffers] == [bytes]


def test_a_message_of_megabytes_is_cut_and_says_so() -> None:
    (outcome,) = runner(Scripted(raising(ClientError("é" * 5_000_000)))).run(jsons(1))
    assert len(outcome.text.encode()) <= 4096
    assert outcome.text.endswith("(cut; it has 5,000,000 characters)")


def test_a_timeout_that_cannot_speak_is_a_timeout() -> None:
    class Silent(ForwardTimeout):
        def __str__(self) -> str:
            raise RuntimeError

    (outcome,) = runner(Scripted(raising(Silent()))).run(jsons(1))
    assert (outcome.code, type(outcome.text)) == ("forward_timeout", str)


def test_a_worker_that_does_not_let_itself_be_told_its_requests_costs_its_batch() -> None:
    class Closed(Scripted):
        @property
        def requests(self) -> Any:
            return ()

        def __setattr__(self, name: str, value: object) -> None:
            if name == "requests":
                raise AttributeError("closed")
            super().__setattr__(name, value)

    assert bodies(runner(Closed()).run(jsons(1, 2))) == ["server_error"] * 2
