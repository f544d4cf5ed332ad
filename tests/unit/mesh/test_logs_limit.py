"""The same failure leaves ten lines a minute, and is counted beyond that."""

from mesh.logs.limit import NEVER, OTHERS, LogLimit, fixed_part


def test_ten_lines_a_minute_and_the_rest_is_counted():
    limit = LogLimit()
    admitted = [limit.admits("boom", n / 100) for n in range(845)]
    assert admitted == [True] * 10 + [False] * 835
    assert limit.due == 60.0
    assert limit.take_left_out(59.9) == []
    assert limit.take_left_out(60.0) == [("boom", 835)]
    assert limit.due == NEVER
    assert limit.take_left_out(NEVER) == []
    assert limit.admits("boom", 60.0)


def test_a_new_minute_begins_with_the_next_failure_and_tells_of_the_last():
    limit = LogLimit(most=1)
    assert [limit.admits("a", now) for now in (0.0, 1.0, 60.0, 61.0)] == [True, False, True, False]
    assert limit.due == 60.0  # what was left out of the first is still to be told
    assert limit.take_left_out(61.0) == [("a", 1)]
    assert limit.due == 120.0
    assert limit.take_left_out(NEVER) == [("a", 1)]


def test_what_is_told_apart_is_bounded():
    limit = LogLimit(most=2, kinds=3)
    assert [limit.admits(str(n), 0.0) for n in range(8)] == [True] * 5 + [False] * 3
    assert limit.admits("2", 0.0)
    assert limit.take_left_out(60.0) == [(OTHERS, 3)]
    assert len(limit._windows) == 0
    assert limit.admits("7", 60.0)


def test_windows_in_which_nothing_was_left_out_are_forgotten_without_a_word():
    limit = LogLimit(most=1)
    limit.admits("a", 0.0)
    assert limit.take_left_out(99.0) == []


def test_numbers_and_ids_do_not_make_another_failure():
    assert fixed_part("3.5 s are over\nand more") == "N.N s are over ... and more"
    assert fixed_part("no key 'deadbeef-1'") == "no key 'N'"
    assert fixed_part("CUDA error: a dead bee") == "CUDA error: a dead bee"
    assert len(fixed_part("x" * 1000)) == 200
    assert len(fixed_part(f"{'x' * 1000}\n{'y' * 1000}")) == 405


def test_the_last_line_tells_failures_apart_and_empty_ones_do_not():
    assert fixed_part("\n\nno weights\n") == "no weights"
    assert fixed_part("cannot load:\n  a\n  no file\n") == "cannot load: ... no file"
    assert fixed_part("\n \n") == ""
