"""How log lines are written: formats, loggers, and a writer that never waits.

The public place is `mesh.log`; this package is its inside.
"""
