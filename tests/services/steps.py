"""Two stages, in which each item notes who computed it."""

import os
import time

from mesh import Worker


class Step(Worker):
    def forward(self, items):
        time.sleep(0.3)
        return [[*item, os.getpid()] for item in items]


class First(Step):
    pass


class Second(Step):
    pass
