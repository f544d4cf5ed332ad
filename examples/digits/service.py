"""Handwritten digits: trained when the service starts, served in batches of up to 64.

    python service.py            # or: mesh up -c mesh.toml

An image is a list of 64 numbers from 0 to 16: 8 rows of 8 pixels.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from mesh import Server, ValidationError, Worker

PIXELS = 64


def split() -> list[np.ndarray]:
    """Split scikit-learn's 1797 digits: images to train on and to test with, then their labels."""
    images, labels = load_digits(return_X_y=True)
    return train_test_split(images, labels, test_size=0.3, random_state=0, stratify=labels)


class Digits(Worker):
    """Tells which digit an image shows."""

    def __init__(self) -> None:
        images, _, labels, _ = split()
        self.model = SVC(gamma=0.001).fit(images, labels)
        self.example = [[0] * PIXELS]

    def forward(self, images: list[object]) -> list[object]:
        """Answer each image with its digit; one that is no image fails alone."""
        fit = [_is_image(image) for image in images]
        good = [image for image, fits in zip(images, fit, strict=True) if fits]
        digits = iter(self.model.predict(good).tolist() if good else [])
        return [{"digit": next(digits)} if fits else _complaint() for fits in fit]


def _is_image(image: object) -> bool:
    """Tell whether a request's body is a list of 64 numbers from 0 to 16."""
    return (
        isinstance(image, list)
        and len(image) == PIXELS
        and all(type(pixel) in (int, float) and 0 <= pixel <= 16 for pixel in image)
    )


def _complaint() -> ValidationError:
    return ValidationError(f"an image is a list of {PIXELS} numbers from 0 to 16")


if __name__ == "__main__":
    server = Server()
    server.append_worker(Digits, max_batch_size=64, max_wait_time=5)
    server.run()
