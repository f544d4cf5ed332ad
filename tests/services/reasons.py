"""Fails in many ways."""

import asyncio
import os
import time

from mesh import ClientError, ServerError, Worker


class Mute(ClientError):
    def __str__(self):
        raise RuntimeError("no words")


class Traceless(Exception):
    @property
    def __traceback__(self):
        raise RuntimeError("no trace")

    def __str__(self):
        raise SystemExit(3)


class Hostile(Worker):
    """Does what its input says; a second worker tells who asked."""

    def forward(self, items):
        word = items[0]
        if word == "empties":
            items.clear()
            raise ValueError("boom")
        if word == "empties and returns":
            items.clear()
            return items
        if word == "mute":
            raise Mute
        if word == "traceless":
            raise Traceless
        if word == "cancelled":
            raise asyncio.CancelledError
        if word == "huge":
            raise ClientError("x" * 5_000_000)
        if word == "exit":
            raise SystemExit(3)
        if word == "mine":
            raise ServerError("the GPU is gone")
        if word == "caused":
            try:
                os.stat("/no/such/model")
            except OSError as error:
                raise ServerError("model failed") from error
        if word == "slow":
            time.sleep(30)
        if word.startswith("raise "):
            raise ValueError(word)
        if word.startswith("lines "):
            raise ValueError(f"\ncannot load:\n{word}")
        return [
            [one, os.getpid(), asked.id] for one, asked in zip(items, self.requests, strict=True)
        ]


class Names(Worker):
    def forward(self, value):
        return [*value, self.requests[0].id]
