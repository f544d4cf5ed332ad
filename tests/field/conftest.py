"""Tests here start services as those of `tests/integration` do, with the same functions."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
