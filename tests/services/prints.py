"""Prints, and says whether a socket stands where a stream would; FIRST runs before all else."""

import os
import sys

exec(os.environ.get("FIRST", ""))

from mesh import Server, Worker  # noqa: E402 - what is first is before it


class Echo(Worker):
    def forward(self, value):
        print("to be heard, or not")
        print("the same", file=sys.stderr)
        return [value, [os.readlink(f"/proc/self/fd/{n}").startswith("socket") for n in range(3)]]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Echo)
    server.run()
