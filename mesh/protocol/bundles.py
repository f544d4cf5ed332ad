"""Bundles of tasks and of outcomes as bytes: the hot part of the wire. Pure.

A bundle is written in columns. The numbers of every row lie in one packed string, which one
C call reads into tuples whose types and ranges need no further check; only what varies in form
(payload, trace, particulars, the client's own id) is a msgpack value per row, and that is a plain
byte string in the usual case of one small buffer and nothing else.

A later release may add a field at the end of each list and of each packed row: whoever does not
know it skips it (`mesh/protocol/rows.py`).

Each function here runs once for a lone request, so what could be a helper of one line stands in
the loop, and single rows and single lists of hops have a branch of their own.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from mesh.protocol.fields import (
    INLINE_BYTES,
    MAX_BODY_BYTES,
    MAX_LIST_BYTES,
    MAX_U64,
    MISFITS,
    Body,
    Frame,
    check_all_used,
    check_size,
    listed,
    pack,
    pack_buffers,
    pairs,
    payload_bytes,
    text,
    unpack_buffers,
    unpack_list,
    words,
)
from mesh.protocol.messages import Hops, Meta, Outcome, OutcomeKind, Outcomes, Task, Tasks
from mesh.protocol.rows import (
    OUTCOME_ROW,
    TASK_ROW,
    pack_load,
    pack_notes,
    pack_stats,
    read_load,
    read_notes,
    read_rows,
    read_stats,
)

MAX_BUDGET = 2**32 - 1
MAX_HOPS = 64
MAX_TIMINGS = 2**8 - 1
# What a client may call its request; the gateway lets no other id pass (`gateway/web/headers.py`).
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_KINDS = {int(kind): kind for kind in OutcomeKind}
# The numbers of a row, and the highest that its column holds.
_HIGHEST = {
    **{"number": MAX_U64, "owner": MAX_U64, "index": 2**32 - 1, "hop": 2**16 - 1},
    **{"attempt": 2**16 - 1, "status": 2**16 - 1, "flags": 255, "priority": 255},
    "group": 2**32 - 1,
}

# Paths that were written and read before. Few are in use, and each bundle names one; a peer that
# makes up many only makes us forget.
_written_hops: dict[Hops, bytes] = {}
_known_hops: dict[bytes, Hops] = {}
_MAX_KNOWN_PATHS = 256

__all__ = ["pack_outcomes", "pack_tasks", "read_outcomes", "read_tasks", "refusal"]


def pack_tasks(message: Tasks, now: float) -> tuple[bytes, list[Frame]]:
    """Write a bundle of tasks.

    Args:
        message: at least one task.
        now: local monotonic time in seconds; deadlines become budgets by it.

    Returns:
        The body and the payload frames.

    Raises:
        One of `MISFITS`: a task breaks a limit; `refusal` says which one and why.
    """
    hop_lists: dict[Hops, int] = {}
    rows: list[bytes] = []
    times: list[int] = []
    varied: list[Any] = []
    frames: list[Frame] = []
    pack_row, most = TASK_ROW.packing.pack, float(MAX_BUDGET)
    hops = None  # of the row before: most bundles have one
    for task in message.tasks:
        if task.hops is not hops:
            hops = task.hops
            hops_index = hop_lists.setdefault(hops, len(hop_lists))
        budget = (task.deadline - now) * 1000
        timings = task.timings
        if timings:
            times += timings
        rows.append(
            pack_row(
                task.owner,
                task.number,
                int(budget) if 0.0 <= budget <= most else _clamp(budget),
                hops_index,
                task.hop,
                task.attempt,
                len(timings),
                task.flags,
                task.priority,
                task.group,
            )
        )
        buffers = task.buffers
        if (
            len(buffers) == 1
            and type(payload := buffers[0]) is bytes
            and len(payload) <= INLINE_BYTES
            and task.trace is None
            and task.request_id is None
            and task.meta is None
        ):
            varied.append(payload)
        else:
            varied.append(_vary_task(task, frames))
    fixed = rows[0] if len(rows) == 1 else b"".join(rows)
    if len(hop_lists) == 1:
        (first,) = hop_lists
        written = [_written_hops.get(first) or _write_hops(first)]
    else:
        written = [_written_hops.get(each) or _write_hops(each) for each in hop_lists]
    if len(varied) > MAX_LIST_BYTES:
        listed(varied)
    return pack([fixed, _u32s(times) if times else b"", written, varied]), frames


def _write_hops(hops: Hops) -> bytes:
    """Hops as one string of bytes, which both ends recognize as a whole the next time."""
    written: bytes = pack(_checked_hops(hops))
    _remember(_written_hops, hops, written)
    return written


def _clamp(budget: float) -> int:
    return MAX_BUDGET if budget > 0 else 0


def _vary_task(task: Task, frames: list[Frame]) -> list[Any]:
    described, more = pack_buffers(task.buffers)
    frames += more
    meta = task.meta
    particulars = None
    if meta is not None:
        _read_meta(meta.method, meta.path, meta.query, meta.headers)  # only to have them checked
        particulars = [meta.method, meta.path, meta.query, meta.headers]
    varied = [_read_trace(task.trace), particulars, described]
    if task.request_id is not None:
        varied.append(_checked_id(task.request_id))
    return varied


def _u32s(numbers: list[int]) -> bytes:
    try:
        return struct.pack(f"!{len(numbers)}I", *numbers)
    except struct.error:  # 71 minutes in microseconds: say "at least that long"
        return struct.pack(f"!{len(numbers)}I", *[min(max(n, 0), MAX_BUDGET) for n in numbers])


def refusal(row: Task | Outcome) -> str:
    """Why this task or outcome can not travel even alone, or "".

    For the slow path: a bundle that `encode` refuses is retransmitted without the rows at fault.

    Example:
        >>> task = Task(1, 1, (("embed", "1"),), 0, 1, 0.0, [b"x"] * 300, 300)
        >>> refusal(task)
        'its payload has 300 buffers, over the limit of 256'
    """
    try:
        if isinstance(row, Task):
            check_size(*pack_tasks(Tasks([row]), 0.0))
        else:
            check_size(*pack_outcomes(Outcomes([row])))
    except MISFITS as error:
        return _unfit_number(row) or str(error)
    return ""


def _unfit_number(row: Task | Outcome) -> str:
    """Which number does not fit into its column: the packing's own error does not say."""
    for name, highest in _HIGHEST.items():
        value = getattr(row, name, 0)
        if type(value) is not int or not 0 <= value <= highest:
            return f"its {name} is {value!r:.40}, not a number within 0 to {highest}"
    if len(row.timings) > MAX_TIMINGS:
        return f"it has {len(row.timings)} timings, over the limit of {MAX_TIMINGS}"
    return ""


def read_tasks(body: Body, frames: Sequence[Frame], now: float) -> Tasks:
    """Read a bundle of tasks; `now` makes deadlines of budgets.

    Raises:
        ValueError, TypeError, IndexError, struct.error: the body is no such bundle.
    """
    fixed, times, written, varied = body[:4]
    if len(written) == 1:
        hop_lists = [_known_hops.get(written[0]) or _read_hops(written[0])]
    else:
        hop_lists = [_known_hops.get(hops) or _read_hops(hops) for hops in written]
    spans = struct.unpack(f"!{len(times) // 4}I", times) if times != b"" else ()
    done = 0  # of the spans
    rest = iter(frames)
    tasks = []
    plain = True
    buffers: list[Any]
    for row, item in zip(read_rows(TASK_ROW, fixed, len(varied)), varied, strict=True):
        owner, number, budget, hops, hop, attempt, count, flags, priority, group = row
        if type(item) is bytes:
            trace, meta, request_id, buffers, nbytes = None, None, None, [item], len(item)
        else:
            plain = False
            trace, meta, request_id, buffers = _read_varied(rest, *item)
            nbytes = payload_bytes(buffers)
        first, done = done, done + count
        tasks.append(
            Task(
                owner,
                number,
                hop_lists[hops],
                hop,
                attempt,
                now + budget / 1000,
                buffers,
                nbytes,
                flags,
                priority,
                trace,
                spans[first:done],
                meta,
                request_id,
                group=group,
            )
        )
    if done > len(spans):
        raise ValueError("there are fewer timings than announced")
    if frames:
        check_all_used(rest)
    return Tasks(tasks, plain)


def _read_hops(written: Any) -> Hops:
    """Return the hops that `_write_hops` wrote."""
    if type(written) is not bytes:
        raise TypeError(f"a path is bytes, not {type(written).__name__}")
    hops = _checked_hops(unpack_list(written))
    _remember(_known_hops, written, hops)
    return hops


def _checked_hops(hops: Any) -> Hops:
    if type(hops) is not tuple or not 0 < len(hops) <= MAX_HOPS:
        raise ValueError(f"a path has 1 to {MAX_HOPS} hops")
    return tuple(
        (text(stage, name="a stage's name"), text(revision, name="a revision"))
        for stage, revision, *_later in hops
    )


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    if len(known) >= _MAX_KNOWN_PATHS:
        known.clear()
    known[key] = value


def _read_varied(
    frames: Iterator[Frame],
    trace: Any,
    particulars: Any,
    described: Any,
    request_id: Any = None,
    *_later: Any,
) -> tuple[str | None, Meta | None, str | None, list[Any]]:
    return (
        _read_trace(trace),
        None if particulars is None else _read_meta(*particulars[:4]),
        None if request_id is None else _checked_id(request_id),
        unpack_buffers(described, frames),
    )


def _checked_id(request_id: Any) -> str:
    if type(request_id) is not str or not _REQUEST_ID.fullmatch(request_id):
        raise ValueError("a client's request id is 1 to 128 visible ASCII characters")
    return request_id


def _read_trace(trace: Any) -> str | None:
    return None if trace is None else text(trace, name="a trace")


def _read_meta(method: Any, path: Any, query: Any, headers: Any) -> Meta:
    return Meta(
        text(method, name="a method"),
        text(path, MAX_BODY_BYTES, "a path"),
        text(query, MAX_BODY_BYTES, "a query"),
        pairs(headers),
    )


def pack_outcomes(message: Outcomes) -> tuple[bytes, list[Frame]]:
    """Write a bundle of outcomes, handoff notices and statistics.

    Returns:
        The body and the payload frames.

    Raises:
        One of `MISFITS`: a row breaks a limit; `refusal` says which outcome and why.
    """
    rows: list[bytes] = []
    times: list[int] = []
    varied: list[Any] = []
    frames: list[Frame] = []
    pack_row = OUTCOME_ROW.packing.pack
    for outcome in message.outcomes:
        timings = outcome.timings
        rows.append(
            pack_row(
                outcome.number,
                outcome.index,
                outcome.attempt,
                outcome.hop,
                outcome.status,
                len(timings),
                outcome.kind,
            )
        )
        if timings:
            times += timings
        buffers = outcome.buffers
        if (
            len(buffers) == 1
            and type(payload := buffers[0]) is bytes
            and len(payload) <= INLINE_BYTES
            and not (outcome.label or outcome.text or outcome.headers)
        ):
            varied.append(payload)
        else:
            varied.append(_vary_outcome(outcome, frames))
    if len(varied) > MAX_LIST_BYTES:
        listed(varied)
    fixed = rows[0] if len(rows) == 1 else b"".join(rows)
    notices = pack_notes(message.notices) if message.notices else ()
    stats = pack_stats(message.stats) if message.stats else ()
    spans = _u32s(times) if times else b""
    return pack([fixed, spans, varied, notices, stats, *pack_load(message.load)]), frames


def _vary_outcome(outcome: Outcome, frames: list[Frame]) -> list[Any]:
    described, more = pack_buffers(outcome.buffers)
    frames += more
    headers = pairs(outcome.headers) if outcome.headers else ()
    # A worker's message may be of any length; the limit must not cost the outcome.
    told = words(outcome.text) if outcome.text else ""
    return [words(outcome.label), told, headers, described]


def read_outcomes(body: Body, frames: Sequence[Frame], now: float) -> Outcomes:
    """Read a bundle of outcomes; no clock is needed.

    Raises:
        ValueError, TypeError, KeyError, struct.error: the body is no such bundle.
    """
    fixed, times, varied, notices, stats = body[:5]
    spans = struct.unpack(f"!{len(times) // 4}I", times) if times != b"" else ()
    done = 0  # of the spans
    rest = iter(frames)
    outcomes = []
    plain = True
    headers: tuple[tuple[str, str], ...]
    buffers: list[Any]
    for row, item in zip(read_rows(OUTCOME_ROW, fixed, len(varied)), varied, strict=True):
        number, index, attempt, hop, status, count, kind = row
        if type(item) is bytes:
            label, message, headers, buffers = "", "", (), [item]
        else:
            plain = False
            label, message, headers, buffers = _read_words(rest, *item)
        first, done = done, done + count
        outcomes.append(
            Outcome(
                number,
                attempt,
                _KINDS[kind],
                hop,
                spans[first:done],
                buffers,
                label,
                message,
                status,
                headers,
                index,
            )
        )
    if done > len(spans):
        raise ValueError("there are fewer timings than announced")
    if frames:
        check_all_used(rest)
    told = read_notes(notices) if notices != () else []
    figures = read_stats(stats) if stats != () else []
    return Outcomes(outcomes, told, figures, plain, read_load(body[5:]))


def _read_words(
    frames: Iterator[Frame], label: Any, message: Any, headers: Any, described: Any, *_later: Any
) -> tuple[str, str, tuple[tuple[str, str], ...], list[Any]]:
    headers = pairs(headers) if headers else ()
    return text(label), text(message), headers, unpack_buffers(described, frames)
