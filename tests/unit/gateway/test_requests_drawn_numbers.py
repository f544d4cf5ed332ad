"""Numbers that nobody guesses."""

import os
from itertools import islice, pairwise
from random import Random

from gateway.requests.drawn_numbers import drawn_numbers


def test_numbers_are_drawn_and_none_comes_twice():
    numbers = list(islice(drawn_numbers(Random(1).randbytes), 5000))
    assert len(set(numbers)) == 5000
    assert max(numbers) < 2**64
    assert min(numbers) >= 0
    steps = {after - before for before, after in pairwise(numbers)}
    assert len(steps) == 4999  # from one nothing follows for the next


def test_two_gateways_draw_different_ones():
    first, second = (set(islice(drawn_numbers(os.urandom), 2000)) for _ in range(2))
    assert not first & second
