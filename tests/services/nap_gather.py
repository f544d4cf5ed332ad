"""Two stages and their script."""

import time

from mesh import Server, Worker


class Nap(Worker):
    def forward(self, seconds):
        time.sleep(seconds)
        return seconds


class Gather(Worker):
    def forward(self, values):
        return values


if __name__ == "__main__":
    server = Server()
    server.append_worker(Nap)
    server.append_worker(Gather, max_batch_size=8)
    server.run()
