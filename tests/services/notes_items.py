"""Two stages that write down what they compute."""

from pathlib import Path
from threading import Event

from mesh import Worker


class First(Worker):
    """Passes on what it gets, and writes down what it computed."""

    def forward(self, items):
        notice("first", items)
        return items


class Second(Worker):
    """The same; an item that is to hold it up is over when its file is there."""

    def forward(self, items):
        notice("second", items)
        for item in items:
            while item.startswith("hold") and not Path(item).exists():
                Event().wait(0.001)
        return items


def notice(name, items):
    with open(name, "a") as computed:
        computed.write("".join(item + "\n" for item in items))
