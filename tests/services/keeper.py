"""Leaves something that would keep its process: LEAVES says what."""

import atexit
import multiprocessing
import os
import subprocess
import threading
import time

from mesh import Worker

HOW = os.environ["LEAVES"]


def for_ever():
    while True:
        time.sleep(1)


class Keeper(Worker):
    def __init__(self):
        if HOW == "thread":
            threading.Thread(target=for_ever, name="feeder").start()
        elif HOW == "atexit":
            atexit.register(for_ever)
        elif HOW == "process":
            multiprocessing.get_context("spawn").Process(target=for_ever, name="helper").start()
        elif HOW == "atexit-that-ends":
            atexit.register(lambda: (time.sleep(0.2), open("ended", "w").close()))
        elif HOW == "fails":
            threading.Thread(target=for_ever, name="feeder").start()
            raise RuntimeError("no device")
        self.child = subprocess.Popen(["sleep", "3600"])

    def forward(self, value):
        if value == "exit":
            raise SystemExit(5)
        return os.getpid()

    def unload(self):
        if HOW == "unload":
            for_ever()
