"""Two stages; the first leaves a child where it is asked to."""

import os
import time

from mesh import Worker


class First(Worker):
    def forward(self, how):
        if how != "leave":
            return os.getpid()
        child = os.fork()
        if child == 0:
            os.setsid()
            time.sleep(60)
            os._exit(0)
        return [os.getpid(), child]


class Second(Worker):
    def forward(self, value):
        return value
