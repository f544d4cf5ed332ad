"""Replaces the handlers of signals in the way that its input says."""

import asyncio
import os
import signal
import time

from mesh import Worker


def lost(*_):
    pass


def replace(how):
    if how == "ignored":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
    if how == "handled":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, lost)
    if how == "default":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
    if how == "interrupt alone":
        signal.signal(signal.SIGUSR1, lost)
    if how == "wakeup":
        signal.set_wakeup_fd(-1)
    if how == "blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    if how == "asyncio":
        asyncio.run(rings())


async def rings():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lost)
    await asyncio.sleep(0.01)
    loop.remove_signal_handler(signal.SIGTERM)


class Odd(Worker):
    def __init__(self):
        replace("handled")

    def forward(self, item):
        how, seconds = item
        replace(how)
        time.sleep(seconds)
        return os.getpid()
