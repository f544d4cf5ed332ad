"""A client's connections: one per thread, and who closes them."""

import contextlib
import os
import select
import socket
import threading
import warnings

import pytest

from mesh.client.http_client import Client
from mesh.errors import ClientError

PATIENCE = 20


class Echo:
    """Answers each POST with its own body, over any number of connections at once.

    Attributes:
        open: how many connections there are.
        hold: while it is not set, answers wait.
    """

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.open = self.seen = 0
        self.hold = threading.Event()
        self.hold.set()
        self.waiting = threading.Semaphore(0)
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *error):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hold.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def until_open(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: self.open == count, PATIENCE), self.open

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock = self._listener.accept()[0]
                self._count(1)
                self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
                self._threads[-1].start()

    def _count(self, change):
        with self._changed:
            self.open += change
            self.seen += change > 0
            self._changed.notify_all()

    def _serve(self, sock):
        with sock, sock.makefile("rb") as lines, contextlib.suppress(OSError):
            while lines.readline():
                length = 0
                while (line := lines.readline().strip()) != b"":
                    name, _, value = line.partition(b": ")
                    length = int(value) if name == b"Content-Length" else length
                body = lines.read(length)
                self.waiting.release()
                self.hold.wait(PATIENCE)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (length, body))
        self._count(-1)


@pytest.fixture
def echo():
    with Echo() as echo:
        yield echo


def in_thread(act):
    """Do something in another thread; returns when that has ended."""
    results = []
    thread = threading.Thread(target=lambda: results.append(act()))
    thread.start()
    thread.join(PATIENCE)
    return results[0]


def fork():
    """Fork although there are threads, of which Python warns from 3.12 on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def test_threads_get_their_own_answers(echo):
    wrong = []

    def ask(number):
        for count in range(50):
            question = [number, count]
            if client.infer(question) != question:
                wrong.append(question)

    with Client(echo.url) as client:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert wrong == []
    assert echo.seen == 8  # each was kept open between calls
    echo.until_open(0)


def test_a_threads_connection_ends_with_it(echo):
    with Client(echo.url) as client:
        client.infer(0)
        for number in range(3):
            assert in_thread(lambda number=number: client.infer(number)) == number
            echo.until_open(1)


def test_closing_closes_those_of_all_threads(echo):
    called, over = threading.Event(), threading.Event()

    def call_and_stay():
        client.infer(1)
        called.set()
        over.wait(PATIENCE)
        return client.infer(2)  # opens another

    client = Client(echo.url)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(call_and_stay()))
    thread.start()
    assert called.wait(PATIENCE)
    client.infer(3)
    client.close()
    echo.until_open(0)
    over.set()
    thread.join(PATIENCE)
    assert answers == [2]
    echo.until_open(0)


def test_closing_lets_a_running_call_end(echo):
    client = Client(echo.url)
    answers = []
    echo.hold.clear()
    thread = threading.Thread(target=lambda: answers.append(client.infer(1)))
    thread.start()
    assert echo.waiting.acquire(timeout=PATIENCE)
    client.close()
    echo.hold.set()
    thread.join(PATIENCE)
    assert answers == [1]
    echo.until_open(0)


def test_a_client_that_nobody_has_any_more_holds_no_connection(echo):
    Client(echo.url).infer(1)
    echo.until_open(0)


def test_a_call_within_a_call_is_refused(echo):
    """As a signal handler would make it: its answer could not be told from the other's."""
    with Client(echo.url) as client:
        own = client._own()
        own._begin()
        with pytest.raises(ClientError, match="still running"):
            client.infer(1)
        own._end()
        assert client.infer(1) == 1


def test_a_forked_child_has_connections_of_its_own(echo):
    read, write = os.pipe()
    with Client(echo.url) as client:
        client.infer("parent")
        child = fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                os.write(write, client.infer("child").encode())
                client.close()
            os._exit(0)
        assert select.select([read], [], [], PATIENCE)[0]
        assert os.read(read, 100) == b"child"
        os.waitpid(child, 0)
        echo.until_open(1)
        assert client.infer("parent") == "parent"
        assert echo.seen == 2
    os.close(read)
    os.close(write)


def test_a_forked_child_may_close_what_it_inherited(echo):
    """Also while a lock is held by a thread of the parent's, which is not in the child."""
    with Client(echo.url) as client:
        client.infer("parent")
        with client._own()._lock:
            child = fork()
            if child == 0:
                in_thread(client.close)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.infer("parent") == "parent"
        assert echo.seen == 1
