"""Serves on all addresses of a network namespace, and prints the status of it."""

import json
import subprocess
import sys
import time

from mesh import Client

service = subprocess.Popen([sys.argv[1], "up", "--http", "0.0.0.0:8000"])
try:
    with Client("http://127.0.0.1:8000", timeout=20.0) as client:
        client.wait_ready(30.0)
        until = time.monotonic() + 20.0
        while time.monotonic() < until:
            shown = client.get("/mesh/status").json()
            if all(row["ready"] for row in shown["processes"]):
                break
            time.sleep(0.05)
        print(json.dumps(shown))
finally:
    service.terminate()
    service.wait(20.0)
