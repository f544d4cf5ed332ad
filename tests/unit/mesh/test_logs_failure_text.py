"""What is said of exceptions."""

import json
import logging
import sysconfig
import threading
import traceback

import pytest

from mesh.errors import ForwardTimeout
from mesh.logs import failure_text
from mesh.logs.failure_text import (
    MAX_TRACEBACK_CHARS,
    UNSPEAKABLE,
    cause_of,
    cut,
    exc_info,
    is_worth_a_trace,
    line_and_place,
    line_of,
    place_of,
    stack_of_crash,
    stack_of_thread,
    stack_text,
    text_of,
    trace_text,
    users_frame,
    users_trace,
    what_silences,
)


def raised(error, cause=None):
    try:
        raise error from cause
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("boom"), "ValueError: boom"),
        (ValueError(), "ValueError"),
        (KeyError("x"), "KeyError: 'x'"),
        (RuntimeError("CUDA error: gone\nset X=1\n\ncompile with Y\n"),
         "RuntimeError: CUDA error: gone ... compile with Y"),
        (RuntimeError("\na\na"), "RuntimeError: a"),
        (SystemExit(3), "it called sys.exit(3)"),
        (SystemExit(), "it called sys.exit()"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)  # fmt: skip
def test_a_line_has_the_class_and_the_first_and_last_line(error, line):
    assert line_of(error) == line


def test_a_crash_shows_the_users_frames_the_innermost_last():
    ours = f'  File "{failure_text.__file__}", line 1 in run\n'
    text = (
        "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n"
        f'  File "/srv/a.py", line 9 in crash\n  File "/srv/a.py", line 7 in forward\n{ours}'
        "\nExtension modules: numpy (total: 1)\n"
    )
    assert stack_of_crash(text.encode() + bytes(9)) == (
        '  File "/srv/a.py", line 7 in forward\n  File "/srv/a.py", line 9 in crash'
    )
    assert stack_of_crash(ours.encode()) == ours.rstrip()
    assert stack_of_crash(bytes(9)) == ""


def test_a_thread_is_shown_where_it_is():
    assert "test_a_thread_is_shown_where_it_is" in stack_of_thread(threading.get_ident())


def test_the_cause_is_what_python_shows():
    cause = KeyError("x")
    assert cause_of(raised(ValueError(), cause)) is cause
    assert cause_of(raised(ValueError())) is None
    within = ValueError()
    try:
        raise cause
    except KeyError:
        assert cause_of(raised(within)) is None  # `from None` hides it
        try:
            raise within
        except ValueError:
            pass
    assert cause_of(within) is None


def test_what_keeps_an_error_from_speaking():
    class Mute(Exception):
        def __str__(self):
            raise self.args[0]

    assert what_silences(ValueError("x")) is None
    assert str(what_silences(Mute(KeyError("no words")))) == "'no words'"
    with pytest.raises(ForwardTimeout):
        what_silences(Mute(ForwardTimeout()))


def test_long_texts_are_cut_and_say_so():
    assert cut("a" * 4096) == "a" * 4096
    shown = cut("ü" * 4096)
    assert len(shown.encode()) <= 4096
    assert shown.endswith("ü ... (cut; it has 4,096 characters)")
    assert cut("a \ud800") == "a ?"


class Mute(Exception):
    def __str__(self):
        raise RuntimeError

    __cause__ = property(__str__)


def test_what_cannot_be_read_is_said_to_be_so():
    error = raised(Mute())
    assert text_of(error) == UNSPEAKABLE
    assert trace_text(error).endswith(f"Mute: {UNSPEAKABLE}\n")
    kind, stand_in, trace = exc_info(error)
    assert (kind.__name__, str(stand_in)) == ("Mute", UNSPEAKABLE)
    assert trace is not None
    logging.Formatter().formatException((kind, stand_in, trace))


def test_an_interruption_while_it_is_asked_is_passed_on():
    class Slow(Exception):
        def __str__(self):
            raise ForwardTimeout

        __notes__ = __cause__ = property(__str__)

    for ask in (text_of, trace_text, exc_info):
        with pytest.raises(ForwardTimeout):
            ask(raised(Slow()))


def test_a_traceback_has_its_causes_and_is_bounded():
    text = trace_text(raised(ValueError("outer"), raised(KeyError("inner"))))
    assert "KeyError: 'inner'" in text
    assert "direct cause" in text
    assert "ValueError: outer" in text
    long = trace_text(raised(ValueError("x" * 10**6)))
    assert len(long) < MAX_TRACEBACK_CHARS + 100
    assert "characters in all" in long
    assert len(str(exc_info(raised(ValueError("x" * 10**6)))[1])) <= 4096
    error = raised(ValueError("short"))
    assert exc_info(error)[1] is error


def test_a_traceback_begins_with_the_first_frame_that_is_not_ours():
    from mesh.config.units import parse_duration

    with pytest.raises(ValueError) as caught:  # noqa: PT011 - only its frames matter
        parse_duration("x")
    assert users_trace(caught.value) is caught.value.__traceback__  # this test's own frame
    theirs = caught.value.__traceback__.tb_next
    assert users_trace(caught.value.with_traceback(theirs)) is theirs  # all of them are ours


def test_the_users_own_frame_is_told_from_libraries_and_ours():
    def frames(*files):
        return [traceback.FrameSummary(file, 1, "f") for file in files]

    ours, library = failure_text.__file__, json.__file__
    installed = sysconfig.get_path("purelib") + "/torch/nn.py"
    assert users_frame(frames("/a/app.py", installed, library, ours)).filename == "/a/app.py"
    assert users_frame(frames("/a/app.py", "/b/more.py"), ["/a"]).filename == "/a/app.py"
    assert users_frame(frames(installed, library)).filename == installed
    assert users_frame(frames(library, ours)) is None
    assert line_and_place(ValueError("never raised")) == "ValueError: never raised"
    assert not is_worth_a_trace(ValueError("never raised"))
    assert is_worth_a_trace(raised(ValueError("x")))
    assert is_worth_a_trace(SyntaxError("x"))
    assert "in raised" in stack_text(raised(ForwardTimeout("x")))
    here = line_and_place(raised(ValueError("x")))
    assert here.startswith("ValueError: x (test_logs_failure_text.py:")


def test_where_it_was_raised():
    assert place_of(raised(ValueError())).file == __file__
    assert place_of(ValueError()) == ("", 0)
