"""How long tiny pieces are borne with."""

from gateway.web.patience import Patience


def test_it_runs_out_and_comes_back_with_time() -> None:
    patience = Patience(10.0)
    assert patience.bears(4_000, 10.0)
    assert not patience.bears(1, 10.0)
    assert patience.bears(900, 11.0)
    assert not patience.bears(200, 11.0)


def test_no_more_is_saved_up_than_there_was() -> None:
    patience = Patience(0.0)
    assert not patience.bears(4_001, 1_000_000.0)
