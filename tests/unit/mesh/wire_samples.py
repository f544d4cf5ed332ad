"""Who may say what, by hand, and one message of each type: what every test of it is held to.

The product has a table of its own (`mesh/protocol/permissions.py`); a table must not be its own
judge, so this one is written out once more.
"""

from __future__ import annotations

from mesh.protocol.messages import (
    RELIABLE,
    Answer,
    Bye,
    Cancel,
    Credit,
    Death,
    Drain,
    Err,
    Hops,
    Message,
    Outcome,
    OutcomeKind,
    Outcomes,
    Part,
    Peers,
    Ping,
    Role,
    Submit,
    Task,
    Tasks,
    Type,
    Who,
)

Row = tuple[Role, Role, bool]  # speaker, listener, whether the speaker dialled

ALWAYS = frozenset({Type.CREDIT, Type.PING, Type.DRAIN, Type.BYE, Type.WHO, Type.ERR})
GREETINGS = frozenset({Type.HELLO, Type.WELCOME})
# What each may say beyond `ALWAYS`.
BY_HAND: dict[Row, frozenset[Type]] = {
    (Role.GATEWAY, Role.REPLICA, False): frozenset(
        {Type.TASKS, Type.PART, Type.CANCEL, Type.PEERS}
    ),
    (Role.REPLICA, Role.GATEWAY, True): frozenset({Type.OUTCOMES, Type.PART}),
    (Role.REPLICA, Role.REPLICA, False): frozenset({Type.TASKS, Type.PART}),
    (Role.REPLICA, Role.REPLICA, True): frozenset(),
    (Role.SUPERVISOR, Role.GATEWAY, True): frozenset({Type.DEATH}),
    (Role.GATEWAY, Role.SUPERVISOR, False): frozenset(),
    (Role.CLIENT, Role.GATEWAY, True): frozenset({Type.SUBMIT, Type.PART, Type.CANCEL}),
    (Role.GATEWAY, Role.CLIENT, False): frozenset({Type.ANSWER, Type.PART}),
}
PATH: Hops = (("a", "r"), ("b", "r"))


def may_say(row: Row, kind: Type) -> bool:
    """Whether this type is one that the row's speaker may say, by hand."""
    return row in BY_HAND and kind in BY_HAND[row] | ALWAYS


def in_words(value: object) -> str:
    """How a test's name shows a role, a type or a row."""
    if isinstance(value, Role | Type):
        return value.name.lower()
    if isinstance(value, tuple):
        return "-".join(map(in_words, value))
    if isinstance(value, bool):
        return "dials" if value else "is dialled"
    return str(value)


def samples(me: int, hops: Hops = PATH) -> dict[Type, Message]:
    """A message of each type that follows a greeting; each is the speaker's own to say.

    Args:
        me: the speaker's incarnation.
        hops: of its tasks.
    """
    return {
        Type.TASKS: Tasks([Task(me, 5, hops, 0, 1, 1e6, [b"x"], 1)]),
        Type.PART: Part(1, 4, 0, b"xx"),
        Type.CREDIT: Credit(),
        Type.OUTCOMES: Outcomes([Outcome(5, 1, OutcomeKind.RESULT)]),
        Type.DEATH: Death(99, hops[0][0], 9, 0, []),
        Type.SUBMIT: Submit(1, "/inference", 0, 0, None, [b"x"]),
        Type.ANSWER: Answer(Outcome(1, 1, OutcomeKind.RESULT)),
        Type.CANCEL: Cancel(me, [5]),
        Type.PEERS: Peers(1, []),
        Type.PING: Ping(5),
        Type.DRAIN: Drain(0),
        Type.BYE: Bye("done"),
        Type.WHO: Who(),
        Type.ERR: Err(0, "no"),
    }


def sequence_of(kind: Type) -> int:
    """The number that the first message of a session bears, if it is of this type."""
    return int(kind in RELIABLE)
