"""What a `Network` must do: the same of memory and of ZeroMQ over ipc, tcp, and tcp with keys."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from networks import Memory, Real, Setup, flat
from zmq.utils import garbage

from mesh.errors import StartError
from mesh.protocol.fields import Frame
from mesh.transport.network import NetworkEvent

KiB = 1024
SIZES = [0, 1, 16 * KiB, 64 * KiB - 1, 64 * KiB, 64 * KiB + 1, 1024 * KiB]


@pytest.fixture(scope="module", autouse=True)
def _no_thread_of_libraries() -> Iterator[None]:
    """pyzmq keeps one that frees what was sent uncopied; it starts again when it is needed."""
    yield
    garbage.gc.stop()


@pytest.fixture(params=["memory", "ipc", "tcp", "keys"])
def setup(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Setup]:
    made: Setup = Memory() if request.param == "memory" else Real(tmp_path, request.param)
    yield made
    made.close()


def test_version_6_of_ip(tmp_path: Path) -> None:
    made = Real(tmp_path, "tcp6")
    try:
        listener, dialler, number = made.joined()
        assert listener.network.send(number, [b"back"])
        assert made.until(dialler.messages)
        assert dialler.messages() == [[b"back"]]
        assert made.end().network.listen("tcp://[::]:*").startswith("tcp://[::]:")
    finally:
        made.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_version_4_of_ip_is_shown_as_such(tcp: Real, host: str) -> None:
    assert tcp.end().network.listen(f"tcp://{host}:*").startswith(f"tcp://{host}:")


@pytest.fixture
def tcp(tmp_path: Path) -> Iterator[Real]:
    made = Real(tmp_path, "tcp")
    yield made
    made.close()


def test_listen_fills_in_wildcards_and_refuses_a_taken_address(setup: Setup) -> None:
    address = setup.end().network.listen(setup.address())
    assert "*" not in address
    if not address.startswith("ipc"):  # libzmq takes a socket file over
        with pytest.raises(StartError, match="cannot listen at"):
            setup.end().network.listen(address)


def test_an_address_that_is_none_cannot_be_listened_at(tcp: Real) -> None:
    with pytest.raises(StartError, match="cannot listen at tcp://256"):
        tcp.end().network.listen("tcp://256.0.0.1:7000")


def test_a_dialled_link_is_opened_once(setup: Setup) -> None:
    listener, dialler = setup.end(), setup.end()
    dialler.network.dial(-1, listener.network.listen(setup.address()))
    assert setup.until(lambda: dialler.happened(NetworkEvent.OPENED, -1))
    setup.until(lambda: False, 0.05)
    assert dialler.events == [(NetworkEvent.OPENED, -1, ())]
    assert not listener.events


def test_who_probes_learns_whether_anybody_listens(setup: Setup) -> None:
    asking = setup.end()
    address, kill = setup.mortal_listener()
    asking.network.probe(7, address)
    assert setup.until(lambda: asking.events)
    assert asking.events == [(NetworkEvent.LISTENING, 7, ())]
    kill()  # which takes a moment
    for _ in range(20):
        asking.network.probe(8, address)
        if setup.until(lambda: asking.happened(NetworkEvent.REFUSED), 0.2):
            break
    assert asking.events[-1] == (NetworkEvent.REFUSED, 8, ())
    asking.network.probe(9, address)
    asking.network.close()
    setup.ends.remove(asking)


def test_nobody_listens_and_the_link_never_opens(setup: Setup) -> None:
    gone, dialler = setup.end(), setup.end()
    address = gone.network.listen(setup.address())
    gone.network.close()
    setup.ends.remove(gone)
    dialler.network.dial(-1, address)
    assert not setup.until(lambda: dialler.events, 0.3)
    assert not dialler.network.send(-1, [b"to nobody"])
    dialler.network.hang_up(-1)
    listener = setup.end()
    listener.network.listen(address)
    dialler.network.dial(-2, address)
    assert setup.until(lambda: dialler.happened(NetworkEvent.OPENED, -2))
    assert not dialler.happened(NetworkEvent.OPENED, -1)


def test_an_address_that_means_nothing_is_an_attempt_that_fails(setup: Setup) -> None:
    dialler = setup.end()
    dialler.network.dial(-1, "nonsense")
    assert not setup.until(lambda: dialler.events, 0.1)
    assert not dialler.network.send(-1, [b"to nobody"])
    dialler.network.hang_up(-1)


@pytest.mark.parametrize("size", SIZES)
def test_frames_arrive_as_they_were_sent(setup: Setup, size: int) -> None:
    listener, dialler, number = setup.joined()
    payload = os.urandom(size)
    sent: list[Frame] = [b"first", payload, b"", bytearray(payload), memoryview(payload), b"last"]
    assert dialler.network.send(-1, sent)
    assert listener.network.send(number, sent)
    assert setup.until(lambda: listener.messages() and dialler.messages())
    assert listener.messages() == dialler.messages() == [flat(sent)]
    ((happened, link, frames),) = dialler.events
    assert (happened, link) == (NetworkEvent.MESSAGE, -1)
    assert type(frames[0]) is bytes


def test_a_message_of_many_frames_arrives_whole(setup: Setup) -> None:
    listener, dialler, _ = setup.joined()
    sent = [b"%d" % i * 300 for i in range(1024)]
    assert dialler.network.send(-1, sent)
    assert setup.until(listener.messages)
    assert listener.messages() == [sent]


def test_order_is_kept_both_ways(setup: Setup) -> None:
    listener, dialler, number = setup.joined()
    sent = [[b"%d" % i, bytes(i % 7 * 20000)] for i in range(600)]
    for frames in sent:
        assert dialler.network.send(-1, frames)
        assert listener.network.send(number, frames)
    assert setup.until(lambda: len(listener.messages()) == len(dialler.messages()) == 600)
    assert listener.messages() == dialler.messages() == sent
    assert listener.links() == [number]


def test_each_dialler_has_a_number_of_its_own(setup: Setup) -> None:
    listener, one, two = setup.end(), setup.end(), setup.end()
    address = listener.network.listen(setup.address())
    for end, text in (one, b"one"), (two, b"two"):
        end.network.dial(-1, address)
        assert setup.until(lambda end=end: end.happened(NetworkEvent.OPENED))  # type: ignore[misc]
        assert end.network.send(-1, [text])
    assert setup.until(lambda: len(listener.messages()) == 2)
    numbers = {bytes(frames[0]): link for _, link, frames in listener.events}
    assert len(set(numbers.values())) == 2
    assert all(number > 0 for number in numbers.values())
    assert listener.network.send(numbers[b"two"], [b"for two"])
    assert setup.until(two.messages)
    assert not one.messages()


def test_one_end_may_have_many_links(setup: Setup) -> None:
    dialler = setup.end()
    listeners = [setup.end() for _ in range(3)]
    for i, listener in enumerate(listeners, 1):
        dialler.network.dial(-i, listener.network.listen(setup.address()))
    assert setup.until(lambda: all(dialler.happened(NetworkEvent.OPENED, -i) for i in (1, 2, 3)))
    for i in (1, 2, 3):
        assert dialler.network.send(-i, [b"%d" % i])
    assert setup.until(lambda: all(listener.messages() for listener in listeners))
    assert [listener.messages() for listener in listeners] == [[[b"1"]], [[b"2"]], [[b"3"]]]


def test_whoever_hangs_up_may_not_send_and_the_other_is_refused(setup: Setup) -> None:
    listener, dialler, number = setup.joined()
    dialler.network.hang_up(-1)
    assert not dialler.network.send(-1, [b"no more"])
    assert setup.until(lambda: listener.happened(NetworkEvent.DOUBT))
    assert setup.until(lambda: not listener.network.send(number, [b"are you there?"]), 0.2)
    assert not listener.network.send(number, [b"still not"])
    listener.network.hang_up(number)
    dialler.network.hang_up(-1)


def test_a_listener_that_closes_is_seen_at_once(setup: Setup) -> None:
    listener, dialler, _ = setup.joined()
    begun = setup.now()
    listener.network.close()
    setup.ends.remove(listener)
    assert setup.until(lambda: dialler.happened(NetworkEvent.CLOSED, -1))
    assert setup.now() - begun < 0.2
    assert not dialler.network.send(-1, [b"gone"])


def test_what_was_sent_before_the_end_is_received_before_it(setup: Setup) -> None:
    listener, dialler, number = setup.joined()
    for i in range(20):
        assert listener.network.send(number, [b"%d" % i])
    assert setup.until(dialler.messages)
    setup.until(lambda: len(dialler.messages()) == 20)
    listener.network.close()
    setup.ends.remove(listener)
    assert setup.until(lambda: dialler.happened(NetworkEvent.CLOSED, -1))
    assert dialler.events[-1][0] is NetworkEvent.CLOSED
    assert dialler.messages() == [[b"%d" % i] for i in range(20)]


def test_a_name_that_the_listener_forgets_comes_back_as_another(setup: Setup) -> None:
    listener, dialler, number = setup.joined()
    listener.network.hang_up(number)
    assert not listener.network.send(number, [b"whom?"])
    assert dialler.network.send(-1, [b"me"])
    assert setup.until(listener.messages)
    (again,) = listener.links()
    assert again != number
    assert listener.network.send(again, [b"you"])
    assert setup.until(dialler.messages)


def test_a_dialler_that_is_killed_is_seen_at_once(setup: Setup) -> None:
    listener = setup.end()
    kill = setup.mortal_dialler(listener.network.listen(setup.address()))
    assert setup.until(listener.messages)
    (number,) = listener.links()
    assert listener.network.send(number, [b"alive"])
    kill()
    begun = setup.now()
    assert setup.until(lambda: listener.happened(NetworkEvent.DOUBT))
    assert setup.until(lambda: not listener.network.send(number, [b"alive?"]))
    assert setup.now() - begun < 0.2


def test_a_listener_that_is_killed_is_seen_at_once(setup: Setup) -> None:
    dialler = setup.end()
    address, kill = setup.mortal_listener()
    dialler.network.dial(-1, address)
    assert setup.until(lambda: dialler.happened(NetworkEvent.OPENED, -1))
    kill()
    begun = setup.now()
    assert setup.until(lambda: dialler.happened(NetworkEvent.CLOSED, -1))
    assert setup.now() - begun < 0.2


def test_doubt_comes_again_until_it_is_certain(setup: Setup) -> None:
    listener, dialler, number = setup.joined()
    dialler.network.close()
    setup.ends.remove(dialler)
    assert setup.until(lambda: listener.happened(NetworkEvent.DOUBT))
    assert setup.until(lambda: not listener.network.send(number, [b"?"]), 0.1)
    setup.until(lambda: False, 0.1)
    assert listener.network.next_due() == float("inf")


def test_a_link_that_nobody_reads_is_refused_in_the_end(setup: Setup) -> None:
    listener, dialler, number = setup.joined()
    setup.ends.remove(dialler)  # it is there, but turns no more
    frames = [bytes(50_000)]
    sent = 0
    while listener.network.send(number, frames) and sent < 20_000:
        sent += 1
    assert 1000 < sent < 20_000
    assert not listener.network.send(number, [b"more"])
    dialler.network.close()


def test_nothing_is_pending_when_all_has_been_received(setup: Setup) -> None:
    listener, dialler, number = setup.joined()
    assert setup.until(lambda: not listener.network.is_pending())
    assert listener.network.next_due() == float("inf")
    assert listener.network.send(number, [b"x"])
    assert setup.until(dialler.messages)
    assert setup.until(lambda: not dialler.network.is_pending())
    assert dialler.network.receive() == []


def test_a_flood_is_taken_in_turns_and_the_rest_is_pending(setup: Setup) -> None:
    listener, dialler, number = setup.joined()
    for _ in range(1000):
        assert dialler.network.send(-1, [b"x"])
        assert listener.network.send(number, [b"x"])
    assert setup.until(lambda: len(listener.messages()) == len(dialler.messages()) == 1000)


def test_closed_networks_leave_nothing_open(tcp: Real) -> None:
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    listener, _, number = tcp.joined()
    listener.network.send(number, [bytes(1024 * KiB)])
    tcp.close()
    tcp.ends.clear()
    tcp._polls.clear()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_a_bind_that_fails_leaves_nothing_open(tcp: Real) -> None:
    before = len(os.listdir("/proc/self/fd"))
    end = tcp.end()
    with pytest.raises(StartError):
        end.network.listen("tcp://256.0.0.1:7000")
    tcp.close()
    tcp.ends.clear()
    tcp._polls.clear()
    assert len(os.listdir("/proc/self/fd")) == before


def test_garbage_disturbs_nobody(tcp: Real) -> None:
    listener, dialler = tcp.end(), tcp.end()
    address = listener.network.listen(tcp.address())
    dialler.network.dial(-1, address)
    assert tcp.until(lambda: dialler.happened(NetworkEvent.OPENED, -1))
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    # Some of this is a message to libzmq, of a peer that speaks its oldest dialect. `Links` asks
    # such a one who it is, and lets it go.
    noises = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(1000),
        b"\xff" * 1000,
        Random(0).randbytes(5000),
    ]
    for noise in noises:
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(noise)
            assert dialler.network.send(-1, [b"through"])
            assert tcp.until(lambda: [b"through"] in listener.messages())
            (number,) = [n for _, n, frames in listener.events if flat(frames) == [b"through"]]
            assert listener.network.send(number, [b"and back"])
            assert tcp.until(dialler.messages)
            listener.events.clear()
            dialler.events.clear()
