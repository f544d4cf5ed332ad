"""From HTTP to the core: which requests are admitted, which refused, and how."""

import pytest
from inference_rig import NOW, PATH, InferenceRig, facts, fill, move

from gateway.inference import InferenceService
from gateway.requests.admission import Admission
from gateway.requests.core import GatewayCore
from gateway.requests.route import InferenceRoute
from gateway.web.byte_budget import ByteBudget
from gateway.web.failure_log import FailureLog
from mesh.links.events import SessionStarted
from mesh.links.session import Session
from mesh.protocol.messages import BatchStats, Outcome, OutcomeKind, Role

LARGE = (1 << 16) + 1


@pytest.fixture
def rig():
    return InferenceRig()


def test_what_the_client_said_of_itself_goes_along(rig):
    exchange = rig.exchange()
    exchange.request_id, exchange.traceparent = b"mine", "00-1-2-01"
    rig.service.submit(exchange)
    assert exchange.request.trace == "00-1-2-01"
    assert rig.end(exchange, buffers=[b"1"])[1]["X-Request-ID"] == "mine"


def test_too_many_are_refused():
    rig = InferenceRig(capacity=1)
    first = rig.submit()
    rig.submit()
    assert rig.wire.written == []  # the second waits for its turn on the connection
    rig.hear(Outcome(first.request.number, 1, OutcomeKind.RESULT, 1, buffers=[b"1"]))
    rig.service.answers.write(rig.core.take_ended())
    _, (status, headers, _) = rig.wire.answers()
    assert (status, headers["Retry-After"]) == (429, "1")
    assert rig.admission.inside == 0


def test_a_large_body_may_be_refused_unread():
    rig = InferenceRig(capacity=1)
    exchange = rig.exchange()
    assert rig.service.admit(exchange, LARGE) is None
    assert b" 429 " in rig.service.admit(rig.exchange(), 0)
    rig.service.submit(exchange)
    assert b" 429 " in rig.service.admit(rig.exchange(), 0)


def test_each_route_has_room_of_its_own():
    rig = InferenceRig(capacity=1)
    other = InferenceRoute("/other", PATH[:1], Admission(1, 1 << 20))
    rig.core = GatewayCore(rig.core.links, {"/inference": PATH, "/other": PATH[:1]}, 3, NOW)
    rig.service = InferenceService(
        rig.core, [rig.route, other], 3.0, rig.wake, lambda: NOW + 1, FailureLog(lambda: NOW + 1)
    )
    rig.submit()
    exchange = rig.exchange()
    exchange.route = other
    rig.service.submit(exchange)
    assert (rig.admission.inside, other.admission.inside) == (1, 1)
    rig.service.gone(exchange)
    assert (rig.admission.inside, other.admission.inside) == (1, 0)


def test_a_request_counts_for_what_the_stages_of_its_path_make_of_it(rig):
    exchange = rig.submit(b"12345")
    assert rig.admission.nbytes == 5
    stats = [
        BatchStats("a", 2, 0, 0, "idle", nbytes=8000),
        BatchStats("c", 1, 0, 0, "idle", nbytes=9),
    ]
    rig.core.sizes.learn(11, stats)
    rig.service.measure()
    second = rig.submit(b"12345")
    third = rig.submit(bytes(6000))
    assert rig.admission.nbytes == 5 + 4000 + 6000
    for each in (exchange, second, third):
        rig.service.gone(each)
    assert rig.admission.nbytes == 0


def test_what_would_be_too_late_is_refused_at_the_door():
    rig = InferenceRig(capacity=1000)
    fill(rig, 130)  # 2.6 s, and there are 3
    rig.submit()
    status, error, headers = rig.refused()
    assert (status, error["code"], headers["Retry-After"]) == (429, "cannot_meet_deadline", "3")
    assert error["retryable"] is True
    assert error["message"] == "the request would take about 2.6 s, and has 3 s"
    assert rig.admission.inside == 130
    assert rig.service.answers.answered == {(429, "/inference"): 1}
    assert b" 429 " in rig.service.admit(rig.exchange(), 10)


def test_who_overtakes_those_that_wait_is_not_too_late():
    rig = InferenceRig(capacity=1000)
    fill(rig, 100)
    exchange = rig.exchange()
    exchange.timeout = 0.2  # goes before all that have three seconds
    rig.service.submit(exchange)
    assert rig.admission.inside == 101


def test_nobody_is_too_late_while_nobody_waits():
    rig = InferenceRig(capacity=1000)
    for number, hop in enumerate(PATH, 11):
        session = Session(rig.core.links.me, number, Role.REPLICA, 1 << 20, now=NOW)
        session.link, session.stage = number, facts(hop[0])
        rig.core.links.sessions[number] = session
        rig.core.handle_news(SessionStarted(session, False), NOW)
    rig.admission.rate = 1.0
    for number in range(20):
        rig.submit()
        assert rig.admission.inside == number + 1


def test_while_stopping_nothing_enters(rig):
    rig.service.draining = True
    rig.submit()
    status, error, _ = rig.refused()
    assert (status, error["code"]) == (503, "draining")


def test_a_stage_without_replica_is_named(rig):
    rig.submit(at=NOW + 3)
    status, error, headers = rig.refused()
    assert (status, error["code"], headers["Retry-After"]) == (503, "no_replica", "1")
    assert error["message"] == "stage a has no replica"
    assert len(error["request_id"]) == 16
    assert len(rig.core.in_flight) == 0


def test_a_client_that_hangs_up(rig):
    exchange = rig.submit()
    rig.service.gone(exchange)
    rig.service.gone(exchange)
    assert (len(rig.core.in_flight), rig.admission.inside) == (0, 0)
    assert rig.service.answers.answered == {(499, "/inference"): 1}
    rig.service.gone(rig.exchange())  # its body never came


# --- what the client asks for ---------------------------------------------------------------------


def test_a_client_may_ask_for_less_time_never_for_more(rig):
    for seconds, deadline in ((0.5, NOW + 0.5), (3.0, NOW + 3), (60.0, NOW + 3)):
        exchange = rig.exchange()
        exchange.timeout = seconds
        rig.service.submit(exchange)
        assert exchange.request.deadline == deadline


def test_a_client_may_ask_to_go_first(rig):
    exchange = rig.exchange()
    assert exchange.priority == 0
    exchange.priority = 1
    rig.service.submit(exchange)
    assert exchange.request.priority == 1


def test_what_it_asks_for_in_no_words_of_ours_is_refused_before_it_enters(rig):
    exchange = rig.exchange()
    exchange.fault = ("bad_request", "X-Priority is 'urgent'")
    assert b" 400 " in rig.service.admit(exchange, 0)
    rig.service.submit(exchange)
    status, error, headers = rig.refused()
    assert (status, error["code"], error["message"]) == (400, *exchange.fault)
    assert "Retry-After" not in headers
    assert (len(rig.core.in_flight), rig.admission.inside) == (0, 0)


# --- what replicas tell of their stages -----------------------------------------------------------


def test_the_last_stage_says_what_its_results_are(rig):
    rig.learn({PATH[1]: facts("b", content_type="image/png")})
    assert rig.end(rig.submit(), buffers=[b"1"])[1]["Content-Type"] == "image/png"
    rig.learn({PATH[0]: facts("a", content_type="text/plain")})
    assert rig.route.content_type == b"image/png"


def test_a_content_type_that_is_none_is_not_believed(rig):
    rig.learn({PATH[1]: facts("b", content_type="a\r\nX: y")})
    assert rig.route.content_type == b"application/json"


def test_any_stage_may_ask_for_the_requests_particulars(rig):
    rig.learn({PATH[0]: facts("a", wants_meta=True)})
    assert rig.route.wants_meta
    exchange = rig.exchange(target=b"/inference?a=1&b=2")
    exchange.headers = [(b"X-User", b"me")]
    rig.service.submit(exchange)
    meta = exchange.request.meta
    assert (meta.method, meta.path, meta.query) == ("POST", "/inference", "a=1&b=2")
    assert meta.headers == (("X-User", "me"),)


# --- bodies that are still to come ----------------------------------------------------------------


def test_a_place_is_held_while_a_body_comes_and_given_back_once(rig):
    exchange = rig.exchange(b"x" * 70_000)
    assert rig.service.admit(exchange, 65_536) is None
    assert rig.service.admit(exchange, 131_072) is None
    assert (rig.admission.inside, rig.admission.nbytes) == (1, 131_072)
    rig.service.submit(exchange)
    assert (rig.admission.inside, rig.admission.nbytes) == (1, 70_000)
    rig.end(exchange, buffers=[b"1"])
    assert (rig.admission.inside, rig.admission.nbytes) == (0, 0)
    rig.service.gone(exchange)
    assert (rig.admission.inside, rig.admission.nbytes) == (0, 0)


def test_a_body_that_never_becomes_whole_gives_its_place_back(rig):
    exchange = rig.exchange()
    rig.service.admit(exchange, 1000)
    rig.service.gone(exchange)
    rig.service.gone(exchange)
    assert (rig.admission.inside, rig.admission.nbytes) == (0, 0)
    assert not rig.service.answers.answered  # it was no request yet


def test_bodies_that_are_still_to_come_fill_the_room():
    rig = InferenceRig(capacity=100)
    coming = [rig.exchange() for _ in range(8)]
    assert all(rig.service.admit(each, 1 << 16) is None for each in coming)  # half of a MiB
    assert b" 429 " in rig.service.admit(rig.exchange(), 1 << 16)
    assert b" 429 " in rig.service.admit(coming[0], (1 << 16) + 1)  # and it has lost its room
    assert (rig.admission.unfinished, rig.admission.nbytes) == (7, 7 << 16)
    rig.service.gone(coming[0])
    assert rig.admission.unfinished == 7


class ManyRoutes(InferenceRig):
    """Three routes of one MiB each, half of it for unfinished bodies; together they have one."""

    def __init__(self):
        super().__init__()
        self.room = ByteBudget(1 << 20)
        admissions = [Admission(10, 1 << 20) for _ in range(3)]
        self.ways = [InferenceRoute(f"/{n}", PATH, each) for n, each in enumerate(admissions)]
        self.service = InferenceService(
            self.core,
            self.ways,
            3.0,
            self.wake,
            lambda: NOW + 1,
            FailureLog(lambda: NOW + 1),
            self.room,
        )

    def begun(self, way, nbytes):
        """A request of which so much is to come, and why it may not."""
        self.route = self.ways[way]
        exchange = self.exchange()
        return exchange, self.service.admit(exchange, nbytes)


def test_unfinished_bodies_of_all_routes_have_so_much_together():
    rig = ManyRoutes()
    half = 1 << 19
    (one, none), (other, nothing), (_, refused) = [rig.begun(way, half) for way in range(3)]
    assert (none, nothing) == (None, None)
    assert b" 429 " in refused
    assert b"too many bytes of unfinished requests" in refused
    assert rig.ways[2].admission.unfinished == 0
    rig.service.gone(one)
    assert rig.begun(2, half)[1] is None
    other.body = b"1"
    rig.service.submit(other)  # it is whole, and counts as others that are
    assert other.request.charge == 1
    grows, answer = rig.begun(0, half // 2)
    assert answer is None
    assert rig.begun(1, half // 2)[1] is None
    assert b" 429 " in rig.service.admit(grows, half // 2 + 1)
    assert rig.room.take(half // 2)
    assert not rig.room.take(1)


def test_what_one_counts_for_at_the_door_is_no_matter_of_what_is_held():
    rig = ManyRoutes()
    rig.ways[0].grown = 400_000
    assert rig.begun(0, LARGE)[1] is None
    assert rig.room.take((1 << 20) - LARGE)


def test_bodies_that_never_come_leave_room_for_whole_requests():
    rig = InferenceRig(capacity=100)
    for _ in range(1_030):
        rig.service.admit(rig.exchange(), 10)
    assert rig.admission.inside == 0
    rig.wire.pending.clear()
    assert [rig.submit().request is not None for _ in range(100)] == [True] * 100


def test_large_bodies_that_never_come_take_half_of_the_places():
    rig = InferenceRig(capacity=6)
    admitted = [rig.service.admit(rig.exchange(), LARGE) is None for _ in range(6)]
    assert admitted == [True] * 3 + [False] * 3
    rig.wire.pending.clear()
    assert all(rig.submit(b"1").request is not None for _ in range(3))
    assert (rig.admission.inside, rig.admission.reserved) == (6, 3)


def test_a_body_that_grows_takes_a_place_when_it_is_large(rig):
    exchange = rig.exchange()
    rig.service.admit(exchange, 10)
    rig.service.admit(exchange, 9)
    assert (rig.admission.inside, rig.admission.nbytes) == (0, 10)
    rig.service.admit(exchange, LARGE)
    assert (rig.admission.inside, rig.admission.nbytes, rig.admission.unfinished) == (1, LARGE, 1)
    exchange.body = b"12345"
    rig.service.submit(exchange)
    assert (rig.admission.inside, rig.admission.nbytes, rig.admission.unfinished) == (1, 5, 0)


def test_a_place_counts_for_what_stages_make_of_the_request(rig):
    rig.core.sizes.learn(11, [BatchStats("a", 1, 0, 0, "idle", nbytes=4000)])
    rig.service.measure()
    exchange = rig.exchange(b"12345")
    rig.service.admit(exchange, 5)
    assert rig.admission.nbytes == 5
    rig.core.sizes.learn(11, [BatchStats("a", 1, 0, 0, "idle", nbytes=2 * LARGE)])
    rig.service.measure()
    other = rig.exchange()
    rig.service.admit(other, LARGE)
    assert rig.admission.nbytes > 5 + LARGE
    rig.service.gone(other)
    rig.route.grown = 4000
    rig.service.submit(exchange)
    assert (exchange.request.charge, rig.admission.nbytes) == (4000, 4000)


def test_a_place_is_kept_however_full_it_is_by_then():
    rig = InferenceRig(capacity=1)
    exchange = rig.exchange()
    rig.service.admit(exchange, LARGE)
    rig.service.draining = True  # it has begun
    rig.service.submit(exchange)
    assert rig.admission.inside == 1
    assert len(rig.core.in_flight) == 1


def test_what_turns_out_larger_or_wrong_gives_its_place_back():
    rig = InferenceRig(capacity=2)
    rig.submit(bytes(1 << 19))
    rig.wire.pending.clear()
    grown = rig.exchange(bytes((1 << 19) + 1))  # once it was unpacked
    rig.service.admit(grown, 10)
    rig.service.submit(grown)
    assert rig.refused()[0] == 429
    wrong = rig.exchange()
    rig.service.admit(wrong, 10)
    wrong.fault = ("decoding_error", "no gzip")
    rig.service.submit(wrong)
    assert rig.refused()[0] == 400
    assert (rig.admission.inside, rig.admission.nbytes) == (1, 1 << 19)


def test_a_stage_that_has_gone_while_the_body_came_is_named(rig):
    exchange = rig.exchange()
    rig.service.admit(exchange, 2)
    rig.service._clock = lambda: NOW + 2.5
    rig.service.submit(exchange)
    assert rig.refused()[1]["code"] == "no_replica"
    assert rig.admission.inside == 0


def test_lateness_is_judged_by_what_the_upload_left_of_the_budget():
    rig = InferenceRig(capacity=1000)
    fill(rig, 50)  # one second, and there were three
    rig.service._clock = lambda: NOW + 1.5
    in_time, late = rig.exchange(), rig.exchange()
    for exchange in (in_time, late):
        assert rig.service.admit(exchange, 2) is None
    rig.service.submit(in_time)
    assert rig.wire.written == []
    rig.wire.pending.remove(in_time)
    rig.service._clock = lambda: NOW + 1.9
    rig.service.submit(late)
    status, error, _ = rig.refused()
    assert (status, error["code"]) == (429, "cannot_meet_deadline")
    assert rig.admission.inside == 51


def test_a_route_that_moved_leads_elsewhere(rig):
    move(rig)
    assert rig.submit().request.hops == tuple((stage, "2") for stage, _ in PATH)
    assert rig.route.content_type == b"image/png"


def test_what_waits_when_a_version_takes_over_was_asked_what_that_wants(rig):
    rig.learn({("b", "2"): facts("b", version="2", wants_meta=True)})
    assert rig.submit().request.meta is not None


# --- why a request failed ---------------------------------------------------------------------


def test_the_id_that_a_client_chose_goes_with_its_task(rig):
    exchange = rig.exchange()
    exchange.request_id = b"mine"
    rig.service.submit(exchange)
    assert exchange.request.request_id == "mine"
    assert rig.submit().request.request_id is None
