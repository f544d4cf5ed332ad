"""How incarnations are shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mesh.protocol.incarnations import shown

ROOT = Path(__file__).parents[3]
# A number in hexadecimal digits whose count depends on the number.
ANY_WIDTH = re.compile(r"(?<!\\)(?:%x|:x\})")
# What is no incarnation: the length of a chunk of HTTP/1.1.
LENGTHS = {'return b"%x\\r\\n%b\\r\\n" % (len(chunk), chunk) if self._chunked else chunk'}


@pytest.mark.parametrize("number", [1, 0xBEE, 2**63 | 1])
def test_all_have_the_same_number_of_digits(number: int) -> None:
    assert len(shown(number)) == 16
    assert int(shown(number), 16) == number


@pytest.mark.parametrize("package", ["mesh", "gateway", "stage"])
def test_nobody_writes_one_another_way(package: str) -> None:
    texts = [hops.read_text() for hops in (ROOT / package).rglob("*.py")]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    assert {line for line in lines if ANY_WIDTH.search(line)} - LENGTHS == set()
