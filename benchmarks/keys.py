"""What keys cost: the same services over tcp, plain and with CURVE."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import closed_loop, running
from benchmarks.findings import Finding
from benchmarks.peers import Peer
from benchmarks.rows import Row
from mesh.transport.curve import generate

WHICH = ("batched-64", "echo-64", "echo-1", "array-8")


def keys(ours: Peer, rows: Sequence[Row], seconds: float) -> list[Finding]:
    """Requests per second and median latency, and how the two compare, of those of `WHICH`."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "keys", ())
        for row in rows:
            if row.key not in WHICH:
                continue
            plain = _figures(ours, row, seconds, "")
            secured = _figures(ours, row, seconds, f"{folder}/keys")
            for what, figures in ("plain", plain), ("with keys", secured):
                unit = f"req/s, p50 {figures.p50 / 1000:.3f} ms"
                found.append(Finding("keys", f"{row.key}: tcp, {what}", figures.rate, unit))
            ratio = round(secured.rate / plain.rate, 2)
            found.append(Finding("keys", f"{row.key}: with keys to plain", ratio, "×"))
    return found


def _figures(ours: Peer, row: Row, seconds: float, folder: str) -> closed_loop.Figures:
    tcp = {"MESH_GATEWAY_BIND": "tcp://127.0.0.1:0", "MESH_GATEWAY_KEYS": folder}
    tcp["MESH_GATEWAY_INSECURE"] = "false" if folder else "true"
    with running.running(ours, row.service, tcp) as server:
        return closed_loop.load(server, row.connections, seconds)
