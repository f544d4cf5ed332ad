"""Holds an item until a file is there."""

from pathlib import Path
from threading import Event

from mesh import Worker


class Held(Worker):
    def forward(self, value):
        while value == "hold" and not Path("go").exists():
            Event().wait(0.001)
        return value
