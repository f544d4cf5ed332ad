"""What became of one task of a batch."""

from stage.item_outcome import ItemOutcome


def test_each_has_buffers_of_its_own() -> None:
    one, other = ItemOutcome(), ItemOutcome(code="server_error")
    assert (one.code, one.buffers, other.code) == ("", [], "server_error")
    assert one.buffers is not other.buffers
