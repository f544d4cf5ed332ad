"""A script with a stage that has a timeout of its own."""

import os
import time

from mesh import Server, Worker


class Nap(Worker):
    example = 0

    def forward(self, seconds):
        time.sleep(seconds)
        return seconds


class Plain(Worker):
    def forward(self, data):
        return data


if __name__ == "__main__":
    server = Server()
    server.append_worker(Nap, timeout=float(os.environ.get("NAP_TIMEOUT", "0")))
    server.append_worker(Plain, route="/plain", num=2)
    server.run()
