"""Credit in one direction."""

from __future__ import annotations

from mesh.links.credit_account import CreditAccount
from mesh.protocol.messages import Load


def test_what_is_free_is_granted_and_not_used() -> None:
    account = CreditAccount(tasks=4, nbytes=100, used_tasks=1, used_nbytes=70)
    assert (account.free_tasks, account.free_nbytes) == (3, 30)


def test_a_pause_lasts_until_more_is_granted_or_it_is_resumed() -> None:
    account = CreditAccount(tasks=4)
    account.pause()
    assert account.paused == 4
    account.resume()
    assert account.paused == 0


def test_the_load_is_what_was_sent_and_not_settled_and_what_others_sent() -> None:
    account = CreditAccount(used_tasks=5)
    account.learn_load(Load(2, 7, 50_000))
    assert (account.settled_tasks, account.load, account.batch_s) == (2, 10, 0.05)
    account.learn_load(Load(1, 0, 0))  # said before the other, and came after it
    assert account.load == 10
    account.learn_load(Load(2**64 - 1, 0, 0))  # no more can be settled than was sent
    assert account.load == 0


def test_of_an_older_release_only_credit_is_known() -> None:
    account = CreditAccount(used_tasks=5)
    account.learn_load(None)
    assert account.load == 0
