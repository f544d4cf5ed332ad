"""What tests of real sockets share with those of the wire, and with the simulation."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "unit" / "mesh"), str(TESTS / "simulation")]
