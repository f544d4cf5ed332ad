"""A script that forks for each line that it reads."""

import os
import sys
import threading
import time

from mesh import Server, Worker


class Echo(Worker):
    def forward(self, value):
        return [value, os.getpid()]


def fork_on_demand():
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setsid()
            time.sleep(60)
            os._exit(0)
        threading.Thread(target=os.waitpid, args=(child, 0), daemon=True).start()
        print(child, flush=True)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Echo)
    threading.Thread(target=fork_on_demand, daemon=True).start()
    server.run()
