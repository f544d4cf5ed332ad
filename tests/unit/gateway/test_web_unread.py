"""Answers that clients do not take: what they are charged to, and who is cut off for them."""

from __future__ import annotations

import pytest

from gateway.web.unread import LEAST_RATE, Account, Unread


class Way:
    def __init__(self) -> None:
        self.held = 0

    def hold(self, nbytes: int) -> None:
        self.held += nbytes


class Client:
    """A connection with an account, and what it was cut off for."""

    def __init__(self, unread: Unread) -> None:
        self.ended: list[str] = []
        self.account = Account(unread, self.ended.append)

    def hold(self, *sizes: int, taken: int = 0) -> None:
        self.account.settle([(None, size) for size in sizes], taken)


@pytest.fixture
def unread() -> Unread:
    return Unread(limit=1000_000, patience=30.0)


def test_routes_are_charged_for_what_is_held_and_no_more(unread: Unread) -> None:
    one, other = Way(), Way()
    account = Account(unread, lambda cause: None)
    account.settle([(one, 10), (other, 20), (one, 5), (None, 7)], 0)
    assert (one.held, other.held, unread.nbytes) == (15, 20, 42)
    account.settle([(one, 3)], 39)
    assert (one.held, other.held, unread.nbytes) == (3, 0, 3)
    account.close()
    assert (one.held, unread.nbytes) == (0, 0)
    account.settle([(one, 3)], 0)
    assert (one.held, unread.nbytes) == (0, 0)


def test_who_takes_less_than_the_least_rate_is_cut_off(unread: Unread) -> None:
    slow, well = Client(unread), Client(unread)
    for _ in range(120):
        slow.hold(1000, taken=LEAST_RATE // 4)
        well.hold(1000, taken=LEAST_RATE // 2)
        slow.account.tick(0.5)
        well.account.tick(0.5)
    assert (slow.ended, well.ended) == (["slow_reader"], [])
    assert unread.nbytes == 1000


def test_who_is_cut_off_is_so_once(unread: Unread) -> None:
    client = Client(unread)
    client.hold(1000)
    for _ in range(200):
        client.account.tick(0.5)
    assert client.ended == ["slow_reader"]


def test_having_been_fast_saves_nothing_up(unread: Unread) -> None:
    client = Client(unread)
    client.hold(1000, taken=10**9)
    for _ in range(61):
        client.account.tick(0.5)
    assert client.ended == ["slow_reader"]


def test_a_connection_may_hold_much_while_it_takes_it_fast(unread: Unread) -> None:
    fast, deaf = Client(unread), Client(unread)
    for _ in range(4):
        fast.hold(400_000, taken=50_000)
        deaf.hold(400_000)
        fast.account.tick(0.5)
        deaf.account.tick(0.5)
    assert fast.account.is_full
    assert (fast.ended, deaf.ended) == ([], ["unread"])


def test_who_takes_longest_goes_first_when_all_together_is_too_much(unread: Unread) -> None:
    clients = [Client(unread) for _ in range(5)]
    for at, client in enumerate(clients):
        client.hold(200_000, taken=at * 100_000)
        client.account.tick(0.5)
    newcomer = Client(unread)
    newcomer.hold(200_000)
    assert [client.ended for client in clients] == [["unread"], [], [], [], []]
    assert (newcomer.ended, unread.nbytes) == ([], 1000_000)


def test_of_those_that_nobody_knows_yet_the_largest_goes(unread: Unread) -> None:
    small, large = Client(unread), Client(unread)
    large.hold(900_000)
    small.hold(200_000)
    assert (small.ended, large.ended) == ([], ["unread"])


def test_an_answer_that_is_larger_than_all_room_can_be_given(unread: Unread) -> None:
    client = Client(unread)
    client.hold(5_000_000)
    assert client.ended == []
