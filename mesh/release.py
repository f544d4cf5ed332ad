"""The version of this package; `pyproject.toml` takes it from here. Pure."""

from typing import Final

VERSION: Final = "0.1.0"
