"""Mutants of the rules, made from the rules themselves, so that a new one has its mutants at once.

Of the table of who may say what: each type taken out of each row that has it, and put into each
that has not. Of the functions that judge what is said: each condition left out, each part of one
that is joined by `and`, `or` or a chain of comparisons, and each limit moved by one.
"""

import ast
from pathlib import Path
from typing import NamedTuple

from wire_samples import BY_HAND, in_words

from mesh.protocol.messages import Role, Type

ROOT = Path(__file__).parents[2]
TABLE = "mesh/protocol/permissions.py"
_UNIT = "tests/unit/"
_ANCHOR = "_ALLOWED: Final = {row: types | _ALWAYS for row, types in MAY_SAY.items()}"
_RULES = f"{_UNIT}mesh/test_protocol_permissions.py"
_OWNERSHIP = f"{_UNIT}gateway/test_requests_ownership.py"
_FIGURES = f"{_UNIT}gateway/test_requests_batch_stats.py"
_DIALABLE = f"{_UNIT}mesh/test_transport_dialable.py"
_HANDSHAKE = f"{_UNIT}mesh/test_links_handshake.py"
_HOLD_OFF = f"{_UNIT}mesh/test_protocol_hold_off.py"
_ADMISSION = f"{_UNIT}gateway/test_requests_admission.py"
_UPLOADS = f"{_UNIT}gateway/test_web_uploads.py"
_CHUNKING = f"{_UNIT}mesh/test_protocol_chunking.py"
_LINKS = f"{_UNIT}mesh/test_links_links.py"
# Module, function: the tests that must notice whatever is left out of it.
JUDGES = {
    (TABLE, "content_objection"): _RULES,
    (TABLE, "hello_objection"): _RULES,
    (TABLE, "stage_objection"): _RULES,
    (TABLE, "peers_objection"): _RULES,
    (TABLE, "is_numeric_tcp"): _RULES,
    ("mesh/links/handshake.py", "welcome_objection"): _HANDSHAKE,
    ("mesh/links/handshake.py", "objection"): _HANDSHAKE,
    ("mesh/links/handshake.py", "imposture"): _HANDSHAKE,
    ("mesh/transport/dialable.py", "is_dialable"): _DIALABLE,
    ("mesh/transport/dialable.py", "is_private"): _DIALABLE,
    ("mesh/links/handshake.py", "crowding"): _HANDSHAKE,
    ("mesh/protocol/hold_off.py", "expelled"): _HOLD_OFF,
    ("mesh/protocol/hold_off.py", "_extend"): _HOLD_OFF,
    ("mesh/protocol/chunking.py", "add"): _CHUNKING,
    ("stage/credentials.py", "judge_tasks"): f"{_UNIT}stage/test_credentials.py",
    ("gateway/requests/ownership.py", "may_end"): _OWNERSHIP,
    ("gateway/requests/ownership.py", "may_return"): _OWNERSHIP,
    ("gateway/requests/ownership.py", "may_hand_off"): _OWNERSHIP,
    ("gateway/requests/ownership.py", "may_have_held"): _OWNERSHIP,
    ("gateway/requests/batch_stats.py", "believed"): _FIGURES,
    ("gateway/requests/ownership.py", "_is_of"): _OWNERSHIP,
    ("gateway/requests/ownership.py", "_strange"): _OWNERSHIP,
    ("gateway/requests/ownership.py", "_has_held"): _OWNERSHIP,
    ("gateway/requests/admission.py", "reservation_objection"): _ADMISSION,
    ("gateway/web/uploads.py", "begin"): _UPLOADS,
}
# What changes nothing that anybody could see, and why.
EQUIVALENT = {
    # What is bounded already is bounded once more.
    "believed: `usual` becomes `False`",
    "believed: `wait <= longest` becomes `wait < longest`",
    "believed: `wait <= longest` becomes `False`",
    "believed: `compute <= longest` becomes `compute < longest`",
    "believed: `compute <= longest` becomes `False`",
    "believed: `nbytes <= size * most_bytes` becomes `nbytes < size * most_bytes`",
    # Who hands on to the second stage is of the first, and of a path of two at least: no breach.
    "may_hand_off: `self._strange(request, session)` becomes `False`",
}
# What is put into each row that a simulated process hears: the hostile member says it soon.
SAID_SOON = {
    (Role.GATEWAY, Role.REPLICA, False): Type.OUTCOMES,
    (Role.GATEWAY, Role.SUPERVISOR, False): Type.TASKS,
    (Role.REPLICA, Role.GATEWAY, True): Type.DEATH,
    (Role.REPLICA, Role.REPLICA, False): Type.PEERS,
    (Role.REPLICA, Role.REPLICA, True): Type.CANCEL,
    (Role.SUPERVISOR, Role.GATEWAY, True): Type.OUTCOMES,
    (Role.CLIENT, Role.GATEWAY, True): Type.OUTCOMES,
}


class RuleMutant(NamedTuple):
    """As `mutants.Mutant`; `tests` are what must notice it, "" for histories of `profile`."""

    what: str
    module: str
    text: str
    instead: str
    profile: str = ""
    tests: str = ""


# --- the table ------------------------------------------------------------------------------------


def simulated_table_mutants(said):
    """What honest members say taken out of the table, and something put into each row.

    All others are played in memory, by the tests of the table themselves.

    Args:
        said: by row the type that is put in, which the hostile member says soon.
    """
    spoken = [row for row in BY_HAND if Role.CLIENT not in row[:2]]  # there are no such clients
    taken = [_changed(row, kind) for row in spoken for kind in BY_HAND[row]]
    put = [_changed(row, kind, profile="hostile") for row, kind in said.items()]
    return sorted(taken) + put


def _changed(row, kind, **how):
    is_taken = kind in BY_HAND[row]
    key = f"(Role.{row[0].name}, Role.{row[1].name}, {row[2]})"
    change = f"MAY_SAY = {{**MAY_SAY, {key}: MAY_SAY[{key}] ^ {{Type.{kind.name}}}}}"
    what = f"{'take' if is_taken else 'put'} {kind.name} {'out of' if is_taken else 'into'}"
    return RuleMutant(
        f"{what} the row {in_words(row)}", TABLE, _ANCHOR, f"{change}\n{_ANCHOR}", **how
    )


# --- the judges -----------------------------------------------------------------------------------


def judge_mutants():
    """Each condition of each judge left out, or moved."""
    made = []
    for (module, name), tests in JUDGES.items():
        source = (ROOT / module).read_text()
        function = _function(ast.parse(source), name)
        whole = _slice(source, function)
        changes = dict.fromkeys(_changes(source, function))
        for (start, end), instead in changes:
            was = " ".join(source[start:end].split())
            at = _offset(source, function.lineno, function.col_offset)
            text = whole[: start - at] + instead + whole[end - at :]
            what = f"{name}: `{was}` becomes `{instead}`"
            if what not in EQUIVALENT:
                made.append(RuleMutant(what, module, whole, text, tests=tests))
    return made


def _function(tree, name):
    (found,) = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    return found


def _changes(source, function):
    """Where something is left out, and what stands there then."""
    for node in ast.walk(function):
        if isinstance(node, ast.If):
            yield _span(source, node.test), "False"
        elif isinstance(node, ast.IfExp):
            yield _span(source, node.test), "True"
            yield _span(source, node.test), "False"
        elif isinstance(node, ast.BoolOp):
            neutral = "True" if isinstance(node.op, ast.And) else "False"
            for value in node.values:
                yield _span(source, value), neutral
        elif isinstance(node, ast.Compare):
            yield from _compared(source, node)


_MOVED = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">"}


def _compared(source, node):
    sides = [node.left, *node.comparators]
    if len(node.ops) > 1:  # of a chain each link
        for n in range(len(node.ops)):
            kept = [*sides[:n], *sides[n + 1 :]] if n == 0 else sides[: n + 1]
            span = _span(source, node)[0], _span(source, node)[1]
            yield span, source[_span(source, kept[0])[0] : _span(source, kept[-1])[1]]
    for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
        if type(op) in _MOVED:
            whole = _span(source, left)[0], _span(source, right)[1]
            yield whole, f"{_slice(source, left)} {_MOVED[type(op)]} {_slice(source, right)}"


def _slice(source, node):
    start, end = _span(source, node)
    return source[start:end]


def _span(source, node):
    return (
        _offset(source, node.lineno, node.col_offset),
        _offset(source, node.end_lineno, node.end_col_offset),
    )


def _offset(source, line, column):
    """Where this is in the text; the parser counts columns in bytes."""
    lines = source.splitlines(keepends=True)
    before = lines[line - 1].encode()[:column].decode()
    return sum(map(len, lines[: line - 1])) + len(before)
