"""Strangers at a running mesh port: each gets a clear answer or none, and others lose nothing."""

import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
import zmq
from site_runs import PATIENCE, running, service_text, settings

from benchmarks.ports import free_port
from mesh.protocol.messages import (
    Err,
    Header,
    Hello,
    Outcome,
    OutcomeKind,
    Outcomes,
    Ping,
    Role,
    StageFacts,
    Tasks,
    Welcome,
)
from mesh.protocol.wire import VERSION, decode, encode, seal

strangers = count(0xBAD)  # each is another process, as far as anybody can tell
STAGE = StageFacts("echo", "another revision", 4, 3.0, 1 << 20)


def raw(site):
    return socket.create_connection(("127.0.0.1", site.mesh_port), timeout=PATIENCE)


class Stranger:
    """A DEALER that says what it likes."""

    def __init__(self, context, site):
        self.me = next(strangers)
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDTIMEO, 5000)
        self.socket.connect(f"tcp://127.0.0.1:{site.mesh_port}")

    def say(self, message, receiver=0, sequence=0):
        self.send(written(message, receiver, sequence, self.me))

    def send(self, frames):
        self.socket.send_multipart(frames)

    def hear(self, wait=5.0):
        """The next message, or None."""
        if not self.socket.poll(int(wait * 1000)):
            return None
        return decode([memoryview(frame) for frame in self.socket.recv_multipart()], 0.0)

    def greet(self, **changed):
        self.say(hello(**changed))
        while type((heard := self.hear())[1]) is Ping:
            pass
        return heard


def hello(**changed):
    fields = {"nonce": 5, "mesh": "mesh", "versions": (VERSION,), "stage": STAGE} | changed
    return Hello(Role.REPLICA, **fields)


def written(message, receiver=0, sequence=0, sender=0xBAD):
    encoded = encode(message)
    frames = seal(Header(encoded.type, sender, receiver, sequence), encoded)
    return [bytes(frame) for frame in frames]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("service"), free_port()
    gateway = {"bind": f"tcp://127.0.0.1:{port}", "insecure": True, "timeout": "5s"}
    with running(folder, service_text("echo"), settings({"echo": "Echo"}, **gateway)) as made:
        made.mesh_port = port
        yield made
    assert "Traceback" not in made.log()


@pytest.fixture
def stranger(site):
    """One that comes while requests are served, all of which must succeed."""
    over, wrong, served = threading.Event(), [], []

    def ask():
        with site.client() as client:
            while not over.is_set():
                answer = client.post("/inference", "x")
                served.append(answer.status)
                if not answer.ok:
                    wrong.append(answer.body)

    resumes = site.metric("mesh_link_resumes_total")
    with zmq.Context() as context, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        one = Stranger(context, site)
        try:
            yield one
            before = len(served)
            site.until(lambda: len(served) >= before + 20, "nothing is served any more")
        finally:
            one.socket.close(0)
            over.set()
            asking.result(PATIENCE)
    assert not wrong
    assert site.metric("mesh_link_resumes_total") == resumes
    assert site.metric("mesh_replica_up") == 1


def errors(site, least):
    """Wait until so many messages more were counted as meaning nothing."""
    site.until(lambda: site.metric("mesh_protocol_errors_total") >= least, "not counted")


# --- before a greeting ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frames",
    [
        [b"nonsense"],
        [b""],
        [random.Random(1).randbytes(5000)],
        [written(hello())[0][:20]],
        [written(hello())[0][:56]],
        [written(hello())[0][:-7]],
        [b"x"] * 1025,
    ],
    ids=["text", "empty", "noise", "half a header", "header alone", "cut", "too many frames"],
)
def test_garbage_and_what_was_cut_off_is_counted_and_dropped(site, stranger, frames):
    before = site.metric("mesh_protocol_errors_total")
    for _ in range(10):
        stranger.send(frames)
    errors(site, before + 10)


def test_a_frame_that_is_too_large_ends_its_connection_before_it_is_read(site, stranger):
    monitor = stranger.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    try:
        assert type(stranger.greet()[1]) is Welcome
        stranger.send([bytes(6 << 20)])
        assert monitor.poll(10_000), "the connection stays"
    finally:
        stranger.socket.disable_monitor()
        monitor.close()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"mesh": "another"}, "this is mesh 'mesh', not 'another'"),
        ({"versions": (99,)}, f"version {VERSION} is spoken here, not [99]"),
    ],
)
def test_a_peer_of_another_mesh_or_version_is_told_so(stranger, changed, said):
    _, answer = stranger.greet(**changed)
    assert answer == Err(0, said)


@pytest.mark.parametrize(
    "message", [Ping(1), Tasks([]), Outcomes([Outcome(1, 1, OutcomeKind.RESULT)])]
)
def test_who_never_said_hello_is_asked_to(stranger, message):
    stranger.say(message, sequence=1)
    header, _ = stranger.hear()
    assert header.type.name == "WHO"


# --- after it -------------------------------------------------------------------------------------


def test_a_hello_that_is_repeated_gets_the_same_welcome_and_nothing_else(stranger):
    answers = [stranger.greet() for _ in range(50)]
    assert len({welcome.nonce for _, welcome in answers}) == 1
    assert {type(welcome) for _, welcome in answers} == {Welcome}


def test_a_message_that_is_repeated_counts_once(site, stranger):
    header, _ = stranger.greet()
    before = site.metric("mesh_late_outcomes_total")
    for _ in range(50):
        stranger.say(Outcomes([Outcome(987654, 1, OutcomeKind.RESULT)]), header.sender, sequence=1)
    site.until(lambda: site.metric("mesh_late_outcomes_total") > before, "never counted")
    for _ in range(20):  # whatever is still to come has come by now
        stranger.say(Ping(1), header.sender)
    assert stranger.hear() is not None
    assert site.metric("mesh_late_outcomes_total") == before + 1


def test_a_greeted_peer_whose_message_means_nothing_is_told_which(site, stranger):
    header, _ = stranger.greet()
    before = site.metric("mesh_protocol_errors_total")
    message = Outcomes([Outcome(1, 1, OutcomeKind.RESULT)])
    (frame,) = written(message, header.sender, 1, stranger.me)
    stranger.send([frame[:-1]])
    errors(site, before + 1)
    answers = iter(lambda: stranger.hear()[1], None)
    assert next(one for one in answers if type(one) is Err).sequence == 1


def test_a_gap_costs_the_one_who_made_it_its_connection(site, stranger):
    header, _ = stranger.greet()
    stranger.say(Outcomes([]), header.sender, sequence=500)
    site.until(lambda: (heard := stranger.hear()) and heard[0].type.name == "WHO")


# --- no ZeroMQ at all -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        bytes(1000),
        b"\xff" * 100_000,
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03",
        random.Random(2).randbytes(50_000),
    ],
    ids=["http", "zeros", "ones", "half a greeting", "noise"],
)
def test_a_raw_client_disturbs_nobody(site, stranger, noise):
    connections = [raw(site) for _ in range(20)]
    try:
        for connection in connections:
            try:
                connection.sendall(noise)
            except OSError:
                continue  # it was cut off already
        assert type(stranger.greet()[1]) is Welcome
    finally:
        for connection in connections:
            connection.close()


def test_connections_that_come_and_go_leave_nothing(site, stranger):
    for _ in range(200):
        raw(site).close()
    assert type(stranger.greet()[1]) is Welcome
