"""Start the OCR service, send it real images, print what came back, leave it running.

    python demo.py [--once] [--image FILE] [--port N]

`make demo` runs this. Ctrl-C ends the service in order; with ``--once`` it ends by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from client import read_image, sample_images, show

from mesh import Client, MeshError

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
PATIENCE = 120.0  # seconds for all stages to load their models


def main() -> None:
    """Read the command line and do it."""
    chosen = _arguments()
    images = [chosen.image] if chosen.image else sample_images()
    _check(chosen.port, images)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    failure = ""
    with _service(chosen.port) as service:
        try:
            _present(service, chosen, images)
        except (MeshError, OSError) as error:
            failure = f"error: {error}"
        except KeyboardInterrupt:
            print("\nstopping", file=sys.stderr)
    sys.exit(failure or service.returncode)


def _arguments() -> argparse.Namespace:
    """Read the command line."""
    arguments = argparse.ArgumentParser(description="Show the OCR pipeline at work.")
    arguments.add_argument("--once", action="store_true", help="stop after the images")
    arguments.add_argument("--image", type=Path, metavar="FILE", help="an image of yours to read")
    arguments.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    return arguments.parse_args()


def _check(port: int, images: list[Path]) -> None:
    """Refuse what cannot work before anything is started."""
    for image in images:
        if not image.is_file():
            sys.exit(f"error: there is no image {image}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            advice = "choose another with --port, or PORT= of make"
            sys.exit(f"error: port {port}: {error.strerror}; {advice}")


@contextlib.contextmanager
def _service(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run `mesh up`: a gateway and three stages, each its own process; end them in order."""
    mesh = Path(sys.executable).with_name("mesh")
    service = subprocess.Popen(
        [mesh, "up", "-c", HERE / "mesh.toml"],
        env={**os.environ, "MESH_GATEWAY_HTTP": f"{HOST}:{port}"},
        start_new_session=True,  # Ctrl-C is for us; the service gets one signal, from here
    )
    try:
        yield service
    finally:
        _end(service)


def _end(service: subprocess.Popen[bytes]) -> None:
    """Stop the service in order; a further Ctrl-C is a further signal, which kills it at once."""
    while service.poll() is None:
        with contextlib.suppress(KeyboardInterrupt):
            service.terminate()
            service.wait()


def _present(
    service: subprocess.Popen[bytes], chosen: argparse.Namespace, images: list[Path]
) -> None:
    """Wait until every stage is ready and send the images; unless `--once`, stay until Ctrl-C."""
    url = f"http://{HOST}:{chosen.port}"
    with Client(url, timeout=PATIENCE) as client:
        _wait_ready(service, client)
        for image in images:
            show(image, read_image(client, image))
    if not chosen.once:
        _keep_running(service, url, images[0])


def _wait_ready(service: subprocess.Popen[bytes], client: Client) -> None:
    """Wait for the service, but not for one that has ended already."""
    until = time.monotonic() + PATIENCE
    while service.poll() is None:
        try:
            return client.wait_ready(1.0)
        except MeshError:
            if time.monotonic() > until:
                raise
    raise MeshError("the service ended before it was ready; it says why above")


def _keep_running(service: subprocess.Popen[bytes], url: str, image: Path) -> None:
    """Say how to use the service, and wait for its end."""
    print(f"\nThe service runs at {url}. Try it from another terminal:\n")
    print(f"  curl --data-binary {shlex.quote(f'@{image}')} {url}/inference\n")
    print("Ctrl-C ends it.", flush=True)
    service.wait()


if __name__ == "__main__":
    main()
