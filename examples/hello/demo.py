"""Start hello.py, send it one request, print the answer, stop it.

    python demo.py [--port N]

`make hello` runs this.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from mesh import Client, MeshError

HOST = "127.0.0.1"
SCRIPT = Path(__file__).with_name("hello.py")
START_LIMIT_S = 60.0


def main() -> None:
    """Read the port, and exit with code 1 if there is no answer."""
    arguments = argparse.ArgumentParser(description="Ask the hello service.")
    arguments.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    port = arguments.parse_args().port
    check(port)
    service = subprocess.Popen([sys.executable, SCRIPT, "--port", str(port), "--log-level", "warn"])
    try:
        ask(service, f"http://{HOST}:{port}")
    except MeshError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        stop(service)


def check(port: int) -> None:
    """Exit if the port is taken: whatever listens there would answer in the service's place."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            sys.exit(f"error: port {port}: {reason}; choose another: make hello PORT=8010")


def ask(service: subprocess.Popen[bytes], url: str) -> None:
    """Send one request as soon as a replica is ready, and print it as a curl command."""
    with Client(url) as client:
        wait_ready(service, client)
        print(f"$ curl -d '\"world\"' {url}/inference")
        print(json.dumps(client.infer("world")))


def wait_ready(service: subprocess.Popen[bytes], client: Client) -> None:
    """Return when the service is ready.

    Raises:
        MeshError: the service ended, or took longer than START_LIMIT_S.
    """
    until = time.monotonic() + START_LIMIT_S
    while service.poll() is None:
        try:
            return client.wait_ready(0.5)
        except MeshError:
            if time.monotonic() > until:
                raise
    raise MeshError("the service ended before it was ready; it says why above")


def stop(service: subprocess.Popen[bytes]) -> None:
    """Stop the service in order; Ctrl-C has told it already."""
    service.terminate()
    with contextlib.suppress(KeyboardInterrupt):
        service.wait()


if __name__ == "__main__":
    main()
