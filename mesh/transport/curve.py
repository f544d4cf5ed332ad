"""Keys on disk, CURVE on sockets, and the ZAP check behind them: who may connect at all.

A process is given a folder (``keys``) with the pairs of its own roles and ``allowed.toml``, the
list of all public keys (`mesh/transport/allowlist.py`). CURVE and ZAP are RFC 26 and RFC 27 of
ZeroMQ. libzmq lets everybody in where nothing answers ZAP; so the domain is enforced, the check is
tried with a wrong key before anything is bound, and a process whose check ends does not go on.
"""

from __future__ import annotations

import os
import threading
import tomllib
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from mesh.errors import SettingsError, StartError
from mesh.log import get_logger
from mesh.logs.limit import NEVER, LogLimit
from mesh.process.parent_link import kill_group
from mesh.protocol.messages import Hello
from mesh.transport import trusted_files
from mesh.transport.allowlist import AllowList, check_key, read_allowance

LIST: Final = "allowed.toml"
MAKE_KEYS: Final = "make keys with `mesh keygen`, and copy this host's"
_ZAP: Final = "inproc://zeromq.zap.01"
_DOMAIN: Final = b"mesh"
_REFUSAL_LIMIT_MS: Final = (
    3000  # milliseconds that a refusal may take, in the trial with a wrong key
)
_REFUSED: Final = "refused for keys that are not allowed"
_log = get_logger()
_Stamp = tuple[int, int, int]


class KeyPair(NamedTuple):
    """A key pair of CURVE, in Z85."""

    public: str
    secret: str


def draw_pair() -> KeyPair:
    """A new pair.

    Example:
        >>> len(draw_pair().public)
        40
    """
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


class Keys:
    """A folder of keys, as one process sees it.

    Args:
        folder: with ``allowed.toml`` and the pairs of this process's roles.
        dials_as: the names of its pair for dialling, the first that is there counts.
        serves_as: the name of its pair for listening, "" if it does not.

    Raises:
        SettingsError: a file is missing or wrong, or others can change it, or read a secret.
    """

    def __init__(self, folder: str, dials_as: Iterable[str], serves_as: str = "") -> None:
        self._list = Path(folder) / LIST
        self._stamp: _Stamp | None = None
        self._allowance = self._read()
        self._own = _first_pair(Path(folder), list(dials_as))
        self._server = read_pair(Path(folder) / f"{serves_as}.key") if serves_as else None
        self._attempts = count()
        for pair in filter(None, (self._own, self._server)):
            if pair.public not in self._allowance:
                raise SettingsError(f"{self._list} does not have this process's own key")

    def _read(self) -> AllowList:
        try:
            self._stamp = _stamp(self._list.stat())
            trusted_files.check_folder(self._list.parent)
            text, facts = trusted_files.read(self._list)
        except OSError as error:
            raise SettingsError(
                f"cannot read {self._list}: {error.strerror}; {MAKE_KEYS}"
            ) from None
        self._stamp = _stamp(facts)
        return read_allowance(text, str(self._list))

    @property
    def allowance(self) -> AllowList:
        """The list as it is now; as it last was, if what is there now cannot be read."""
        try:
            if _stamp(self._list.stat()) != self._stamp:
                self._allowance = self._read()
                _log.info("%s has changed and is in force", self._list)
        except (OSError, SettingsError) as error:
            self._stamp = None if isinstance(error, OSError) else self._stamp
            _log.error("the former list of keys stays in force: %s", error)
        return self._allowance

    @property
    def server_key(self) -> str:
        """The public key that those who dial us must expect."""
        assert self._server is not None
        return self._server.public

    def secure_dialling(self, socket: zmq.Socket[bytes], role: str) -> None:
        """Have a DEALER prove who we are, and demand proof that one of this role answers.

        While there are several keys for a role, as during their change, attempts take turns.
        """
        assert self._own is not None
        expected = self.allowance.keys_for(role)
        key = expected[next(self._attempts) % len(expected)] if expected else draw_pair().public
        socket.curve_publickey = self._own.public.encode()
        socket.curve_secretkey = self._own.secret.encode()
        socket.curve_serverkey = key.encode()

    def secure_listening(self, socket: zmq.Socket[bytes]) -> None:
        """Have a ROUTER refuse all keys that are not on the list."""
        assert self._server is not None
        socket.curve_server = True
        socket.curve_publickey = self._server.public.encode()
        socket.curve_secretkey = self._server.secret.encode()
        socket.zap_domain = _DOMAIN
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def objection(self, key: str, hello: Hello) -> str:
        """See `AllowList.objection`."""
        return self._allowance.objection(key, hello)


class ZapAuthenticator:
    """Answers ZAP for one context, from a thread of its own.

    Args:
        sockets: makes them, and has those that ask.
        keys: the list that is looked into.
    """

    def __init__(self, sockets: zmq.Context[zmq.Socket[bytes]], keys: Keys) -> None:
        self._sockets, self._keys = sockets, keys
        self._over = self._trying = False
        self._refusals = LogLimit()
        self._socket = sockets.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(_ZAP)
        self._thread = threading.Thread(target=self._guarded, name="zap", daemon=True)
        self._thread.start()

    def try_wrong_key(self) -> None:
        """Check that an unknown key is refused.

        Raises:
            StartError: it is not.
        """
        self._trying = True
        server, client = self._sockets.socket(zmq.ROUTER), self._sockets.socket(zmq.DEALER)
        monitor = client.get_monitor_socket()
        try:
            self._keys.secure_listening(server)
            server.bind("tcp://127.0.0.1:*")
            stranger = draw_pair()
            client.curve_publickey = stranger.public.encode()
            client.curve_secretkey = stranger.secret.encode()
            client.curve_serverkey = self._keys.server_key.encode()
            bound: bytes = server.getsockopt(zmq.LAST_ENDPOINT)  # type: ignore[assignment]
            client.connect(bound.rstrip(b"\0").decode())
            if not _is_refused(monitor):
                raise StartError("keys are not checked as they must be: a wrong one was let in")
        finally:
            self._trying = False
            client.disable_monitor()
            for socket in (monitor, client, server):
                socket.close(0)

    def close(self) -> None:
        """Stop answering."""
        self._over = True
        last = self._sockets.socket(zmq.REQ)
        last.connect(_ZAP)
        last.send_multipart([b"1.0", b"", b"", b"", b"", b""])  # wakes it
        self._thread.join()
        last.close(0)
        self._socket.close(0)

    def _guarded(self) -> None:
        """End the process: without answers no peer gets in any more."""
        try:
            while not self._over:
                if self._socket.poll(self._pause_ms()):
                    self._socket.send_multipart(self._answer(self._socket.recv_multipart()))
                self._log_left_out()
        except BaseException:  # noqa: BLE001 - whatever it is, nobody else sees it
            _log.critical("a fault of ours: keys are not checked any more", exc_info=True)
            kill_group()

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """RFC 27: the user id is the key, which HELLO is held to."""
        version, number, domain, address, _, mechanism, *credentials = request
        key = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" else ""
        if domain == _DOMAIN and key in self._keys.allowance:
            return [version, number, b"200", b"", key.encode(), b""]
        if domain == _DOMAIN and not (self._trying or self._over):
            self._tell(address.decode("latin-1"), key)
        return [version, number, b"400", b"not allowed", b"", b""]

    # A peer may try keys as fast as the network allows: the log has ten of them a minute.

    def _tell(self, address: str, key: str) -> None:
        if self._refusals.admits(_REFUSED, monotonic()):
            _log.warning("refused: %s has the key %r, which is not allowed", address, key)

    def _log_left_out(self) -> None:
        now = monotonic()
        if now >= self._refusals.due:
            for kind, count in self._refusals.take_left_out(now):
                _log.warning("and %d more: %s", count, kind)

    def _pause_ms(self) -> int | None:
        """How long nothing need be told; None while nothing was left out."""
        due = self._refusals.due
        return None if due == NEVER else max(0, int((due - monotonic()) * 1000) + 1)


def _is_refused(monitor: zmq.Socket[bytes]) -> bool:
    failed = (zmq.Event.HANDSHAKE_FAILED_AUTH, zmq.Event.HANDSHAKE_FAILED_NO_DETAIL)
    while monitor.poll(_REFUSAL_LIMIT_MS):
        event: Any = recv_monitor_message(monitor)["event"]
        if event in failed:
            return True
        if event == zmq.Event.HANDSHAKE_SUCCEEDED:
            return False
    return False


# --- files ----------------------------------------------------------------------------------------


def read_pair(path: Path) -> KeyPair:
    """Read a pair from its file, which only its owner may read.

    Raises:
        SettingsError: naming the file and the way out.
    """
    try:
        text, _ = trusted_files.read(path, secret=True)
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; {MAKE_KEYS}") from None
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}") from None
    return KeyPair(*(check_key(plain.get(name), f"{path}: {name}") for name in KeyPair._fields))


def _stamp(facts: os.stat_result) -> _Stamp:
    """What differs once a file, or who may write to it, has changed."""
    return facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns


def _first_pair(folder: Path, names: list[str]) -> KeyPair | None:
    for name in names[:-1]:
        if (folder / f"{name}.key").exists():
            return read_pair(folder / f"{name}.key")
    return read_pair(folder / f"{names[-1]}.key") if names else None


def generate(folder: Path, stages: Iterable[str]) -> list[Path]:
    """Write a pair for each role, and the list of them all.

    Args:
        folder: made if it is not there, for its owner alone.
        stages: those whose replicas get a pair of their own each; without any, one is for all.

    Returns:
        The files that were written.

    Raises:
        SettingsError: keys are there already, or cannot be written.
    """
    pairs = [("gateway", ""), ("feed", ""), ("supervisor", ""), ("client", "")]
    pairs += [("stage", name) for name in stages] or [("stage", "")]
    written: list[Path] = []
    tables = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for role, stage in pairs:
            pair = draw_pair()
            path = folder / f"{role}{f'-{stage}' if stage else ''}.key"
            written.append(write_pair(path, pair))
            tables.append(table_of(role, pair, stage))
        written.append(write_new(folder / LIST, "\n".join(tables), 0o644))
    except OSError as error:
        where = error.filename or folder
        raise SettingsError(f"cannot write {where}: {error.strerror}") from None
    return written


def table_of(role: str, pair: KeyPair, stage: str = "") -> str:
    """What the list says of a pair."""
    only = f'stage = "{stage}"\n' if stage else ""
    return f'[[allowed]]\nrole = "{role}"\n{only}public = "{pair.public}"\n'


def write_pair(path: Path, pair: KeyPair) -> Path:
    """Write a pair to a new file, for its owner alone; returns where it is."""
    return write_new(path, f'public = "{pair.public}"\nsecret = "{pair.secret}"\n', 0o600)


def write_new(path: Path, text: str, mode: int) -> Path:
    """Write a new file, and replace none that is there; returns where it is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return path
