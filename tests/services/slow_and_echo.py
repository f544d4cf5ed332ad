"""One stage that takes its time, and one that gives back what it got."""

from threading import Event

from mesh import Worker


class Slow(Worker):
    count = 0

    def forward(self, seconds):
        Event().wait(seconds)
        Slow.count += 1
        return Slow.count


class Echo(Worker):
    def forward(self, value):
        return value
