"""Metrics and status of all gateway processes of one host, exchanged over local sockets.

Each listens at a socket in the private folder of their run. A client names what it asks
for in one line, and gets the answer with its length before it: of one that dies while it answers
there is no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from struct import Struct
from typing import Final

ANSWER_LIMIT_S: Final = 1.0  # seconds that an answer may take; a page is then made without it
_LENGTH: Final = Struct(">Q")


class Siblings:
    """One process among its siblings.

    Args:
        folder: private to the run.
        number: of this process, counted from 1.
        processes: how many there are.
        answers: what it answers, by what it is asked for.

    Example:
        ```python
        siblings = Siblings(folder, 1, 2, {"status": lambda: b"{}"})
        await siblings.start()
        told = await siblings.ask("status")  # {2: b"{}"}, or {2: None}
        await siblings.close()
        ```
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        processes: int,
        answers: Mapping[str, Callable[[], bytes]],
    ) -> None:
        self._folder, self._number, self._answers = folder, number, answers
        self._others = [one for one in range(1, processes + 1) if one != number]
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Answer from now on, also where a process that died has left its socket."""
        self._server = await asyncio.start_unix_server(self._answer, self._path(self._number))

    async def close(self) -> None:
        """Answer no more; more than once does no harm."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def ask(self, what: str) -> dict[int, bytes | None]:
        """What each of the others answers; None for one that does not, within `ANSWER_LIMIT_S`."""
        told = await asyncio.gather(*[self._ask(number, what) for number in self._others])
        return dict(zip(self._others, told, strict=True))

    def _path(self, number: int) -> str:
        return str(self._folder / f"pages-{number}.sock")

    async def _ask(self, number: int, what: str) -> bytes | None:
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                reader, writer = await asyncio.open_unix_connection(self._path(number))
                try:
                    writer.write(f"{what}\n".encode())
                    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                    return await reader.readexactly(length)
                finally:
                    writer.transport.abort()
        except (OSError, EOFError, TimeoutError):
            return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):  # the asking process is gone, or silent
            async with asyncio.timeout(ANSWER_LIMIT_S):
                line = await reader.readline()
                answers = self._answers.get(line.decode("latin-1").strip())
                if answers is not None:
                    answer = answers()
                    writer.write(_LENGTH.pack(len(answer)) + answer)
                    await writer.drain()
        writer.close()
