"""Two stages and their script."""

import os

from mesh import Server, Worker


class Double(Worker):
    def forward(self, value):
        if value == "who":
            return os.getpid()
        if value in ("hang", "nap"):
            import threading

            threading.Event().wait(60 if value == "hang" else 0.6)
        return value * 2


class Wrap(Worker):
    def forward(self, values):
        return [{"answer": value, "device": os.environ.get("DEVICE")} for value in values]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Double)
    server.append_worker(Wrap, max_batch_size=4, env=[{"DEVICE": "one"}])
    server.run()
