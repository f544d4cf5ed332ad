"""What every fault is measured by, and the table at the end of the run."""

import sys
from pathlib import Path
from time import monotonic

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "integration")]

LINES = pytest.StashKey()
COLUMNS = (
    "fault",
    "sent",
    "answered",
    "retried",
    "hedged",
    "failed",
    "wrong",
    "slowest",
    "full after",
)


def pytest_configure(config):
    config.stash[LINES] = []


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash[LINES]
    if not rows:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line("| " + " | ".join(COLUMNS) + " |")
    terminalreporter.write_line("| --- |" + " ---: |" * (len(COLUMNS) - 1))
    for row in rows:
        terminalreporter.write_line("| " + " | ".join(map(str, row)) + " |")


class Verdict:
    """Judges a load, and leaves a line in the table.

    Args:
        lines: of the table.
    """

    def __init__(self, lines):
        self._lines = lines

    def __call__(self, what, fleet, load, *, full=True):
        """Every request had one answer, and the right one.

        Args:
            what: the fault, for the table.
            fleet: whose gateways tell of retries and hedges.
            load: that was stopped.
            full: whether full service came back, which is then measured.
        """
        tally = load.tally
        answered = len(tally.answers)
        after = f"{tally.full_after(load.fault, load.before):.2f} s" if full else "-"
        self.tell(
            what,
            tally.sent,
            answered,
            fleet.since("mesh_retries_total"),
            fleet.since("mesh_hedges_total"),
            len(tally.failed),
            len(tally.wrong),
            f"{tally.slowest():.2f} s",
            after,
        )
        assert not tally.failed, (tally.failed[:10], fleet.log())
        assert not tally.wrong, tally.wrong[:10]
        assert not tally.duplicates, tally.duplicates[:10]
        assert answered == tally.sent > 0

    def tell(self, *row):
        """A line of the table."""
        self._lines.append(row)


@pytest.fixture
def unharmed(request):
    """The judge of a load under a fault that leaves a healthy replica of every stage."""
    return Verdict(request.config.stash[LINES])


@pytest.fixture
def clock():
    return monotonic
