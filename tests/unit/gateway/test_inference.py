"""Between HTTP and the core: what is admitted, and how what has ended is answered."""

import json

import pytest

from gateway.inference import InferenceService
from gateway.requests.admission import Admission
from gateway.requests.core import GatewayCore
from gateway.requests.route import InferenceRoute
from gateway.web.byte_budget import ByteBudget
from gateway.web.exchange import Exchange
from gateway.web.failure_log import FailureLog
from mesh.links.events import Delivery, Identity, SessionLost, SessionStarted
from mesh.links.links import Links
from mesh.links.session import Session
from mesh.protocol.messages import BatchStats, Outcome, OutcomeKind, Outcomes, Role, StageFacts
from mesh.protocol.request_names import namer

LARGE = (1 << 16) + 1
PATH = (("a", ""), ("b", ""))
NOW = 50.0


class Wire:
    """The connection that every exchange of a test came by."""

    special = False

    def __init__(self):
        self.pending = []
        self.written = []
        self.transport = self

    def write(self, piece):
        self.written.append(bytes(piece))

    def release(self):
        while self.pending and self.pending[0].flush(self):
            del self.pending[0]

    def answers(self):
        """Status, headers and body of each answer."""
        text, self.written = b"".join(self.written), []
        found = []
        while text:
            head, _, text = text.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            length = int(headers.get("Content-Length", 0))
            found.append((int(first.split()[1]), headers, text[:length]))
            text = text[length:]
        return found


class Rig:
    def __init__(self, capacity=10):
        links = Links(Identity(0xABC, Role.GATEWAY), lambda: 0.5)
        self.core = GatewayCore(links, {"/inference": PATH}, 3, NOW)
        self.admission = Admission(capacity, 1 << 20)
        self.route = InferenceRoute("/inference", PATH, self.admission)
        self.woken = 0
        self.service = InferenceService(
            self.core, [self.route], 3.0, self.wake, lambda: NOW + 1, FailureLog(lambda: NOW + 1)
        )
        self.wire = Wire()

    def wake(self):
        self.woken += 1

    def exchange(self, body=b"{}", at=NOW, target=b"/inference"):
        made = Exchange(self.wire, self.route, target, at, b"")
        made.body = body
        self.wire.pending.append(made)
        return made

    def submit(self, *arguments, **more):
        made = self.exchange(*arguments, **more)
        self.service.submit(made)
        return made

    def hear(self, outcome):
        """Whoever holds a request says what became of it."""
        in_flight = self.core.in_flight
        ended = in_flight.settle(outcome, in_flight.requests[outcome.number])
        self.core.ended.append(ended)

    def end(self, exchange, kind=OutcomeKind.RESULT, **more):
        outcome = Outcome(exchange.request.number, 1, kind, more.pop("hop", 1), **more)
        self.hear(outcome)
        self.service.answer(self.core.take_ended())
        ((status, headers, body),) = self.wire.answers()
        return status, headers, body

    def learn(self, facts):
        self.core.replicas.facts.update(facts)
        self.service.learn()

    def refused(self):
        ((status, headers, body),) = self.wire.answers()
        return status, json.loads(body)["error"], headers


@pytest.fixture
def rig():
    return Rig()


def test_a_result(rig):
    exchange = rig.submit(b'{"x": 1}')
    request = exchange.request
    assert (request.path, request.deadline, request.buffers) == (PATH, NOW + 3, [b'{"x": 1}'])
    assert (request.nbytes, request.meta, rig.woken) == (8, None, 1)
    assert (rig.admission.inside, rig.admission.nbytes) == (1, 8)
    timings = (100, 2000, 300, 4000)
    status, headers, body = rig.end(exchange, buffers=[b"[1]"], timings=timings)
    assert (status, body, headers["X-Request-ID"]) == (200, b"[1]", namer(0xABC)(1).decode())
    assert headers["Content-Type"] == "application/json"
    assert "a;dur=2.00" in headers["Server-Timing"]
    assert "b;dur=4.00" in headers["Server-Timing"]
    assert (rig.admission.inside, rig.admission.nbytes) == (0, 0)
    assert rig.service.answered == {(200, "/inference"): 1}
    assert rig.service.durations == [1.0]
    assert (exchange.request, request.origin) == (None, exchange)  # no cycle is left to collect


def test_a_large_result_is_not_copied_behind_its_head(rig):
    exchange = rig.submit()
    status, _, body = rig.end(exchange, buffers=[bytes(70_000), b"x"])
    assert (status, len(body)) == (200, 70_001)


def test_what_the_client_said_of_itself_goes_along(rig):
    exchange = rig.exchange()
    exchange.request_id, exchange.traceparent = b"mine", "00-1-2-01"
    rig.service.submit(exchange)
    assert exchange.request.trace == "00-1-2-01"
    assert rig.end(exchange, buffers=[b"1"])[1]["X-Request-ID"] == "mine"


def test_a_worker_may_choose_status_type_and_headers(rig):
    more = {"label": "text/csv", "status": 201, "headers": (("X-Rows", "3"),)}
    status, headers, body = rig.end(rig.submit(), buffers=[b"1,2"], **more)
    assert (status, headers["Content-Type"], headers["X-Rows"], body) == (
        201,
        "text/csv",
        "3",
        b"1,2",
    )
    assert rig.service.answered == {(201, "/inference"): 1}


def test_an_answer_without_a_body(rig):
    status, _, body = rig.end(rig.submit(), buffers=[b""], status=204)
    assert (status, body) == (204, b"")


def test_headers_that_are_none_cost_the_answer_not_the_gateway(rig):
    status, _, body = rig.end(rig.submit(), buffers=[b"1"], headers=(("X\r\nY", "3"),))
    assert status == 500
    assert json.loads(body)["error"]["code"] == "encoding_error"


def test_a_failure_names_its_stage(rig):
    more = {"label": "validation_error", "text": "no", "timings": (100, 2000)}
    status, headers, body = rig.end(rig.submit(), OutcomeKind.FAILURE, hop=0, **more)
    error = json.loads(body)["error"]
    assert (status, error["code"], error["message"]) == (422, "validation_error", "no")
    assert (error["stage"], error["request_id"]) == ("a", namer(0xABC)(1).decode())
    assert "a;dur=2.00" in headers["Server-Timing"]
    status, headers, body = rig.end(rig.submit(), OutcomeKind.FAILURE, label="lost", hop=7)
    assert (status, json.loads(body)["error"]["stage"]) == (502, None)
    assert "Server-Timing" not in headers


def test_a_failure_may_have_a_code_and_status_of_the_workers_own(rig):
    own = {"label": "quota_exceeded", "text": "no", "status": 429}
    later = (("Retry-After", "60"),)
    status, headers, body = rig.end(rig.submit(), OutcomeKind.FAILURE, headers=later, **own)
    error = json.loads(body)["error"]
    assert (status, error["code"], error["retryable"]) == (429, "quota_exceeded", True)
    assert headers["Retry-After"] == "60"
    assert rig.service.answered[429, "/inference"] == 1
    status, _, body = rig.end(rig.submit(), OutcomeKind.FAILURE, headers=(("X\r\nY", "3"),), **own)
    assert (status, json.loads(body)["error"]["code"]) == (500, "server_error")


# --- who may enter --------------------------------------------------------------------------------


def test_too_many_are_refused():
    rig = Rig(capacity=1)
    first = rig.submit()
    rig.submit()
    assert rig.wire.written == []  # the second waits for its turn on the connection
    rig.hear(Outcome(first.request.number, 1, OutcomeKind.RESULT, 1, buffers=[b"1"]))
    rig.service.answer(rig.core.take_ended())
    _, (status, headers, _) = rig.wire.answers()
    assert (status, headers["Retry-After"]) == (429, "1")
    assert rig.admission.inside == 0


def test_a_large_body_may_be_refused_unread():
    rig = Rig(capacity=1)
    exchange = rig.exchange()
    assert rig.service.admit(exchange, LARGE) is None
    assert b" 429 " in rig.service.admit(rig.exchange(), 0)
    rig.service.submit(exchange)
    assert b" 429 " in rig.service.admit(rig.exchange(), 0)


def test_each_route_has_room_of_its_own():
    rig = Rig(capacity=1)
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


def accept_balance(rig, inside=100, rate=50.0):
    """Many are inside, leave at a known rate, and wait since nobody gives credit."""
    first = [rig.submit(at=NOW) for _ in range(inside)]
    rig.admission.rate = rate
    rig.wire.pending.clear()
    rig.core.advance(NOW)
    return first


def test_what_would_be_too_late_is_refused_at_the_door():
    rig = Rig(capacity=1000)
    accept_balance(rig, 130)  # 2.6 s, and there are 3
    rig.submit()
    status, error, headers = rig.refused()
    assert (status, error["code"], headers["Retry-After"]) == (429, "cannot_meet_deadline", "3")
    assert error["retryable"] is True
    assert error["message"] == "the request would take about 2.6 s, and has 3 s"
    assert rig.admission.inside == 130
    assert rig.service.answered == {(429, "/inference"): 1}
    assert b" 429 " in rig.service.admit(rig.exchange(), 10)


def test_who_overtakes_those_that_wait_is_not_too_late():
    rig = Rig(capacity=1000)
    accept_balance(rig, 100)
    exchange = rig.exchange()
    exchange.timeout = 0.2  # goes before all that have three seconds
    rig.service.submit(exchange)
    assert rig.admission.inside == 101


def test_nobody_is_too_late_while_nobody_waits():
    rig = Rig(capacity=1000)
    for number, hop in enumerate(PATH, 11):
        session = Session(rig.core.links.me, number, Role.REPLICA, 1 << 20, now=NOW)
        session.link, session.stage = number, facts(hop[0])
        rig.core.links.sessions[number] = session
        rig.core.handle_news(SessionStarted(session, False), NOW)
    rig.admission.rate = 1.0
    for number in range(20):
        rig.submit()
        assert rig.admission.inside == number + 1


def test_what_leaves_under_load_tells_the_rate():
    rig = Rig(capacity=1000)
    rig.service._clock = lambda: clock
    requests = accept_balance(rig, 100, rate=0.0)
    for number, exchange in enumerate(requests[:60]):
        clock = NOW + number / 40
        rig.hear(Outcome(exchange.request.number, 1, OutcomeKind.RESULT, 1, buffers=[b"1"]))
        rig.service.answer(rig.core.take_ended())
    assert rig.admission.rate == pytest.approx(40)
    rate = rig.admission.rate
    for exchange in requests[60:]:  # what was not served does not count
        rig.core._fail(exchange.request, "deadline_exceeded", "late")
        rig.service.answer(rig.core.take_ended())
    assert (rig.admission.inside, rig.admission.rate) == (0, rate)


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
    assert rig.service.answered == {(499, "/inference"): 1}
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


def facts(stage, **more):
    return StageFacts(stage, "", 1, 3.0, 1 << 20, **more)


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
    assert not rig.service.answered  # it was no request yet


def test_bodies_that_are_still_to_come_fill_the_room():
    rig = Rig(capacity=100)
    coming = [rig.exchange() for _ in range(8)]
    assert all(rig.service.admit(each, 1 << 16) is None for each in coming)  # half of a MiB
    assert b" 429 " in rig.service.admit(rig.exchange(), 1 << 16)
    assert b" 429 " in rig.service.admit(coming[0], (1 << 16) + 1)  # and it has lost its room
    assert (rig.admission.unfinished, rig.admission.nbytes) == (7, 7 << 16)
    rig.service.gone(coming[0])
    assert rig.admission.unfinished == 7


class ManyRoutes(Rig):
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
    rig = Rig(capacity=100)
    for _ in range(1_030):
        rig.service.admit(rig.exchange(), 10)
    assert rig.admission.inside == 0
    rig.wire.pending.clear()
    assert [rig.submit().request is not None for _ in range(100)] == [True] * 100


def test_large_bodies_that_never_come_take_half_of_the_places():
    rig = Rig(capacity=6)
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
    rig = Rig(capacity=1)
    exchange = rig.exchange()
    rig.service.admit(exchange, LARGE)
    rig.service.draining = True  # it has begun
    rig.service.submit(exchange)
    assert rig.admission.inside == 1
    assert len(rig.core.in_flight) == 1


def test_what_turns_out_larger_or_wrong_gives_its_place_back():
    rig = Rig(capacity=2)
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
    rig = Rig(capacity=1000)
    accept_balance(rig, 50)  # one second, and there were three
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


def test_an_answer_that_cannot_be_given_costs_no_other(caplog):
    rig = Rig()
    ones = [rig.submit(), rig.submit()]
    write, writes = rig.wire.write, iter([lambda _: 1 / 0])
    rig.wire.write = lambda piece: next(writes, write)(piece)
    for exchange in ones:
        rig.hear(Outcome(exchange.request.number, 1, OutcomeKind.RESULT, 1, buffers=[b"{}"]))
    rig.service.answer(rig.core.take_ended())
    assert rig.admission.inside == 0
    assert rig.service.answered == {(500, "/inference"): 1, (200, "/inference"): 1}
    assert "ZeroDivisionError" in caplog.text
    assert len(rig.wire.answers()) == 2


def move(rig):
    """A later version takes over; its results are images, and it wants to know of the requests."""
    more = {"content_type": "image/png", "version": "2", "wants_meta": True}
    later = StageFacts("b", "2", 1, 3.0, 1 << 20, **more)
    rig.learn({("b", "2"): later})
    rig.core.replicas.move(later, NOW)
    rig.core.queues.move(rig.core.replicas.routes)
    rig.service.learn()


def test_a_route_that_moved_leads_elsewhere(rig):
    move(rig)
    assert rig.submit().request.path == tuple((stage, "2") for stage, _ in PATH)
    assert rig.route.content_type == b"image/png"


def test_results_of_a_former_version_are_what_it_said(rig):
    rig.learn({PATH[1]: facts("b")})
    exchange = rig.submit()
    rig.core.queues.withdraw(exchange.request)  # a replica has it
    move(rig)
    status, headers, _ = rig.end(exchange, buffers=[b"[1]"])
    assert (status, headers["Content-Type"]) == (200, "application/json")


def test_what_waits_when_a_version_takes_over_was_asked_what_that_wants(rig):
    rig.learn({("b", "2"): facts("b", version="2", wants_meta=True)})
    assert rig.submit().request.meta is not None


# --- why a request failed ---------------------------------------------------------------------


def replica(rig, incarnation=0x3F, stage="a"):
    session = Session(0xABC, incarnation, Role.REPLICA, 1 << 20, now=NOW)
    session.link, session.host, session.pid = incarnation, "gpu-1", 812
    session.stage = StageFacts(stage, "", 4, 3.0, 1 << 20)
    rig.core.links.sessions[incarnation] = session
    rig.core.handle_news(SessionStarted(session, False), NOW)
    return session


def test_what_a_replica_fails_leaves_a_line_that_names_it(rig, caplog):
    session = replica(rig)
    exchange = rig.exchange()
    exchange.request_id = b"mine"
    rig.service.submit(exchange)
    exchange.request.holder = session.peer
    failure = Outcome(1, 1, OutcomeKind.FAILURE, label="server_error", text="the worker failed")
    rig.core.delivered(Delivery(session, (), Outcomes([failure])), NOW)
    rig.service.answer(rig.core.take_ended())
    assert rig.refused()[0] == 500
    assert caplog.messages == [
        "request mine to /inference: 500 server_error, stage a, "
        "replica 000000000000003f (gpu-1, pid 812): the worker failed"
    ]


def test_a_request_that_is_lost_names_the_replica_that_is_gone(rig, caplog):
    session = replica(rig)
    exchange = rig.submit()
    rig.core.in_flight.assign([exchange.request], session.peer)
    exchange.request.deaths = 2
    del rig.core.links.sessions[session.peer]
    rig.core.handle_news(SessionLost(session, "its link closed"), NOW)
    rig.service.answer(rig.core.take_ended())
    assert rig.refused()[1]["code"] == "lost"
    assert "502 lost, stage a, replica 000000000000003f (gpu-1, pid 812): 3 replicas" in caplog.text


def test_what_the_gateway_gives_up_leaves_a_line_and_what_clients_did_none(rig, caplog):
    rig.end(rig.submit(), OutcomeKind.FAILURE, label="deadline_exceeded", text="over", hop=0)
    rig.end(rig.submit(), OutcomeKind.FAILURE, label="bad_request", text="no", hop=0)
    rig.end(rig.submit(), OutcomeKind.RESULT, status=503, buffers=[b"busy"])
    rig.end(rig.submit(), OutcomeKind.RESULT, status=700)
    caplog.set_level("INFO")
    rig.service.draining = True
    rig.submit()
    assert rig.refused()[0] == 503
    assert [line.partition(" to ")[2] for line in caplog.messages] == [
        "/inference: 504 deadline_exceeded, stage a: over",
        "/inference: 503, stage b: the worker chose this status in a Reply",
        "/inference: 500 encoding_error, stage b: "
        "a worker chose the status 700; choose one from 200 to 599",
        "/inference: 503 draining: this gateway is stopping",  # this one is no fault: info
    ]


def test_the_line_of_a_failure_says_what_was_raised(rig, caplog):
    for text, raised in (
        ("the worker failed", [b"ValueError: boom"]),
        ("out of memory", [b"ServerError: out of memory", b"Traceback"]),
        ("over", [b""]),
    ):
        rig.end(
            rig.submit(),
            OutcomeKind.FAILURE,
            label="server_error",
            text=text,
            buffers=raised,
            hop=0,
        )
    assert [line.partition(": ")[2] for line in caplog.messages] == [
        "500 server_error, stage a: the worker failed: ValueError: boom",
        "500 server_error, stage a: ServerError: out of memory",
        "500 server_error, stage a: over",
    ]


def test_with_debug_clients_are_shown_what_was_raised_and_without_it_not(rig):
    shown = {"label": "server_error", "text": "the worker failed", "hop": 0}
    for debug in (False, True):
        rig.service.debug = debug
        _, _, body = rig.end(
            rig.submit(), OutcomeKind.FAILURE, buffers=[b"ValueError: boom", b"Trace\xff"], **shown
        )
        error = json.loads(body)["error"]
        if debug:
            assert (error["message"], error["traceback"]) == ("ValueError: boom", "Trace\ufffd")
        else:
            assert error["message"] == "the worker failed"
            assert "traceback" not in error
    _, _, body = rig.end(rig.submit(), OutcomeKind.FAILURE, **shown)
    assert json.loads(body)["error"]["message"] == "the worker failed"


def test_the_id_that_a_client_chose_goes_with_its_task(rig):
    exchange = rig.exchange()
    exchange.request_id = b"mine"
    rig.service.submit(exchange)
    assert exchange.request.request_id == "mine"
    assert rig.submit().request.request_id is None
