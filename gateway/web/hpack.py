"""HPACK within limits: how much is remembered of the headers that were sent.

h2 lets the client say how large the encoder's table may become, up to 4 GiB, and looks through all
of it for each header of each answer.
"""

from __future__ import annotations

from typing import Final

from hpack import Encoder

MOST_TABLE_BYTES: Final = 4096  # HTTP/2's default


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
