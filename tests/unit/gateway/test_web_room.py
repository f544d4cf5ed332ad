"""Room for what clients have the gateway hold."""

from gateway.web.room import Room


def test_what_is_taken_is_not_there_until_it_is_given_back() -> None:
    room = Room(100)
    assert room.take(60)
    assert not room.take(41)
    assert room.take(40)
    room.give_back(60)
    assert room.take(60)
    assert not room.take(1)
    assert room.take(0)
