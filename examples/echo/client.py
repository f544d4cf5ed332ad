"""Send a text to the echo service and print the answer.

python client.py [--url URL] [TEXT ...]
"""

from __future__ import annotations

import argparse
import sys

from mesh import Client, MeshError


def main() -> None:
    """Read the command line and do it."""
    arguments = argparse.ArgumentParser(description="Talk to the echo service.")
    arguments.add_argument("text", nargs="*", metavar="TEXT")
    arguments.add_argument("--url", default="http://127.0.0.1:8000", help="(default: %(default)s)")
    chosen = arguments.parse_args()
    text = " ".join(chosen.text) or "hello mesh"
    try:
        with Client(chosen.url) as client:
            response = client.post("/inference", {"text": text})
            response.raise_for_status()
            print(response.json())
    except MeshError as error:
        sys.exit(f"error: {error}")
    print(", ".join(f"{stage} {ms:.2f} ms" for stage, ms in response.timings.items()))


if __name__ == "__main__":
    main()
