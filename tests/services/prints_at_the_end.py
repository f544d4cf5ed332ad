"""A script that prints when its service is over."""

import sys

from mesh import Server, Worker


class Echo(Worker):
    def forward(self, value):
        return value


if __name__ == "__main__":
    server = Server()
    server.append_worker(Echo)
    server.run()
    print("done")
    print("done", file=sys.stderr)
    open("over", "w").close()
