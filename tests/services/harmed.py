"""Two stages whose answer is a function of the request's number; an item may ask for a deed."""

import ctypes
import os
import select
import threading
import time

import numpy

from mesh import Worker

PAUSE = float(os.environ.get("FAULT_PAUSE", "0.005"))
VERSION = os.environ.get("MESH_VERSION", "")


def held(seconds):
    """Holds the interpreter's lock."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def does(deed, seconds):
    if deed == "sleep":
        open(f"computing.{os.getpid()}", "w").close()
        time.sleep(seconds)
        os.unlink(f"computing.{os.getpid()}")
    elif deed == "hang":
        while True:
            time.sleep(0.01)
    elif deed == "deaf":
        ctypes.CDLL(None).sleep(3600)
    elif deed == "hold":
        held(seconds)
    elif deed == "poison":
        os.abort()
    elif deed == "eat":
        bytearray(600 << 20)[::4096] = bytes(600 << 8)


class Step(Worker):
    """Adds what its stage adds; an item may ask for a deed at one stage."""

    adds = 0

    def __init__(self):
        fate = os.environ.get("FAULT_FATE", "")
        if fate == "unborn":
            raise RuntimeError("the device is not there")
        if fate == "fork" and os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        if fate == "crash":
            threading.Timer(0.5, os.abort).start()

    def forward(self, items):
        select.select([], [], [], PAUSE)  # not `sleep`, which a faked clock breaks
        for item in items:
            assert item.setdefault("version", VERSION) == VERSION
            if item.get("at") == type(self).__name__.lower():
                does(item["deed"], item.get("seconds", 0.0))
        return [{**item, "n": item["n"] * 2 + self.adds} for item in items]


class First(Step):
    adds = 1

    def forward(self, items):
        items = super().forward(items)
        for item in items:
            if "floats" in item:
                item["array"] = numpy.full(item["floats"], item["n"] % 1000, numpy.float32)
        return items


class Second(Step):
    adds = 7

    def forward(self, items):
        for item in items:
            if "floats" in item:
                assert item.pop("array").mean() == item["n"] % 1000
        return super().forward(items)
