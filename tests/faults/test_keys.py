"""Who must not get in, with a service under load that they must not harm."""

import contextlib
import secrets
import socket

import pytest
import zmq
from fleet import RESET, STAGES, Fleet
from load import Load, under_load
from proxy import Proxy
from zmq.utils.monitor import recv_monitor_message

from benchmarks.ports import free_port
from mesh.protocol.messages import Err, Header, Hello, Role, StageFacts, Type
from mesh.protocol.wire import VERSION, decode, encode, seal
from mesh.transport.curve import KeyPair, draw_pair, generate, read_pair

PATIENCE = 1500  # milliseconds in which somebody who may come in would be in


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A service whose every link demands keys, each stage its own."""
    folder = tmp_path_factory.mktemp("locked")
    generate(folder / "keys", STAGES)
    made = Fleet(folder, variables={"MESH_GATEWAY_KEYS": str(folder / "keys")})
    with contextlib.closing(made):
        made.add_gateway()
        for stage in STAGES:
            made.add_host(f"{stage}@1")
        made.until_whole()
        yield made
        made.end()


def pair(made, name):
    return read_pair(made.folder / "keys" / f"{name}.key")


def hello(role=Role.REPLICA, stage="second"):
    """What a process says first."""
    facts = StageFacts(stage, "", 1, 1.0, 1 << 20) if role is Role.REPLICA else None
    said = Hello(role, secrets.randbits(50), "mesh", (VERSION,), stage=facts)
    return seal(Header(Type.HELLO, secrets.randbits(60), 0), encode(said))


class Stranger:
    """Dials the gateway's mesh port with these keys, None for none."""

    def __init__(self, made, own, server):
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.monitor = self.socket.get_monitor_socket()
        self.socket.linger = 0
        if own is not None:
            self.socket.curve_publickey = own.public.encode()
            self.socket.curve_secretkey = own.secret.encode()
            self.socket.curve_serverkey = server.encode()
        self.socket.connect(made.binds[made.port])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)
        self._context.term()

    def asks(self, frames):
        """What it is told when it says this; None if nothing."""
        self.socket.send_multipart(frames)
        if self.socket.poll(PATIENCE):
            return decode(self.socket.recv_multipart(), 0.0)[1]
        return None

    def shook_hands(self):
        """Whether the other end took it for one of the mesh."""
        seen = []
        while self.monitor.poll(0):
            seen.append(recv_monitor_message(self.monitor)["event"])
        return zmq.Event.HANDSHAKE_SUCCEEDED in seen


def test_those_without_the_right_keys_are_refused(locked, unharmed):
    server = pair(locked, "gateway").public
    strangers = {
        "no key": (None, ""),
        "a wrong key of the server": (pair(locked, "stage-second"), draw_pair().public),
        "a key that is not on the list": (draw_pair(), server),
        "a listed public key without its secret": (
            KeyPair(pair(locked, "stage-second").public, draw_pair().secret),
            server,
        ),
    }
    with under_load(locked, unharmed, "strangers without the right keys", connections=4):
        for who, keys in strangers.items():
            with Stranger(locked, *keys) as stranger:
                assert stranger.asks(hello()) is None, who
                assert not stranger.shook_hands(), who


def test_a_right_key_does_not_make_it_something_else(locked, unharmed):
    server = pair(locked, "gateway").public
    claims = [
        ("stage-first", hello(stage="second"), "your key is for the stage 'first'"),
        ("client", hello(stage="second"), "your key is for a client"),
        ("supervisor", hello(stage="first"), "your key is for a supervisor"),
        ("stage-first", hello(Role.SUPERVISOR), "your key is for a stage"),
        ("feed", hello(stage="first"), "your key is for a feed"),
    ]
    with under_load(locked, unharmed, "right keys with false claims", connections=4) as load:
        for name, claim, objection in claims:
            with Stranger(locked, pair(locked, name), server) as stranger:
                told = stranger.asks(claim)
                assert isinstance(told, Err), (name, told)
                assert told.reason.startswith(objection), told
        load.run(0.3)
        assert len(locked.status()["replicas"]) == 2


def test_a_replayed_capture_is_noise(locked, unharmed):
    """What a real replica sent, byte by byte, on another connection."""
    bind = int(locked.binds[locked.port].rpartition(":")[2])
    with Load([locked.port], connections=4) as load, Proxy(bind) as proxy:
        load.warm()
        proxy.record = bytearray()
        locked.add_host("first@2", gateways=[f"tcp://127.0.0.1:{proxy.port}"])
        locked.until_whole()
        load.run(0.5)
        locked.remove_host("first@2")
        before = len(locked.status()["replicas"])
        assert len(proxy.record) > 500
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", bind)) as replay:
                replay.sendall(proxy.record)
                replay.settimeout(0.2)
                with contextlib.suppress(OSError):
                    while replay.recv(65536):
                        pass
        assert len(locked.status()["replicas"]) == before == 2
        load.run(0.3)
    unharmed("a capture of a replica's bytes, replayed 20 times", locked, load)


@pytest.mark.chaos
def test_garbage_and_idle_connections(locked, unharmed):
    bind = int(locked.binds[locked.port].rpartition(":")[2])
    what = "garbage and 500 idle connections, with keys"
    with under_load(locked, unharmed, what, connections=4) as load:
        idle = [socket.create_connection(("127.0.0.1", bind)) for _ in range(500)]
        for _ in range(100):
            one = socket.create_connection(("127.0.0.1", bind))
            one.sendall(secrets.token_bytes(secrets.randbelow(4000) + 1))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            one.close()
        load.run(1.0)
        for one in idle:
            one.close()


def test_keys_are_changed_while_it_serves(tmp_path, unharmed):
    """A new pair beside the old one; everybody takes it; then the old one opens nothing."""
    keys = tmp_path / "keys"
    generate(keys, ())
    listed = keys / "allowed.toml"
    old, new = read_pair(keys / "stage.key"), draw_pair()
    with contextlib.closing(Fleet(tmp_path, variables={"MESH_GATEWAY_KEYS": str(keys)})) as made:
        made.add_gateway()
        for stage in STAGES:
            made.add_host(f"{stage}@1")
        made.until_whole()
        with Load([made.port], connections=4) as load:
            load.warm()
            entry = f'\n[[allowed]]\nrole = "stage"\npublic = "{new.public}"\n'
            listed.write_text(listed.read_text() + entry)
            (keys / "stage.key").write_text(f'public = "{new.public}"\nsecret = "{new.secret}"\n')
            for stage in STAGES:
                made.add_host(f"{stage}@2")
            made.until_whole()
            for stage in STAGES:
                made.remove_host(f"{stage}@1")
            listed.write_text(listed.read_text().replace(old.public, draw_pair().public))
            made.until_whole()
            load.run(0.5)
            server = read_pair(keys / "gateway.key").public
            with Stranger(made, old, server) as stranger:
                assert stranger.asks(hello()) is None
        unharmed("the stages' key changed", made, load)
        made.end()


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_nobody_may_reach_a_port_without_keys(tmp_path, host):
    made = Fleet(tmp_path)
    with contextlib.closing(made):
        bind = f"tcp://{host}:{free_port()}"
        process = made.mesh("gateway", "--bind", bind, "--no-insecure")
        assert process.wait(20.0) == 2
        assert "run `mesh keygen`" in made.log()
