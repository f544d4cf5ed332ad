import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mesh.protocol.request_names import namer

NUMBERS = st.integers(0, 2**64 - 1)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_no_two_requests_of_an_owner_have_the_same_name(owner: int, one: int, other: int) -> None:
    name = namer(owner)
    assert (name(one) == name(other)) == (one == other)
    assert re.fullmatch(rb"[0-9a-f]{16}", name(one))


def test_every_process_makes_the_same_name() -> None:
    before = namer(255)(7)
    namer.cache_clear()
    assert namer(255)(7) == before == b"d215dff25418d92a"


def test_a_name_tells_neither_owner_nor_number() -> None:
    owner = 0x1F0D3BFA2AC1B6E0
    names = [namer(owner)(number) for number in range(1, 1001)]
    assert b"%x" % owner not in names
    # What follows cannot be told from what was: about half of the bits differ each time.
    values = [int(name, 16) for name in names]
    changed = [(a ^ b).bit_count() for a, b in pairwise(values)]
    assert 28 < sum(changed) / len(changed) < 36
    assert min(changed) > 8
    steps = {(b - a) % 2**64 for a, b in pairwise(values)}
    assert len(steps) == len(changed)
    assert namer(owner + 1)(1) != names[0]
