"""Plays histories: `make simulate N=10000`, or one of them with its story (`SEED=4711`).

python tests/simulation/simulate.py -n 1000 --first 0 --profile chaos
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "simulation"), str(TESTS / "unit" / "mesh"), str(TESTS.parent)]

from history import play  # noqa: E402
from world import Broken  # noqa: E402

CHUNK = 25


def play_some(seeds, profile=None):
    """Play these; returns how many, the turns, and the failures as (seed, check, text)."""
    failures, turns, profiles = [], 0, Counter()
    for seed in seeds:
        try:
            world = play(seed, profile)
            turns += world.turns
            profiles[world.draw.profile] += 1
        except Broken as broken:
            failures.append((seed, broken.check, str(broken)))
    return len(seeds), turns, failures, profiles


def play_many(first, count, profile=None, workers=None):
    """Play `count` histories from the seed `first` on, in several processes.

    Yields what `play_some` returns, as soon as it is known.
    """
    workers = min(workers or os.cpu_count(), -(-count // CHUNK))
    command = [sys.executable, __file__, "-n", str(count), "--first", str(first)]
    command += ["--profile", profile] if profile else []
    with ExitStack() as stack:
        started = [
            stack.enter_context(_process([*command, "--part", str(part), str(workers)]))
            for part in range(workers)
        ]
        for process in started:
            for line in process.stdout:
                yield json.loads(line)


@contextmanager
def _process(command):
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def play_part(first, count, profile, part, parts):
    """Play every `parts`-th chunk, and write what came of it as JSON lines."""
    parent = os.getppid()
    for at in range(first + part * CHUNK, first + count, parts * CHUNK):
        if os.getppid() != parent:
            return  # nobody is left to read it
        print(json.dumps(play_some(range(at, min(at + CHUNK, first + count)), profile)), flush=True)


def hunt(most, profile=None):
    """Play histories until one is broken; writes how many, the check and its text, or null."""
    for seed in range(most):
        _, _, failures, _ = play_some([seed], profile)
        if failures:
            print(json.dumps([seed + 1, *failures[0][1:]]))
            return
    print("null")


def tell(seed, profile=None):
    """Play one history and print its story."""
    story = []
    try:
        world = play(seed, profile, story)
        verdict = f"all is well; {world.log.hexdigest()}"
    except Broken as broken:
        verdict = f"BROKEN: {broken}"
        if broken.__cause__ is not None:
            verdict += "\n" + "".join(traceback.format_exception(broken.__cause__))
    print("\n".join(story), verdict, sep="\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--profile")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--most", type=int, default=1, help="failures after which to stop")
    parser.add_argument("--part", type=int, nargs=2, help="of the work that several share")
    parser.add_argument("--hunt", type=int, help="stop at the first failure, say which")
    arguments = parser.parse_args()
    if arguments.hunt is not None:
        hunt(arguments.hunt, arguments.profile)
        return 0
    if arguments.part is not None:
        play_part(arguments.first, arguments.n, arguments.profile, *arguments.part)
        return 0
    if arguments.seed is not None:
        tell(arguments.seed, arguments.profile)
        return 0
    began, played, turned, failures, profiles = time.monotonic(), 0, 0, [], Counter()
    for count, turns, some, kinds in play_many(
        arguments.first, arguments.n, arguments.profile, arguments.workers
    ):
        played, turned, profiles = played + count, turned + turns, profiles + Counter(kinds)
        failures += some
        if len(failures) >= arguments.most:
            break
    minutes = (time.monotonic() - began) / 60
    rate = played / minutes
    print(f"{played} histories, {turned} turns, {rate:,.0f} histories per minute: {dict(profiles)}")
    for seed, _, text in failures:
        print(f"seed {seed}: {text}")
    if failures and arguments.most == 1:
        tell(failures[0][0], arguments.profile)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
