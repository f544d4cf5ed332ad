"""Which release this is."""

import re
from importlib.metadata import version

from mesh.release import VERSION


def test_the_version_is_that_of_the_package() -> None:
    assert version("meshline") == VERSION
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", VERSION)
