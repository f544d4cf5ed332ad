"""HPACK within limits: how much is remembered of the headers that were sent, and what is decoded.

h2 lets the client say how large the encoder's table may become, up to 4 GiB, and looks through all
of it for each header of each answer. And it decodes all the headers of a request in one go, in
Python: a line may have one byte and cost some 20 µs, a kilobyte in Huffman's code 0.3 ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hpack import Decoder, Encoder, HeaderTuple, OversizedHeaderListError

MOST_TABLE_BYTES: Final = 4096  # HTTP/2's default
MOST_LINES: Final = 256  # of the headers of one request, as in HTTP/1.1
LINE_BYTES: Final = 32  # that HPACK counts for a line beside its name and value
# Bytes of one request's headers that may be in Huffman's code, which costs most.
MOST_CODED_BYTES: Final = 40 * 1024
_LONGEST_INTEGER: Final = 5  # bytes after the first


class SmallEncoder(Encoder):
    """An encoder whose table is never larger than HTTP/2's default, whatever the client allows.

    Example:
        >>> encoder = SmallEncoder()
        >>> encoder.header_table_size = 2**32 - 1
        >>> encoder.header_table_size
        4096
    """

    @property
    def header_table_size(self) -> int:
        """Bytes that the table may have, as HPACK counts them."""
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        size = min(value, MOST_TABLE_BYTES)
        self.header_table.maxsize = size
        if self.header_table.resized:
            self.table_size_changes.append(size)


class SmallDecoder(Decoder):
    """A decoder that looks at the size of headers before it decodes them.

    Args:
        max_header_list_size: bytes that all of them may have, as HPACK counts them.

    Example:
        >>> SmallDecoder(1000).decode(b"\\x82", raw=True)
        [(b':method', b'GET')]
        >>> SmallDecoder(100_000).decode(b"\\x82" * 257)
        Traceback (most recent call last):
            ...
        hpack.exceptions.OversizedHeaderListError: a request has more than 256 header lines
    """

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """Decode the headers of one request; see `hpack.Decoder`."""
        if len(data) > MOST_LINES:  # a line has one byte at least
            _check_size(data)
        return super().decode(data, raw)


def _check_size(block: bytes) -> None:
    """Raise where decoding would take long. What is malformed is left to the decoder."""
    at = lines = coded = 0
    try:
        while at < len(block):
            lines += 1
            at, of_line = _line(block, at)
            coded += of_line
            if lines > MOST_LINES:
                raise OversizedHeaderListError(f"a request has more than {MOST_LINES} header lines")
            if coded > MOST_CODED_BYTES:
                text = f"more than {MOST_CODED_BYTES} bytes of headers are in Huffman's code"
                raise OversizedHeaderListError(text)
    except IndexError:
        return


def _line(block: bytes, at: int) -> tuple[int, int]:
    """Where the line that begins at `at` ends, and how many bytes of it are in Huffman's code."""
    first = block[at]
    if first & 0x80:  # a line that the table has
        return _integer(block, at, 7)[1], 0
    if first & 0xE0 == 0x20:  # a new size of the table
        return _integer(block, at, 5)[1], 0
    name, at = _integer(block, at, 6 if first & 0x40 else 4)
    coded = 0
    for _ in range(1 if name else 2):
        is_coded = block[at] & 0x80
        length, at = _integer(block, at, 7)
        at += length
        coded += length if is_coded else 0
    return at, coded


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """The integer that begins at `at` with so many bits of a byte, and where it ends."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for shift in range(0, 7 * _LONGEST_INTEGER, 7):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise OversizedHeaderListError("an integer in the headers of a request has too many bytes")
