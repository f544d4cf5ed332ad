"""Running an example as its README says: as a script or from its file, on a free port."""

import contextlib
import subprocess
import sys

from site_runs import MESH, ROOT, START_PATIENCE, Site


def folder(name):
    return ROOT / "examples" / name


def script(name, port):
    """The command of `python service.py`."""
    return [sys.executable, folder(name) / "service.py", "--port", str(port)]


def file(name, port):
    """The command of `mesh up`; the port comes from the environment (see `serving`)."""
    return [MESH, "up", "-c", folder(name) / "mesh.toml"]


@contextlib.contextmanager
def serving(command, name, tmp_path):
    """Run an example's service from an empty folder; yield a client; stop it in order."""
    with contextlib.closing(Site(tmp_path)) as site:
        site.start(*command(name, site.port))
        site.wait_ready()
        with site.client() as client:
            yield client
        site.end()


def run_client(name, client, *arguments):
    """Run an example's client.py as a user would; return the finished process."""
    command = [sys.executable, folder(name) / "client.py", "--url", client.url, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=START_PATIENCE, check=False
    )


def hub_hops(client):
    """How many outputs the gateway had to carry to the next stage."""
    return client.get("/mesh/status").json()["hub_hops"]
