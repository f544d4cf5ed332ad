"""Crashes, hangs or waits, as its items say."""

import os
import re
import time

from mesh import Worker


class Fragile(Worker):
    """An item may crash the process, hold the interpreter's lock for ever, or wait for mates."""

    def forward(self, items):
        if "mate" in items:
            time.sleep(0.05)
        if "poison" in items:
            os.abort()
        if "hang" in items:
            re.match(r"(a+)+$", "a" * 60 + "b")  # years, in C, holding the lock
        return items
