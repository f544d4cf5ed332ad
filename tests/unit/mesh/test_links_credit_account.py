"""Credit in one direction."""

from __future__ import annotations

from mesh.links.credit_account import CreditAccount


def test_what_is_free_is_granted_and_not_used() -> None:
    account = CreditAccount(tasks=4, nbytes=100, used_tasks=1, used_nbytes=70)
    assert (account.free_tasks, account.free_nbytes) == (3, 30)


def test_a_pause_lasts_until_more_is_granted_or_it_is_resumed() -> None:
    account = CreditAccount(tasks=4)
    account.pause()
    assert account.paused == 4
    account.resume()
    assert account.paused == 0
