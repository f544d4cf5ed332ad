"""The states of a replica, and all that leads from one to another. Pure.

DESIGN.md §11 draws this table. A replica is

- Starting: its process runs, and has not said that it is ready;
- Free: `Replica.running` is None;
- Computing: `Replica.running` is a batch;
- Draining: Free, and takes nothing new;
- Finishing: Computing, and takes nothing new;
- Parting: it said BYE to everybody;
- Ended: its process is gone.
"""

from __future__ import annotations

from typing import Final

from mesh.links.states import START, table

_RUNS: Final = "Computing Finishing"
_ALIVE: Final = "Starting Free Computing Draining Finishing Parting"

TRANSITIONS: Final = table(
    (START, "started", "Starting", "stage.__main__:main"),
    # the worker is constructed and warm, its gateways are dialled
    ("Starting", "ready", "Free", "stage.server:serve"),
    ("Starting", "failed", "Ended", "stage.server:serve"),
    # nothing to finish yet
    ("Starting", "stop_ordered", "Ended", "mesh.process.parent_link:ParentLink._follow"),
    ("Free", "batch_due", "Computing", "stage.replica:Replica.next_batch"),
    ("Computing", "finished", "Free", "stage.replica:Replica.finished"),
    # a bundle of single tasks took 10 ms: what was not begun waits again, or is given back
    ("Computing", "cut_short", "Computing", "stage.replica:Replica.cut_short"),
    ("Finishing", "cut_short", "Finishing", "stage.replica:Replica.cut_short"),
    # the forward outlived its limit: `ForwardTimeout`, and `finished` follows
    ("Computing", "interrupted", "Computing", "stage.loop:Loop._interrupt"),
    ("Finishing", "interrupted", "Finishing", "stage.loop:Loop._interrupt"),
    # its parent's order, its parent's death, or a stop signal where there is no parent
    ("Free", "drain", "Draining", "stage.replica:Replica.drain"),
    ("Computing", "drain", "Finishing", "stage.replica:Replica.drain"),
    # only what an interrupted batch left: all else was given back
    ("Draining", "batch_due", "Finishing", "stage.replica:Replica.next_batch"),
    ("Finishing", "finished", "Draining", "stage.replica:Replica.finished"),
    # nothing held, nothing unacked, and no producer will send more
    ("Draining", "drained", "Parting", "stage.replica:Replica.part"),
    ("Draining", "grace_over", "Parting", "stage.replica:Replica.part"),
    ("Parting", "parted", "Ended", "stage.loop:Loop._linger"),
    # limit and `kill_grace` are over; the supervisor sees to it a second later
    (_RUNS, "overdue", "Ended", "stage.loop:Loop._judge"),
    (_RUNS, "overdue", "Ended", "mesh.supervision.supervisor:Supervisor._judge"),
    # the grace of a stop is over; also a crash, a signal, an exit of the worker's
    (_ALIVE, "killed", "Ended", "mesh.supervision.supervisor:Supervisor._press_on"),
)
