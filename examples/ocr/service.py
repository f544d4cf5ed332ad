"""Text recognition in three stages: bytes of an image in, lines of text out.

    python service.py                 # one gateway and three stages, here
    mesh up -c mesh.toml              # the same, from a file
    mesh stage detect -c compose.toml # one stage of it, on any host

``decode`` and ``recognize`` make light work of a page, ``detect`` is heavy: give it replicas.
The image and the strips travel from stage to stage as raw arrays, copied by nobody.
"""

from __future__ import annotations

import io
import os
from itertools import pairwise

import numpy as np
from models import LINE_HEIGHT, Detector, Image, Recognizer, cut
from PIL import Image as Picture
from PIL import ImageOps, UnidentifiedImageError

from mesh import DecodingError, Server, ValidationError, Worker

MOST_PIXELS = 25_000_000
SURE = 0.6  # lines that the recognizer is less sure of are left out


class Decode(Worker):
    """From the bytes of a PNG, JPEG or WebP to an RGB array."""

    formats = ("PNG", "JPEG", "WEBP")

    def deserialize(self, payload: bytes) -> bytes:
        return payload

    def forward(self, payload: bytes) -> Image:
        try:
            picture = Picture.open(io.BytesIO(payload), formats=self.formats)
            self.check(*picture.size)  # known before the first pixel is decoded
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
        except UnidentifiedImageError:
            raise DecodingError(f"the body is no image; send one of {self.formats}") from None
        except (OSError, SyntaxError, Picture.DecompressionBombError):
            raise DecodingError("the image is damaged; send it again whole") from None

    def check(self, width: int, height: int) -> None:
        if width * height > MOST_PIXELS:
            raise ValidationError(
                f"the image has {width} x {height} pixels; at most {MOST_PIXELS} are read"
            )


class Detect(Worker):
    """From an image to its lines: where each is, and all of them side by side in one strip."""

    def __init__(self) -> None:
        self.detector = Detector()
        self.example = np.full((320, 320, 3), 255, np.uint8)

    def forward(self, image: Image) -> dict[str, object]:
        boxes = self.detector.find(image)
        nothing = np.zeros((LINE_HEIGHT, 0, 3), np.uint8)
        strips = [nothing, *(cut(image, box) for box in boxes)]
        return {
            "boxes": boxes,
            "strip": np.concatenate(strips, axis=1),
            "ends": np.cumsum([strip.shape[1] for strip in strips]).tolist(),
        }


class Recognize(Worker):
    """From the lines to their text.

    Lines are read one by one, each at its own width: on a CPU, padding them to a common width
    costs more than a batch gains.
    """

    def __init__(self) -> None:
        self.recognizer = Recognizer()
        self.example = {
            "boxes": np.zeros((1, 4, 2), np.float32),
            "strip": np.full((LINE_HEIGHT, 320, 3), 255, np.uint8),
            "ends": [0, 320],
        }

    def forward(self, found: dict) -> dict[str, list]:
        strip, ends = found["strip"], found["ends"]
        lines = []
        boxes = found["boxes"].astype(float).round(1).tolist()
        for box, (start, end) in zip(boxes, pairwise(ends), strict=True):
            text, score = self.recognizer.read(strip[:, start:end])
            if score >= SURE:
                lines.append({"text": text, "score": score, "box": box})
        return {"lines": lines}


if __name__ == "__main__":
    # A dense page takes some seconds on one CPU thread. The flags --timeout and
    # --max-request-size have the last word.
    os.environ.setdefault("MESH_GATEWAY_TIMEOUT", "60s")
    os.environ.setdefault("MESH_GATEWAY_MAX_BODY", "32MiB")
    server = Server()
    server.append_worker(Decode, timeout=10)
    server.append_worker(Detect, timeout=30)
    server.append_worker(Recognize, timeout=60)
    server.run()
