"""The configuration of h2 for our connections."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

from gateway.web.hpack import LINE_BYTES, MOST_LINES, SmallDecoder, SmallEncoder
from gateway.web.http2_windows import STREAM_WINDOW_BYTES


def make_wire(max_header: int) -> H2Connection:
    """Return h2's half of one connection.

    It accepts headers a little over the limit, so that a request whose headers are too long can be
    answered as in HTTP/1.1; beyond that h2 ends the connection.
    """
    wire = H2Connection(
        H2Configuration(
            client_side=False,
            header_encoding=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    most = max_header + MOST_LINES * LINE_BYTES  # as HPACK counts
    own = {
        SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
        SettingCodes.MAX_HEADER_LIST_SIZE: most,
    }
    wire.local_settings = Settings(client=False, initial_values=own)
    wire.encoder = SmallEncoder()
    wire.decoder = SmallDecoder(most)
    return wire
