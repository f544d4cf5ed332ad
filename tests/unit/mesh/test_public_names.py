"""``import mesh``: every public name is there, and nothing is loaded before it is used."""

import subprocess
import sys

import pytest

import mesh


def test_every_public_name_is_there() -> None:
    for name in mesh.__all__:
        assert getattr(mesh, name) is not None
    assert set(mesh.__all__) <= set(dir(mesh))


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Serber'"):
        _ = mesh.Serber


def test_importing_reads_no_flags_and_loads_little() -> None:
    code = (
        "import sys; import mesh; mesh.Worker; "
        "print(*sorted({'argparse', 'click', 'tornado', 'zmq', 'mesh.server'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []
