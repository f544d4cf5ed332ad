"""A gateway without requests, as its pages see it."""

from typing import Any


class View:
    """What a gateway's pages ask of it."""

    def __init__(self) -> None:
        self.draining = False
        self.absent: list[str] = []
        self.joined = True
        self.paths: dict[str, tuple[str, ...]] = {"/inference": ("detect", "recognize")}
        self.failures: list[tuple[str, str, bytes]] = []

    def routes(self) -> dict[str, tuple[str, ...]]:
        return self.paths

    def missing(self) -> list[str]:
        return self.absent

    def ready(self) -> bool:
        return not self.absent and self.joined

    async def metrics_text(self) -> bytes:
        return b"mesh_inflight 0\n"

    async def status(self, for_admin: bool = False) -> dict[str, Any]:
        return {"stages": ["detect"]}

    def failed(self, code: str, message: str, request_id: bytes) -> None:
        self.failures.append((code, message, request_id))
