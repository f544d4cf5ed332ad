"""What a service writes: whoever reads it or not, whatever a worker prints or configures."""

import contextlib
import http.client
import json
import os
import pty
import re
import socket
import sys
import termios
from time import monotonic

import pytest
from site_runs import MESH, PATIENCE, Site, service_text, settings, until

SERVICE = service_text("executes")
NAMES = ("talk", "crash", "configure")
GATEWAY = {"access_log": True, "access_log_query": True, "timeout": "30s", "restart_grace": "30s"}


def described(**top):
    routes = {f"/{name}": [name] for name in NAMES}
    return settings(dict.fromkeys(NAMES, "Do"), routes, top, **GATEWAY)


LONG = "x" * 1000  # makes a line of the access log long
MANY = 2000  # requests with it: more lines than a pipe and our buffer hold


def post(site, path, code):
    """Have a worker do something; returns the answer's status, id and value."""
    status, headers, body = site.send("POST", path, json.dumps(code))
    return status, headers["X-Request-ID"], json.loads(body)


def ask(site, count, query=LONG):
    """So many requests on one connection; every one must be answered."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE)
    for number in range(count):
        connection.request("POST", f"/talk?{query}", json.dumps(f"answer = {number}"))
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (200, number)
    connection.close()


@contextlib.contextmanager
def serving(folder, out, err=None, command=(MESH, "up"), service=SERVICE, file=None):
    """What `command` serves, and what it writes goes where a test wants."""
    site = Site(folder, service, file or described())
    with contextlib.closing(site):
        site.start(*command, stdout=out, stderr=err or out, start_new_session=True)
        site.wait_ready()
        yield site


def read_until(fd, mark, end=PATIENCE):
    """What can be read from a descriptor up to a text, given as a pattern."""
    got, until = b"", monotonic() + end
    while not re.search(mark, got):
        assert monotonic() < until, got[-2000:]
        got += os.read(fd, 1 << 20)
    return got.decode()


@contextlib.contextmanager
def ends(pair):
    """Two descriptors, closed in the end where they are not yet."""
    try:
        yield pair
    finally:
        for fd in pair:
            with contextlib.suppress(OSError):
                os.close(fd)


# --- nobody reads it ------------------------------------------------------------------------------


def test_nobody_reads_the_log_pipe(tmp_path):
    with ends(os.pipe()) as (read, write), serving(tmp_path, write) as service:
        ask(service, MANY)
        for _ in range(5):  # what a worker prints, too
            assert post(service, "/talk", f"for _ in range(200): print({LONG!r})")[0] == 200
        # The gateway's own word on it: replicas drop lines, too, and say so when it is their turn.
        text = read_until(
            read, rb'"gateway","message":"\d+ log lines were dropped while the log was not'
        )
        lines = [json.loads(line) for line in text.splitlines()[:-1]]
        told = [line["message"] for line in lines if line["source"] == "gateway"]
        assert told.count("POST /talk 200") > 500
        ask(service, 1, "again")
        assert "again" in read_until(read, b'"query":"again"')
        ask(service, MANY)
        service.end()


def test_the_terminal_is_stopped(tmp_path):
    """Ctrl-S, or a terminal that hangs."""
    with ends(pty.openpty()) as (master, slave), serving(tmp_path, slave) as service:
        read_until(master, b"serving http://")
        termios.tcflow(slave, termios.TCOOFF)
        ask(service, MANY)
        termios.tcflow(slave, termios.TCOON)
        text = read_until(master, b"log lines were dropped while the log was not read")
        assert "gateway    POST /talk 200" in text  # on a terminal it is text
        ask(service, 1, "again")
        read_until(master, rb"\?again")
        termios.tcflow(slave, termios.TCOOFF)
        ask(service, MANY)
        service.end()
        termios.tcflow(slave, termios.TCOON)


def test_the_reader_of_the_log_goes_away(tmp_path):
    with ends(os.pipe()) as (read, write), serving(tmp_path, write) as service:
        os.close(read)
        ask(service, 200)
        assert post(service, "/talk", "print('to nobody'); answer = 5")[2] == 5
        service.end()


def test_the_disk_is_full(tmp_path):
    with open("/dev/full", "w") as full, serving(tmp_path, full) as service:
        ask(service, 200)
        assert post(service, "/talk", "print('to nowhere'); answer = 5")[2] == 5
        service.end()


def test_the_log_is_a_socket_that_nobody_reads(tmp_path):
    ours, theirs = socket.socketpair()
    with ours, theirs, serving(tmp_path, theirs.fileno()) as service:
        ask(service, MANY)
        text = read_until(ours.fileno(), b"dropped while the log was not read")
        assert '"message":"POST /talk 200"' in text
        ask(service, MANY)
        service.end()


def test_the_others_who_write_there_may_still_wait(tmp_path):
    """O_NONBLOCK belongs to the open file, which whoever started us shares."""
    with ends(os.pipe()) as (read, write), serving(tmp_path, write) as service:
        assert os.get_blocking(write)
        service.end()
        read_until(read, b'"message":"stopped"')
        assert os.get_blocking(write)


PRINTS = {
    "command": [sys.executable, "service.py"],
    "service": service_text("prints_at_the_end"),
}


def fill(fd):
    """Write until nothing more goes into a pipe."""
    own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(own, b"x")
    os.close(own)


def test_a_script_whose_log_nobody_reads_ends_although_it_prints(tmp_path):
    with ends(os.pipe()) as (_, write), serving(tmp_path, write, **PRINTS) as site:
        fill(write)
        site.stop()
        assert site.service.wait(15.0) == 0
        assert (tmp_path / "over").exists()


def test_what_a_script_prints_to_a_pipe_of_its_own_is_whole_and_as_it_is(tmp_path):
    with ends(os.pipe()) as (read, write), (tmp_path / "log").open("wb") as log:
        with serving(tmp_path, write, log, **PRINTS) as site:
            site.end()
        assert os.read(read, 100) == b"done\n"
    assert (tmp_path / "log").read_text().splitlines()[-1] == "done"


# --- what a worker prints and logs ----------------------------------------------------------------


class Talk:
    """A running service that logs into a file, and the lines that came of what a test had done."""

    def __init__(self, site, file):
        self.site, self._file = site, file

    def do(self, code, path="/talk", status=200):
        """Have a worker do something; returns its answer's id and the lines that came of it."""
        seen = len(self.lines())
        got, name, value = post(self.site, path, code)
        assert got == status, value
        until(lambda: self._logged(name))
        return name, [line for line in self.lines()[seen:] if "method" not in line]

    def _logged(self, name):
        return any(line.get("id") == name and "method" in line for line in self.lines())

    def lines(self):
        text = self.text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def text(self):
        return self._file.read_bytes().decode()


@contextlib.contextmanager
def talking(folder, **described):
    file = folder / "said"
    with file.open("wb") as out, serving(folder, out, **described) as service:
        yield Talk(service, file)
        service.end()


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    with talking(tmp_path_factory.mktemp("talk")) as talk:
        yield talk


def messages(lines, **wanted):
    return [line["message"] for line in lines if wanted.items() <= line.items()]


def test_print_is_a_record_at_once(talk):
    name, (line,) = talk.do("print('hello', 5)")
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "source": "talk/1",
        "message": "hello 5",
        "stream": "stdout",
        "ids": [name],
    }


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('a', end=''); print('b')", ["ab"]),
        ("print('a', end='', flush=True); print('b')", ["a", "b"]),
        ("print('a\\nb')", ["a", "b"]),
        ("print()", []),
        ("print('x' * 200_000)", ["x" * 200_000]),
        ("sys.stdout.buffer.write(b'bytes\\n')", ["bytes"]),
        ("sys.stdout.writelines(['one\\n', 'two\\n'])", ["one", "two"]),
        ("print('\\udc80\\u00e4')", ["\\udc80ä"]),
        ("sys.stdout.buffer.write(b'\\xff\\n')", ["\\xff"]),
        ("print('\\r'.join(f'{n} %' for n in range(100)))", ["99 %"]),
        ("sys.__stdout__.write('put back\\n')", ["put back"]),
        ("f = io.TextIOWrapper(sys.stdout.buffer); f.write('w\\n'); del f; print('x')", ["w", "x"]),
        ("sys.stdout.reconfigure(line_buffering=True); print('r')", ["r"]),
        (
            "b = io.StringIO()\nwith contextlib.redirect_stdout(b): print('kept')\n"
            "print(b.getvalue() * 2)",
            ["kept", "kept"],
        ),
    ],
)
def test_whatever_is_printed_becomes_lines(talk, code, said):
    _, lines = talk.do(code)
    assert messages(lines, stream="stdout") == said


def test_a_progress_bar_is_not_a_record_each_time(talk):
    bar = "for n in range(1000): print(f'\\r{n} of 1000', end='', file=sys.stderr, flush=True)"
    _, lines = talk.do(f"{bar}\nprint(file=sys.stderr)")
    said = messages(lines, stream="stderr")
    assert said[-1] == "999 of 1000"
    assert len(said) <= 2


def test_threads_do_not_mix_their_lines(talk):
    code = """
def say(letter):
    for _ in range(200):
        print(letter * 10, letter * 10, letter * 10)
threads = [threading.Thread(target=say, args=(letter,)) for letter in "abcd"]
for one in threads: one.start()
for one in threads: one.join()
"""
    _, lines = talk.do(code)
    said = messages(lines, stream="stdout")
    assert sorted(said) == sorted([" ".join([letter * 10] * 3) for letter in "abcd"] * 200)


def test_what_else_writes_to_stderr(talk):
    code = """
warnings.warn("careful", stacklevel=1)
try: 1 / 0
except ZeroDivisionError: traceback.print_exc()
answer = [sys.stderr.fileno(), sys.stdout.fileno(), sys.stdout.isatty(), sys.stdout.encoding]
assert answer == [2, 1, False, "utf-8"]
faulthandler.enable()
"""
    _, lines = talk.do(code)
    said = messages(lines, stream="stderr")
    assert any("UserWarning: careful" in line for line in said)
    assert "ZeroDivisionError: division by zero" in said


@pytest.mark.parametrize(
    "end", ["os._exit(5)", "os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(5)"]
)
def test_a_crash_loses_no_line(talk, end):
    """With its batch alone and then once more: the same words twice, and nothing else missing."""
    word = f"before {end}"
    _, lines = talk.do(f"print({word!r}); print('begun', end=''); {end}", "/crash", 500)
    said = [line for line in lines if line.get("stream") == "stdout"]
    assert messages(said).count(word) == 2
    assert {tuple(line["ids"]) for line in said if line["message"] == word} != {()}
    assert ("begun" in messages(said)) is (end == "sys.exit(5)")


def test_a_forked_child_says_nothing_twice(talk):
    code = """
print("parent's", end="")
child = os.fork()
if not child:
    print("child's"); sys.stdout.flush(); os._exit(0)
os.waitpid(child, 0); print()
"""
    _, lines = talk.do(code)
    assert sorted(messages(lines, stream="stdout")) == ["child's", "parent's"]


def test_a_workers_loggers_need_no_set_up(talk):
    name, lines = talk.do("log.info('loaded %d', 5, extra={'labels': 3}); log.debug('not wanted')")
    (line,) = lines
    del line["time"]
    assert line == {
        "level": "info",
        "source": "talk/1",
        "message": "loaded 5",
        "logger": "service",
        "labels": 3,
        "ids": [name],
    }


def test_a_workers_log_has_its_traceback(talk):
    _, (line,) = talk.do("try: 1 / 0\nexcept ZeroDivisionError: log.exception('failed')")
    assert (line["level"], line["message"]) == ("error", "failed")
    assert line["traceback"].endswith("ZeroDivisionError: division by zero")


def test_arguments_that_do_not_fit_are_one_line(talk):
    code = "log.info('%d labels', 'many'); get_logger().info('%s and %s', 1); answer = 5"
    _, lines = talk.do(code)
    assert messages(lines) == [
        "%d labels ('many',) (cannot be formatted: TypeError)",
        "%s and %s (1,) (cannot be formatted: TypeError)",
    ]


def test_outside_of_a_forward_nothing_has_ids(talk):
    talk.do("threading.Timer(0.3, lambda: print('later')).start()")
    until(lambda: "later" in messages(talk.lines()))
    assert "ids" not in next(line for line in talk.lines() if line["message"] == "later")


@pytest.mark.parametrize(
    "code",
    [
        "logging.config.dictConfig({'version': 1})",
        "logging.config.dictConfig({'version': 1, 'root': {'handlers': []}, 'loggers': {}})",
        "logging.config.fileConfig(io.StringIO('[loggers]\\nkeys=root\\n[handlers]\\nkeys=\\n"
        "[formatters]\\nkeys=\\n[logger_root]\\nhandlers=\\n'))",
        "logging.disable(logging.CRITICAL)",
        "logging.basicConfig(force=True, stream=io.StringIO())",
        "logging.getLogger().handlers.clear()",
        "logging.shutdown()",
        "logging.getLogger('mesh').disabled = get_logger().disabled = True",
        "logging.setLogRecordFactory(lambda *_, **__: 1 / 0)",
        "get_logger().addFilter(lambda _: 1 / 0)",
        "for one in list(logging.root.manager.loggerDict): logging.getLogger(one).disabled = True",
    ],
)
def test_whatever_a_worker_configures_our_log_stays(talk, code):
    place = "\n" * len(code)  # failures from the same line are not logged again at once
    _, lines = talk.do(f"{place}{code}\nraise ValueError({code!r})", "/configure", 500)
    (line,) = [line for line in lines if line["message"].startswith("the worker failed: ")]
    assert (line["source"], line["level"]) == ("configure/1", "error")
    assert "ValueError" in line["traceback"]
    _, lines = talk.do("get_logger().info('still here')", "/configure")
    assert "still here" in messages(lines, level="info")


def test_a_worker_that_configures_its_log_has_it_so(tmp_path):
    service = (
        SERVICE + "\nlogging.basicConfig(level='DEBUG', format='MINE %(levelname)s %(message)s')"
    )
    with talking(tmp_path, service=service) as talk:
        _, lines = talk.do("log.debug('in my form'); get_logger().debug('not wanted')")
        assert messages(lines, stream="stderr") == ["MINE DEBUG in my form"]


def test_text_is_printed_as_it_is(tmp_path):
    with talking(tmp_path, file=described(log_format="text", log_level="WARN")) as talk:
        code = "print('plain'); print('to be', end=''); print(' continued'); log.warning('careful')"
        _, name, _ = post(talk.site, "/talk", code)
        post(talk.site, "/talk", "print('\\r50 %', end='')")
        until(lambda: talk.text().count("POST /talk 200") == 2)
        plain, continued, careful, access, *_ = talk.text().splitlines()
    assert (plain, continued) == ("plain", "to be continued")
    assert careful[8:] == f" warning talk/1     service: careful [{name}]"
    assert access[8:].startswith(" info    gateway    POST /talk 200 ")
    assert "\r50 %" in talk.text()  # what was begun appears at the end
