"""Computes each item for as long, and in the way, that it says."""

import ctypes
import os
import time

from mesh import Worker

LOG = os.environ["FORWARD_LOG"]


class Sleepy(Worker):
    """Each item is how it is to be computed and for how long."""

    def forward(self, data):
        items = data if self.max_batch_size > 1 else [data]
        with open(LOG, "a") as log:
            log.write(" ".join(str(name) for name, _, _ in items) + "\n")
        for _, how, seconds in items:
            self.spend(how, seconds)
        return data

    def spend(self, how, seconds):
        if how == "sleep":
            time.sleep(seconds)
        elif how == "deaf":
            mutex = ctypes.create_string_buffer(64)
            for _ in range(2):  # the second time waits for ever, in C, whatever signals come
                ctypes.CDLL(None).pthread_mutex_lock(mutex)
        elif how == "sabotage":
            from stage.loop import Loop

            Loop._judge = lambda *_: 1 / 0
            time.sleep(seconds)
        elif how == "stubborn":
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                try:
                    time.sleep(end - time.monotonic())
                except BaseException:
                    pass
