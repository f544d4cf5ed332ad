"""A lone request's way is put together from what the kernel saw of each thread."""

from __future__ import annotations

from benchmarks.timeline import WAY, Event, events, passages, processors, table

THREADS = {10: "gateway", 11: "gateway's I/O", 20: "replica", 21: "replica's I/O", 30: "client"}
NUMBERS = {name: number for number, name in THREADS.items()}
SIZES = {"wake": ("write", "count", 8), "woken": ("read", "count", 8)}


def line(at: float, thread: str, call: str) -> str:
    name, what, size = SIZES.get(call, (call, "len" if call == "sendto" else "size", 174))
    start = f"  {NUMBERS[thread]} [001] {at:.6f}: syscalls:sys_enter_{name}:"
    return f"{start} fd: 0x05, {what}: {size:#010x}"


def a_request(start: float) -> list[str]:
    return [line(start + n * 1e-5, step.thread, step.call) for n, step in enumerate(WAY)]


def test_a_whole_way_is_found() -> None:
    seen = list(events([*a_request(1.0), *a_request(2.0)], THREADS))
    # The last step of one request is the first of the next: of two there are three such reads.
    passed = passages(seen)
    assert len(passed) == 2
    assert [round(time - passed[0][0]) for time in passed[0]] == [10 * n for n in range(len(WAY))]
    assert "  10.0 µs  the client has woken" in table(passed)
    assert table(passed).endswith(" 120.0 µs  together")


def test_what_others_do_in_between_does_not_matter() -> None:
    lines = a_request(1.0)
    lines.insert(3, line(1.00002, "client", "woken"))
    lines.insert(5, "  99 [000] 1.0: syscalls:sys_enter_write: fd: 0x05, count: 0x00000008")
    lines.insert(7, "what perf says besides")
    assert len(passages(list(events(lines, THREADS)))) == 1


def test_a_request_without_all_its_steps_counts_for_nothing() -> None:
    lines = a_request(1.0)
    del lines[4]
    assert passages(list(events(lines, THREADS))) == []
    assert passages([]) == []


def test_processors_are_counted_by_thread() -> None:
    seen = [Event(float(n), "gateway", int(n == 0), "read") for n in range(4)]
    assert processors(seen) == "  gateway        on processor 0: 75%, 1: 25%"
