"""Send the digits that the model was not trained on, several at a time, and count the right ones.

    python client.py [--url URL]

Ends with code 1 if fewer than 95 of 100 are right.
"""

from __future__ import annotations

import argparse
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from service import split

from mesh import Client, MeshError

THREADS = 16
ENOUGH = 0.95


class Classifier:
    """Asks the service; a connection for each thread that asks."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clients: list[Client] = []
        self.own = threading.local()

    def connect(self) -> None:
        """Open the calling thread's connection."""
        self.own.client = Client(self.url)
        self.clients.append(self.own.client)

    def classify(self, image: list[float]) -> int:
        """Ask which digit an image shows."""
        return self.own.client.infer(image)["digit"]

    def close(self) -> None:
        """Close all connections."""
        for client in self.clients:
            client.close()


def accuracy(url: str) -> tuple[int, int]:
    """Return how many of the test images the service told right, and how many there are."""
    _, images, _, labels = split()
    classifier = Classifier(url)
    try:
        with ThreadPoolExecutor(THREADS, initializer=classifier.connect) as pool:
            digits = list(pool.map(classifier.classify, images.tolist()))
    finally:
        classifier.close()
    return sum(a == b for a, b in zip(digits, labels.tolist(), strict=True)), len(digits)


def main() -> None:
    """Read the command line and do it."""
    arguments = argparse.ArgumentParser(description="Test the digits service.")
    arguments.add_argument("--url", default="http://127.0.0.1:8000", help="(default: %(default)s)")
    try:
        right, total = accuracy(arguments.parse_args().url)
    except MeshError as error:
        sys.exit(f"error: {error}")
    print(f"{right} of {total} digits are right: {right / total:.1%}")
    sys.exit(right < ENOUGH * total)


if __name__ == "__main__":
    main()
