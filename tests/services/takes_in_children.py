"""A script that takes in every child's end: TAKES_IN says how."""

import os
import signal
import threading
import time

from service import Who

from mesh import Server

HOW = os.environ["TAKES_IN"]


def steal(*_):
    """Take in every child's end, whoever waits for it."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] or time.sleep(0.001)
    except ChildProcessError:
        return time.sleep(0.001)


def steal_for_ever():
    while True:
        steal()


if __name__ == "__main__":
    if HOW == "thread":
        threading.Thread(target=steal_for_ever, daemon=True).start()
    elif HOW == "handler":
        signal.signal(signal.SIGCHLD, steal)
    elif HOW == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = Server()
    server.append_worker(Who, num=2)
    if HOW == "other thread":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        running = threading.Thread(target=server.run)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        running.start()
        running.join()
    server.run()
    assert HOW != "ignored" or signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
