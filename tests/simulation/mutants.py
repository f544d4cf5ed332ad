"""Breaks the code on purpose, one deed at a time, and sees which check notices: `make mutants`.

Each mutant is a text that must stand exactly once in a module, and what replaces it. It is applied
to a copy of the tree; then histories are played there until one is broken, or the tests are run
that it names. A mutant that survives them all is a hole in the checks, and makes this script fail.
Those of the rules of who may say what are made from the rules (`rule_mutants.py`).

    python tests/simulation/mutants.py -n 3000 --only "drop acks"
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests/simulation"), str(ROOT / "tests/unit/mesh"), str(ROOT)]

from rule_mutants import SAID_SOON, judge_mutants, simulated_table_mutants  # noqa: E402

COPIED = ("mesh", "gateway", "stage", "tests/simulation", "tests/unit", "pyproject.toml")
COPIED += ("conftest.py",)


class Mutant(NamedTuple):
    """One deed.

    Attributes:
        what: in words.
        module: where.
        text: what stands there, exactly once.
        instead: what shall stand there.
        profile: of the histories that are played, "" for all.
        tests: the file of tests that are run instead; "" for histories.
    """

    what: str
    module: str
    text: str
    instead: str
    profile: str = ""
    tests: str = ""


MUTANTS = (
    Mutant(
        "drop acks",
        "mesh/links/stream.py",
        "if not retained or retained[0][0] > header.ack:",
        "if True:",
    ),
    Mutant(
        "believe an ack for one message more",
        "mesh/links/stream.py",
        "while retained and retained[0][0] <= ack:",
        "while retained and retained[0][0] <= ack + 1:",
    ),
    Mutant(
        "send nothing again after a reconnect",
        "mesh/links/stream.py",
        "return self._acked(received), self._frames(self._retained, now)",
        "return self._acked(received), []",
    ),
    Mutant(
        "begin a session anew where it could be resumed",
        "mesh/links/links.py",
        "resumed = session is not None and session.nonce == hello.nonce",
        "resumed = False",
    ),
    Mutant(
        "lose what is handed back",
        "stage/replica.py",
        "self.reporting.post(task.owner, handed_back(task))",
        "pass",
    ),
    Mutant(
        "wait for ever for a link to be resumed",
        "mesh/links/liveness.py",
        "return max(RESUME_S, 4 * session.vitals.round_trip)",
        "return 1e9",
    ),
    Mutant(
        "give a silent replica new tasks",
        "gateway/requests/retries.py",
        "self._dispatchers[hop].leave(session)",
        "pass",
    ),
    Mutant(
        "tell nobody who died",
        "mesh/supervision/death_notices.py",
        "session.stream.post(death_notice)\n                self.links.touch(session)",
        "pass",
    ),
    Mutant(
        "forget to renew credit",
        "stage/replica.py",
        "            self._credit.owed = True",
        "            pass",
    ),
    Mutant(
        "forget to release what has left",
        "stage/credit.py",
        "                held[0] -= 1\n                self.tasks -= 1",
        "                pass",
    ),
    Mutant(
        "spend no credit",
        "mesh/links/stream.py",
        "self.granted.used_tasks += len(tasks)",
        "self.granted.used_tasks += 0",
    ),
    Mutant(
        "accept a note backwards",
        "gateway/requests/in_flight.py",
        "if notice.attempt == request.attempt and notice.hop > request.at:",
        "if notice.attempt == request.attempt and notice.hop != request.at:",
    ),
    Mutant(
        "send no notes",
        "stage/replica.py",
        "self.reporting.notice(task.owner, notice, now)",
        "pass",
    ),
    Mutant(
        "reuse ids",
        "gateway/requests/drawn_numbers.py",
        "yield from _MANY.unpack(draw(_MANY.size))",
        "yield from range(1, 13)",
    ),
    Mutant(
        "retry without excluding",
        "gateway/requests/in_flight.py",
        "request.tried = (*request.tried[-7:], holder)",
        "request.tried = ()",
    ),
    Mutant(
        "place work by pace, whoever is idle",
        "mesh/links/dispatcher.py",
        "load, batch_s = credit.load, max(",
        "load, batch_s = 1, max(",
        "calm",
    ),
    Mutant(
        "learn nothing of what replicas hold",
        "mesh/links/stream.py",
        "granted.learn_load(message.load)",
        "granted.learn_load(None)",
        tests="tests/simulation/test_placement.py",
    ),
    Mutant(
        "lose CANCELs",
        "gateway/requests/core.py",
        "session.stream.post_cancel(Cancel(self.links.me, numbers))",
        "pass",
    ),
    Mutant(
        "take a hand-back from anybody",
        "gateway/requests/in_flight.py",
        "valid = hop == request.at and sender == request.holder and handed_back == (hop > 0)",
        "valid = handed_back == (hop > 0)",
    ),
    Mutant(
        "forget what a dead replica held",
        "gateway/requests/core.py",
        "for request in self.in_flight.held_by(session.peer):",
        "for request in ():",
    ),
    Mutant(
        "run what may run once a second time",
        "gateway/requests/retries.py",
        "return self._replicas.is_repeatable(request.hops[: request.at + 1])",
        "return True",
    ),
    Mutant(
        "send straight into a stage that may run once",
        "stage/forwarding.py",
        "if facts is not None and facts.repeatable:",
        "if facts is not None:",
    ),
    Mutant(
        "never hedge",
        "gateway/requests/retries.py",
        "return all(\n            any(",
        "return False and all(\n            any(",
    ),
    Mutant(
        "hedge without a budget",
        "gateway/requests/retries.py",
        "if self._may_be_hedged(request, holder) and self.budget.spend(in_flight):",
        "if self._may_be_hedged(request, holder):",
    ),
    Mutant(
        "never call off the attempt that lost",
        "gateway/requests/core.py",
        "if request.earlier or outcome.attempt != request.attempt:",
        "if False:",
    ),
    Mutant(
        "let suspects run with others",
        "gateway/requests/retries.py",
        "request.flags |= Flag.SOLO",
        "pass",
    ),
    Mutant(
        "let suspects stay together",
        "gateway/requests/retries.py",
        "half = -(-len(suspects) // 2)",
        "half = len(suspects)",
        tests="tests/simulation/test_great_losses.py",
    ),
    Mutant(
        "count every suspicion as an attempt",
        "gateway/requests/retries.py",
        "request.narrowed = company < request.company",
        "request.narrowed = False",
        tests="tests/simulation/test_great_losses.py",
    ),
    Mutant(
        "give retries a constant budget",
        "gateway/requests/retries.py",
        "max(LEAST_BUDGET, in_flight)",
        "LEAST_BUDGET",
        tests="tests/simulation/test_great_losses.py",
    ),
    Mutant(
        "run suspects before all others",
        "stage/batching/task_queue.py",
        "suspects = self.solo and (self._others_ran or not others)",
        "suspects = self.solo",
        tests="tests/unit/stage/test_batching_task_queue.py",
    ),
    Mutant(
        "begin a death without suspects again without bound",
        "gateway/requests/retries.py",
        "if request.unexplained >= UNEXPLAINED_FACTOR * self._in_flight.max_attempts:",
        "if False:",
    ),
    Mutant(
        "forget what a client calls its request",
        "stage/results.py",
        "task.request_id,",
        "None,",
    ),
    Mutant(
        "fail the mates of what took too long",
        "stage/results.py",
        "return [task for task in batch.tasks if task.deadline > now]",
        "return []",
    ),
    Mutant(
        "compute what is out of time",
        "stage/batching/batcher.py",
        "expired = self.line.remove(lambda task: task.deadline <= now)",
        "expired = self.line.remove(lambda task: task.deadline <= now - 9)",
    ),
    Mutant(
        "lose the outputs that were on their way to the dead",
        "stage/replica.py",
        "(self._hand_back if again else self._forward)(task)",
        "self._release((task,))",
    ),
    Mutant(
        "keep what waits when draining",
        "stage/replica.py",
        "        self.batcher.drain()\n        self._give_back(self.batcher.take_back(0))",
        "        self.batcher.drain()\n        self.batcher.take_back(0)",
        tests="tests/unit/stage/test_replica.py",
    ),
    Mutant(
        "retry under the number of the attempt that was lost",
        "gateway/requests/in_flight.py",
        "request.attempt += 1\n        self.returned(request, holder)",
        "self.returned(request, holder)",
    ),
    Mutant(
        "end a request by a failure of an attempt that was given up",
        "gateway/requests/in_flight.py",
        "outcome.attempt != request.attempt and outcome.kind is OutcomeKind.FAILURE",
        "False",
    ),
    Mutant(
        "follow the notes of an attempt that was given up",
        "gateway/requests/in_flight.py",
        "if notice.attempt == request.attempt and notice.hop > request.at:",
        "if notice.hop > request.at:",
    ),
    Mutant(
        "hedge under the number of the attempt that is silent",
        "gateway/requests/in_flight.py",
        "request.attempt += 1\n        request.flags",
        "request.flags",
    ),
    Mutant(
        "believe a refused probe before the death notice",
        "mesh/links/links.py",
        "elif session.vitals.listens and session.link is None and not self._is_watched(session):",
        "elif session.vitals.listens and session.link is None:",
    ),
    Mutant(
        "leave without a last word",
        "mesh/links/liveness.py",
        'self.send_now(session, Bye("done"), now)',
        "pass",
    ),
    Mutant(
        "move the routes before all of a later version stands",
        "gateway/requests/replicas.py",
        "if present.issuperset(hops) and self.is_joined(now, hops):",
        "if hops:",
    ),
    Mutant(
        "never move the routes",
        "gateway/requests/replicas.py",
        "if present.issuperset(hops) and self.is_joined(now, hops):",
        "if not hops:",
    ),
    Mutant(
        "begin again in a former version",
        "gateway/requests/queues.py",
        "if request.hops[0] in self._heirs:",
        "if not self._heirs and self.missing:",
    ),
    Mutant(
        "keep the attempt's number in another version",
        "gateway/requests/queues.py",
        "request.attempt += bool(request.tried)",
        "request.attempt += 0",
    ),
    Mutant(
        "let outputs wait for a version that is gone",
        "gateway/requests/core.py",
        "for request in self.in_flight.still(emptied(self.dispatchers[hop].waiting)):",
        "for request in ():",
    ),
    Mutant(
        "forget a former version that requests still ask for",
        "gateway/requests/core.py",
        "if not any(hop in request.hops for request in self.in_flight.requests.values()):",
        "if True:",
    ),
    Mutant(
        "tell replicas of those of another version",
        "gateway/requests/replicas.py",
        """            (earlier[0], revision)
            for hops in self.routes.values()""",
        """            earlier
            for hops in self.routes.values()""",
    ),
    Mutant(
        "let everybody say everything",
        "mesh/links/links.py",
        "if header.type not in session.may_say:",
        "if False:",
        "hostile",
    ),
    Mutant(
        "let anybody cancel anything",
        "mesh/protocol/permissions.py",
        'return "" if message.owner == speaker else "it may not cancel what is not its own"',
        'return ""',
        "hostile",
    ),
    Mutant(
        "dial all that a gateway names",
        "mesh/protocol/permissions.py",
        "return peers_objection(message)",
        'return ""',
        "hostile",
    ),
    Mutant(
        "take slices from who owes nothing",
        "mesh/protocol/permissions.py",
        "if type(message) is Part and not may_owe:",
        "if False:",
        "hostile",
    ),
    Mutant(
        "take results from whoever sends them",
        "gateway/requests/core.py",
        "and not self._ownership.may_end(request, outcome, session)",
        "and False",
        "hostile",
    ),
    Mutant(
        "take back what others have",
        "gateway/requests/core.py",
        "if not self._ownership.may_return(request, outcome, session):",
        "if False:",
        "hostile",
    ),
    Mutant(
        "follow any handoff notice",
        "gateway/requests/core.py",
        "if not self._ownership.may_hand_off(request, notice, session, holder):",
        "if False:",
        "hostile",
    ),
    Mutant(
        "believe any supervisor",
        "gateway/requests/core.py",
        "if not supervisor.is_parent_of(origin.parent):",
        "if False:",
        "hostile",
    ),
    Mutant(
        "take results of a later attempt from who had a former one",
        "gateway/requests/ownership.py",
        "unknown = hop > 0 and (outcome.attempt == FIRST or len(request.tried) >= KEPT_HOLDERS)",
        "unknown = hop > 0",
        "usurpers",
    ),
    Mutant(
        "take failures of a later attempt from who had a former one",
        "gateway/requests/ownership.py",
        "counts = outcome.attempt == FIRST",
        "counts = True",
        "usurpers",
    ),
    Mutant(
        "take back of a later attempt what who had a former one makes up",
        "gateway/requests/ownership.py",
        "is_known = request.attempt > FIRST or (by_first and request.at == 0)",
        "is_known = by_first and request.at == 0",
        "usurpers",
    ),
    Mutant(
        "follow handoff notices of a later attempt of who had a former one",
        "gateway/requests/ownership.py",
        "is_known = notice.attempt > FIRST or by_first  # the gateway knows the holder for certain",
        "is_known = by_first",
        tests="tests/unit/gateway/test_requests_ownership.py",
    ),
    Mutant(
        "take anybody's figures",
        "gateway/requests/core.py",
        "stats = believed(session, stats, mine.timeout, mine.pool)",
        "pass",
        "hostile",
    ),
    Mutant(
        "take figures of any reason and size",
        "gateway/requests/batch_stats.py",
        "if reason not in REASONS:",
        "if False:",
        "hostile",
    ),
    Mutant(
        "believe whatever a replica says of its times",
        "gateway/requests/batch_stats.py",
        "return stats if usual else",
        "return stats if True else",
        "hostile",
    ),
    Mutant(
        "number requests one after the other",
        "gateway/requests/drawn_numbers.py",
        "yield from _MANY.unpack(draw(_MANY.size))",
        "yield from range(1, 2**62)",
        "hostile",
    ),
    Mutant(
        "compute for another gateway what this one sends",
        "stage/credentials.py",
        "if is_owner and task.owner != peer:",
        "if False:",
        "hostile",
    ),
    Mutant(
        "let in again at once who was expelled",
        "mesh/links/links.py",
        '"" if resumed else self._held_off(peer, source, broken, now)',
        '""',
        "hostile",
    ),
    Mutant(
        "name every feed",
        "gateway/requests/replicas.py",
        "if len(feeds) > MAX_PEERS:",
        "if False:",
        "hostile",
    ),
    Mutant(
        "name the oldest feeds alone",
        "gateway/requests/replicas.py",
        "list(islice(in_turns(_by_source(feeds)), MAX_PEERS))",
        "feeds[:MAX_PEERS]",
        "hostile",
    ),
    Mutant(
        "let one source have any number of sessions",
        "mesh/links/links.py",
        'or ("" if session is not None else crowding(source, self.sessions.values()))',
        'or ""',
        "hostile",
    ),
    Mutant(
        "let a HELLO out of its ranges in",
        "mesh/links/links.py",
        "if broken and not reason:",
        "if False:",
        "hostile",
    ),
    Mutant(
        "hold nobody off for a HELLO",
        "mesh/links/liveness.py",
        "pause = self.held_off.expelled(stranger.peer if is_new else 0, source, now)",
        "pause = 0.0",
        "hostile",
    ),
    Mutant(
        "dial all that is named",
        "mesh/links/dialer.py",
        "return new[:room] + [address for address in named if address in living]",
        "return named",
        "hostile",
    ),
    Mutant(
        "let whoever came first keep all the memory",
        "mesh/protocol/chunking.py",
        "if most is None or self._shares[most] <= wanted:",
        "if True:",
        "hoards",
    ),
    Mutant(
        "let payloads that do not come have their memory for ever",
        "mesh/links/liveness.py",
        "stream.give_up_slices(begun_before=now - self.heartbeat.patience)",
        "pass",
        "hoards",
    ),
    Mutant(
        "have one gateway say when others are silent",
        "mesh/links/heartbeat.py",
        "max(MIN_TIMEOUT_S, max(said))",
        "max(MIN_TIMEOUT_S, min(said))",
        tests="tests/unit/mesh/test_links_links.py",
    ),
    Mutant(
        "give up payloads that are still coming",
        "mesh/links/heartbeat.py",
        "self.patience = min(max(LEAST_PAYLOAD_S, max(said)), MOST_PAYLOAD_S)",
        "self.patience = 0.0",
        "hoards",
    ),
    Mutant(
        "count nothing of what has come of payloads",
        "mesh/protocol/chunking.py",
        "more = transfer.charge_with(len(part.slice)) - transfer.charge",
        "more = 0",
        "hoards",
    ),
    Mutant(
        "let in who was expelled where it answers us",
        "mesh/links/links.py",
        'left = self.held_off.left(peer, "", now)',
        "left = 0.0",
        "hostile",
    ),
    Mutant(
        "have feeds say how often signs of life are due",
        "mesh/links/links.py",
        "if welcome.role is Role.GATEWAY and self",
        "if self",
        tests="tests/simulation/test_who_may_say_what.py",
    ),
    Mutant(
        "leave a gateway's number to a feed that has taken it",
        "mesh/links/links.py",
        "if session is not None and session.role is not welcome.role:",
        "if False:",
        tests="tests/unit/mesh/test_links_links.py",
    ),
    Mutant(
        "give unfinished transfers all memory there is",
        "mesh/links/links.py",
        "limit = max(_UNFINISHED_BYTES, 2 * self.identity.pool)",
        "limit = 1 << 60",
        tests="tests/unit/mesh/test_links_links.py",
    ),
)


def all_mutants():
    """Those above, and those that are made of the rules."""
    return [*MUTANTS, *simulated_table_mutants(SAID_SOON), *judge_mutants()]


def apply(mutant, tree):
    """Make the change in a tree; an error says that the mutant needs mending."""
    path = tree / mutant.module
    text = path.read_text()
    if text.count(mutant.text) != 1:
        count = text.count(mutant.text)
        raise SystemExit(f"{mutant.what}: its text stands {count} times in {mutant.module}")
    path.write_text(text.replace(mutant.text, mutant.instead))


def copy(tree):
    """A copy of what is simulated and tested."""
    for name in COPIED:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, tree / name)
        else:
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))


def hunt(mutant, most):
    """Play histories against one mutant; returns how many and which check broke, or None."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy(tree)
        apply(mutant, tree)
        command = [sys.executable, tree / "tests/simulation/simulate.py", "--hunt", str(most)]
        command += ["--profile", mutant.profile] if mutant.profile else []
        done = subprocess.run(
            command, env=_environment(tree), capture_output=True, text=True, check=False
        )
        if not done.stdout:
            raise SystemExit(f"{mutant.what}: {done.stderr}")
        return json.loads(done.stdout)


def play_all(mutants, most):
    """Hunt those that histories must notice, several at a time; yields each, and what did."""
    played = [mutant for mutant in mutants if not mutant.tests]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(lambda mutant: (mutant, hunt(mutant, most)), played)


def run_tests(mutants):
    """Run the tests of each of these mutants; yields it, and what noticed it, or None."""
    with tempfile.TemporaryDirectory() as folder:
        copy(Path(folder))
        command = [sys.executable, Path(folder) / "tests/simulation/forked_tests.py"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=_environment(folder), cwd=folder, **pipes) as process:
            ask = _asked(process)
            for tests in sorted({mutant.tests for mutant in mutants}):
                failed = ask("", "", "", tests)
                if failed is not None:  # it would notice everything
                    raise SystemExit(f"{tests} fails as it is: {failed}")
            for mutant in mutants:
                failed = ask(mutant.module, mutant.text, mutant.instead, mutant.tests)
                yield mutant, None if failed is None else ["", failed, ""]
            process.stdin.close()


def _asked(process):
    def ask(*what):
        print(json.dumps(what), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    return ask


def _environment(tree):
    return dict(os.environ, PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1")


def row(mutant, caught):
    where = f"`{mutant.module}`"
    if caught is None:
        return f"| {mutant.what} | {where} | **survived** | |"
    histories, check, _ = caught
    return f"| {mutant.what} | {where} | {check} | {histories} |"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=3000, help="histories for each, at most")
    parser.add_argument("--only", help="mutants whose words contain this")
    arguments = parser.parse_args()
    wanted = [one for one in all_mutants() if not arguments.only or arguments.only in one.what]
    tested = [one for one in wanted if one.tests]
    print("| what was broken | where | the check that noticed | after histories |")
    print("| --- | --- | --- | ---: |", flush=True)
    survivors = 0
    for mutant, caught in chain(play_all(wanted, arguments.n), run_tests(tested) if tested else ()):
        print(row(mutant, caught), flush=True)
        survivors += caught is None
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
