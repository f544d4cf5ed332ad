"""What crosses a socket is drawn by what the tests of the wire draw it with."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "mesh"))
