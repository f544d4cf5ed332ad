"""Crashes in the way that its input, or BREAKS, says."""

import ctypes
import os
import time

from mesh import Worker

BREAKS = os.environ.get("BREAKS", "")


def crash():
    ctypes.string_at(0)


def deaf():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass


class Frail(Worker):
    """Does what its input says."""

    multi_examples = ["well", BREAKS or "well"]

    def __init__(self):
        if BREAKS == "constructor":
            crash()

    def forward(self, word):
        if word == "crash":
            crash()
        if word == "abort":
            os.abort()
        if word == "deaf":
            deaf()
        if word == "hold":
            ctypes.PyDLL(None).sleep(600)  # with the interpreter's lock
        if word == "leave":
            os._exit(9)
        return word
