"""Is not made before a file is gone; gives back what it got, after a nap if that is in it."""

import os
from threading import Event

from mesh import Worker


class Echo(Worker):
    def __init__(self):
        while os.path.exists("wait"):
            Event().wait(0.02)

    def forward(self, items):
        if "nap" in items:
            Event().wait(0.7)
        return items
