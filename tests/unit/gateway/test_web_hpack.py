"""HPACK within limits: what is decoded, and what is refused before it costs much."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder, HPACKError, OversizedHeaderListError
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.hpack import MOST_CODED_BYTES, MOST_LINES, SmallDecoder

LIMIT = 80_000
TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=300)
LINES = st.lists(st.tuples(TEXTS.filter(bool), TEXTS), max_size=60)


@given(LINES, st.booleans())
def test_what_is_allowed_is_decoded_as_hpack_does(
    lines: list[tuple[str, str]], huffman: bool
) -> None:
    encoder, ours, theirs = Encoder(), SmallDecoder(LIMIT), Decoder(LIMIT)
    for _ in range(2):  # the second time from the table
        block = encoder.encode(lines, huffman=huffman)
        assert ours.decode(block, raw=True) == theirs.decode(block, raw=True)


@given(st.binary(min_size=MOST_LINES + 1, max_size=2 * MOST_LINES))
def test_no_bytes_raise_what_h2_does_not_expect(noise: bytes) -> None:
    for block in (noise, noise.replace(b"\xff", b"a"), b"\0\x7f" + noise):
        try:
            found = SmallDecoder(LIMIT).decode(block, raw=True)
        except HPACKError:
            continue
        assert len(list(found)) <= MOST_LINES


@pytest.mark.parametrize("line", [b"\x95", b"\x0f\x02\x01a", b"\0\x01a\x01b", b"\x40\x81\x1f\x01b"])
def test_there_are_so_many_lines_and_no_more(line: bytes) -> None:
    size_of_table = b"\x20"
    assert len(list(SmallDecoder(LIMIT).decode(line * MOST_LINES))) == MOST_LINES
    assert len(list(SmallDecoder(LIMIT).decode(size_of_table + line * (MOST_LINES - 1)))) == 255
    with pytest.raises(OversizedHeaderListError, match="more than 256 header lines"):
        SmallDecoder(LIMIT).decode(line * (MOST_LINES + 1))


def test_so_many_bytes_may_be_in_huffmans_code_together() -> None:
    encoder = Encoder()
    half = ("0" * (MOST_CODED_BYTES * 8 // 5 // 2 - 100),) * 2  # five bits each
    block = encoder.encode([("a", half[0]), ("b", half[1])], huffman=True)
    assert len(list(SmallDecoder(LIMIT).decode(block))) == 2
    block = encoder.encode([("a", half[0]), ("b", half[1] + "0" * 400)], huffman=True)
    with pytest.raises(OversizedHeaderListError, match="in Huffman's code"):
        SmallDecoder(LIMIT).decode(block)
    block = encoder.encode([("a", half[0]), ("b", half[1])], huffman=False)
    assert len(list(SmallDecoder(LIMIT).decode(block))) == 2


def test_an_integer_without_end_is_refused() -> None:
    with pytest.raises(OversizedHeaderListError, match="too many bytes"):
        SmallDecoder(LIMIT).decode(b"\xff" * 300)
