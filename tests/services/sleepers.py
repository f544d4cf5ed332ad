"""Stages that can do so many items in a second, and no more."""

from threading import Event

from mesh import Worker


class Quick(Worker):
    able = 200

    def forward(self, items):
        Event().wait(len(items) / self.able)
        return items


class Even(Quick):
    able = 120


class Slow(Quick):
    able = 67


class Quickest(Quick):
    able = 800
