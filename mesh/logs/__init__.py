"""How log lines are written: formats, loggers, and a writer that never waits.

This package is internal; use `mesh.log`.
"""
