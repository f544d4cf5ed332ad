"""The states of a request at its gateway, and all that leads from one to another. Pure.

DESIGN.md §6 draws this table. A request is

- Reading: admitted while its body still comes; not in the in-flight table yet;
- Waiting: in the table, `holder` and `at` are 0. It is Queued in the dispatcher of its first stage,
  or Parked in `Queues.parked` while a stage that it must visit is gone;
- Held: in the table, `holder` is a replica's incarnation and `at` the hop of its stage;
- HandedBack: in the table, `holder` is 0 and `at` the later hop whose stage it waits for;
- Ended: no longer in the table.

A replica of the first stage that stops in order (BYE) costs its requests no attempt: they wait
again under the same attempt number. If it had to go before all its handoff notices were out, a
replica of the next stage may hold an output of that attempt. So a Waiting request may be moved or
handed back; its task then leaves the queue.
"""

from __future__ import annotations

from typing import Final

from mesh.links.states import START, table

_OWNED: Final = "Waiting Held HandedBack"

TRANSITIONS: Final = table(
    # --- before the table has it
    (START, "reserved", "Reading", "gateway.inference:InferenceService.admit"),
    (START, "submitted", "Waiting", "gateway.requests.core:GatewayCore.submit"),
    ("Reading", "submitted", "Waiting", "gateway.requests.core:GatewayCore.submit"),
    ("Reading", "refused", "Ended", "gateway.inference:InferenceService.admit"),
    ("Reading", "refused", "Ended", "gateway.inference:InferenceService._consider"),
    ("Reading", "client_gone", "Ended", "gateway.inference:InferenceService.gone"),
    # --- waiting for the first stage
    ("Queued", "stage_lost", "Parked", "gateway.requests.queues:Queues.find_gaps"),
    ("Parked", "stage_back", "Queued", "gateway.requests.queues:Queues.find_gaps"),
    # to a later revision that stands, or back to a former one
    ("Parked", "routes_moved", "Queued", "gateway.requests.queues:Queues.move"),
    # --- with the replicas
    ("Waiting HandedBack", "dispatched", "Held", "gateway.requests.in_flight:InFlightTable.assign"),
    # a handoff notice of this attempt, and of a later hop
    (_OWNED, "moved", "Held", "gateway.requests.in_flight:InFlightTable.moved"),
    # the first stage gave it back, never begun: the attempt goes on
    ("Held", "unstarted", "Waiting", "gateway.requests.core:GatewayCore._given_back"),
    # an output that goes by the gateway, or a task that a later stage gave back, never begun
    (_OWNED, "handed_back", "HandedBack", "gateway.requests.core:GatewayCore._given_back"),
    # its holder died or left; or a former revision has no replica of the stage that it waits for
    ("Held HandedBack", "retried", "Waiting", "gateway.requests.retries:Retries.retry"),
    ("Held", "hedged", "Waiting", "gateway.requests.in_flight:InFlightTable.hedge"),
    # --- its one end
    (_OWNED, "outcome", "Ended", "gateway.requests.in_flight:InFlightTable.settle"),
    (_OWNED, "deadline", "Ended", "gateway.requests.core:GatewayCore._sweep"),
    (_OWNED, "client_gone", "Ended", "gateway.requests.core:GatewayCore.gone"),
    # it was being computed, alone, when a second replica crashed
    (_OWNED, "poisoned", "Ended", "gateway.requests.core:GatewayCore._died"),
    # a replica could not read its task
    (_OWNED, "rejected", "Ended", "gateway.requests.core:GatewayCore._refused"),
    # a stage that it needs was absent for `restart_grace`
    ("Waiting HandedBack", "no_replica", "Ended", "gateway.requests.core:GatewayCore._sweep"),
    # no message can carry it, or no replica's pool
    ("Waiting HandedBack", "unfit", "Ended", "gateway.requests.core:GatewayCore._dispatch"),
    # too many deaths, no budget, or a stage that must not run twice
    ("Held HandedBack", "lost", "Ended", "gateway.requests.core:GatewayCore._retry"),
)
