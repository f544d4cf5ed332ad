"""What stands in for `sys.stdout`."""

import io
import os
import threading
from pathlib import Path

import pytest

from mesh.logs import streams
from mesh.logs.streams import LineStream, Printed


def stream(rewrites: bool = False) -> tuple[Printed, list[bytes]]:
    got: list[bytes] = []
    return Printed(LineStream(1, "<stdout>", got.append, rewrites=rewrites)), got


def test_whole_lines_leave_at_once_and_begun_ones_wait() -> None:
    out, got = stream()
    print("a", "b", file=out)
    print("c", end="", file=out)
    assert got == [b"a b\n"]
    print("d", file=out)
    assert got == [b"a b\n", b"cd\n"]


def test_flushing_lets_a_begun_line_go() -> None:
    out, got = stream()
    out.flush()
    print("? ", end="", flush=True, file=out)
    print("yes", file=out)
    assert got == [b"? ", b"yes\n"]


def test_what_is_begun_in_the_end_goes_then() -> None:
    out, got = stream(rewrites=True)
    print("\rhalf", end="", file=out)
    out.lines.end()
    assert got == [b"\rhalf"]


def test_a_line_without_end_is_not_kept_for_ever() -> None:
    out, got = stream()
    out.buffer.write(b"x" * 100_000)
    assert got == [b"x" * 100_000]


def test_a_line_that_is_written_over_is_shown_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(streams, "monotonic", lambda: now)
    out, got = stream(rewrites=True)
    for number in range(25):
        print(f"\r{number} %", end="", flush=True, file=out)
        now += 1.0
    assert len(got) == 3
    print(file=out)
    assert got[-1].endswith(b"24 %\n")


def test_each_thread_has_lines_of_its_own() -> None:
    out, got = stream()
    print("main", end="", file=out)
    other = threading.Thread(target=lambda: print("other", file=out))
    other.start()
    other.join()
    print(file=out)
    assert got == [b"other\n", b"main\n"]


def test_a_child_has_no_line_begun() -> None:
    out, got = stream()
    print("the parent's", end="", file=out)
    out.lines.forget()
    print("the child's", file=out)
    assert got == [b"the child's\n"]


def test_it_is_what_others_expect_of_a_stream(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        out = Printed(LineStream(file.fileno(), "<stdout>", lambda _: None, rewrites=False))
        assert (out.fileno(), out.isatty()) == (file.fileno(), False)
    assert (out.encoding, out.name, out.mode) == ("utf-8", "<stdout>", "w")
    assert out.writable()
    assert not out.readable()
    assert out.write_through


def test_who_wraps_it_does_not_end_it() -> None:
    out, got = stream()
    wrapper = io.TextIOWrapper(out.buffer, encoding="utf-8")
    wrapper.write("through the wrapper\n")
    del wrapper
    out.close()
    print("still", file=out)
    assert got == [b"through the wrapper\n", b"still\n"]


def test_anything_can_be_printed() -> None:
    out, got = stream()
    print("ä \udc80", file=out)
    assert got == ["ä \\udc80\n".encode()]


def test_a_terminal_is_known_as_one() -> None:
    master, slave = os.openpty()
    try:
        assert LineStream(slave, "<stdout>", lambda _: None, rewrites=False).isatty()
    finally:
        os.close(master)
        os.close(slave)
