"""The states of a replica and their transitions. Pure.

DESIGN.md §11 draws this table. A replica is

- Starting: its process runs, and has not reported that it is ready;
- Free: `Replica.running` is None;
- Computing: `Replica.running` is a batch;
- Draining: Free, and accepts no new tasks;
- Finishing: Computing, and accepts no new tasks;
- Parting: it has sent BYE on all sessions;
- Ended: its process has ended.
"""

from __future__ import annotations

from typing import Final

from mesh.links.states import START, table

_RUNS: Final = "Computing Finishing"
_ALIVE: Final = "Starting Free Computing Draining Finishing Parting"

TRANSITIONS: Final = table(
    (START, "started", "Starting", "stage.__main__:main"),
    # the worker is constructed and warmed up, and the gateways are dialled
    ("Starting", "ready", "Free", "stage.server:serve"),
    ("Starting", "failed", "Ended", "stage.server:serve"),
    # it has nothing to finish yet
    ("Starting", "stop_ordered", "Ended", "mesh.process.parent_link:ParentLink._follow"),
    ("Free", "batch_due", "Computing", "stage.replica:Replica.next_batch"),
    ("Computing", "finished", "Free", "stage.replica:Replica.finished"),
    # a bundle of single tasks took 10 ms: tasks that did not start wait again, or are returned
    ("Computing", "cut_short", "Computing", "stage.replica:Replica.cut_short"),
    ("Finishing", "cut_short", "Finishing", "stage.replica:Replica.cut_short"),
    # the forward exceeded its limit: `ForwardTimeout` is raised, and `finished` follows
    ("Computing", "interrupted", "Computing", "stage.loop:Loop._interrupt"),
    ("Finishing", "interrupted", "Finishing", "stage.loop:Loop._interrupt"),
    # the order of its parent, the death of its parent, or a stop signal if there is no parent
    ("Free", "drain", "Draining", "stage.replica:Replica.drain"),
    ("Computing", "drain", "Finishing", "stage.replica:Replica.drain"),
    # only the rest of an interrupted batch: all other tasks were returned
    ("Draining", "batch_due", "Finishing", "stage.replica:Replica.next_batch"),
    ("Finishing", "finished", "Draining", "stage.replica:Replica.finished"),
    # no task is held, every message is acked, and no producer will send more
    ("Draining", "drained", "Parting", "stage.replica:Replica.part"),
    ("Draining", "grace_over", "Parting", "stage.replica:Replica.part"),
    ("Parting", "parted", "Ended", "stage.loop:Loop._linger"),
    # limit and `kill_grace` are over; if it cannot end itself, the supervisor kills it a second
    # later
    (_RUNS, "overdue", "Ended", "stage.loop:Loop._judge"),
    (_RUNS, "overdue", "Ended", "mesh.supervision.supervisor:Supervisor._judge"),
    # the grace of a stop is over; also a crash, a signal, or an exit called by the worker
    (_ALIVE, "killed", "Ended", "mesh.supervision.supervisor:Supervisor._press_on"),
)
