"""Does what its input says, so that a test can read as the worker that it is about."""
# ruff: noqa: F401 - the input needs them

import contextlib
import faulthandler
import io
import logging
import logging.config
import os
import signal
import sys
import threading
import traceback
import warnings

from mesh import Worker, get_logger

log = logging.getLogger(__name__)


class Do(Worker):
    def forward(self, code):
        scope = dict(globals())
        exec(code, scope)
        return scope.get("answer")
