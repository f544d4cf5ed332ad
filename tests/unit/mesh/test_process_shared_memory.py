"""Memory by a descriptor, or why there is none."""

import errno
import mmap
import os

import pytest

from mesh.process.shared_memory import shared_memory


@pytest.mark.parametrize("inheritable", [False, True])
def test_it_has_its_size_and_goes_where_it_shall(inheritable: bool) -> None:
    descriptor = shared_memory("mesh-test", 4096, inheritable=inheritable)
    try:
        assert os.get_inheritable(descriptor) is inheritable
        with mmap.mmap(descriptor, 4096) as memory:
            assert memory[:] == bytes(4096)
    finally:
        os.close(descriptor)


def test_a_refusal_says_what_to_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, flags: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(OSError, match="no shared memory: Function not implemented; allow the"):
        shared_memory("mesh-test", 1)
