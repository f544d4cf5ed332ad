"""HTTP paths that lead to stages, and what a request reserves there."""

from gateway.requests.admission import Admission
from gateway.requests.route import InferenceRoute, Reservation


def test_a_route_knows_its_stages_by_name() -> None:
    route = InferenceRoute("/inference", (("a", "1"), ("b", "1")), Admission(1, 1))
    assert route.stages == ("a", "b")
    assert (route.content_type, route.grown, route.wants_meta) == (b"application/json", 0, False)


def test_a_reservation_counts_for_what_it_says() -> None:
    small, large = Reservation(7, 1 << 20), Reservation(1 << 17, 1 << 20)
    assert (small.charge, small.seated) == (7, False)
    assert (large.charge, large.seated) == (1 << 20, True)


def test_a_route_is_charged_for_what_clients_have_not_taken() -> None:
    route = InferenceRoute("/inference", (("a", "1"),), Admission(1, 100))
    route.hold(60)
    route.hold(-20)
    assert route.admission.nbytes == 40
