"""Gives back what it got; two words are slow, or wrong."""

import time

from mesh import ClientError, Worker


class Echo(Worker):
    def forward(self, value):
        if value == "slow":
            time.sleep(0.5)
        if value == "wrong":
            raise ClientError("no such thing")
        return value
