"""What a supervisor is told, and what it has done."""

import pytest

from mesh.supervision.events import GATEWAY, ProcessPlan, Slot


@pytest.mark.parametrize(
    ("slot", "shown", "is_gateway"),
    [
        (GATEWAY, "gateway", True),
        (Slot("", 2), "gateway/2", True),
        (Slot("embed", 1), "embed/1", False),
    ],
)
def test_a_slot_as_in_a_log_line(slot: Slot, shown: str, is_gateway: bool) -> None:
    assert str(slot) == shown
    assert slot.is_gateway is is_gateway


def test_a_plan_without_limits_kills_nobody() -> None:
    assert ProcessPlan({GATEWAY: 60.0}, grace=8.0).limits is None
