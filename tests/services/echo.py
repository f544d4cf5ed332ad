"""Gives back what it got, in a batch or alone; as a script, too."""

import os

from mesh import Server, Worker


class Echo(Worker):
    def forward(self, value):
        return value


class Who(Worker):
    """Says which process it is."""

    def forward(self, value):
        return os.getpid()


class Hoarder(Echo):
    """Keeps many files open."""

    def __init__(self):
        self.files = [open(__file__) for _ in range(48)]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Echo)
    server.run()
