"""The two neural networks of the OCR pipeline and what surrounds them: pixels in, words out.

The weights are PP-OCRv6 (small), which ship inside the `rapidocr` package; nothing is downloaded
and no code of that package runs. Both networks run in onnxruntime on one thread: more speed comes
from more replicas.

Images are RGB arrays, ``uint8[height, width, 3]``. Boxes are ``float32[n, 4, 2]``: four corners
(x, y) in pixels of the image, clockwise from the line's top left.
"""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Boxes = NDArray[np.float32]

cv2.setNumThreads(1)

LINE_HEIGHT = 48  # pixels; what the recognizer was trained on


class Line(NamedTuple):
    """A line of text as read: the characters, and how sure the network is of them (0..1)."""

    text: str
    score: float


class Detector:
    """Finds lines of text.

    The network paints a map of "how likely is this pixel the core of a line". Each island of that
    map is one line, shrunk; its rectangle is grown back to the size that the line had.

    Example:
        >>> boxes = Detector().find(image)
    """

    SIDES = (640, 1280)  # the shorter is enlarged to the first, the longer kept within the second
    CORE = 0.3  # a pixel from here on belongs to an island
    SURE = 0.5  # an island's mean must reach this
    GROW = 1.6  # how much of area / perimeter is given back on each side
    SMALLEST = 3.0  # pixels of the map; a thinner island is a speck
    MOST = 1000  # islands that are looked at

    def __init__(self) -> None:
        self.network = _network("PP-OCRv6_det_small.onnx")

    def find(self, image: Image) -> Boxes:
        """Return the boxes of all lines, in reading order; no lines make an empty array."""
        height, width = image.shape[:2]
        likely = _run(self.network, cv2.resize(image, self._input_size(width, height)))[0, 0]
        boxes = self._islands(likely)
        scale = np.array([width / likely.shape[1], height / likely.shape[0]], np.float32)
        limit = np.array([width, height], np.float32)
        return reading_order(np.clip(boxes * scale, 0, limit))

    def _input_size(self, width: int, height: int) -> tuple[int, int]:
        """Choose what the network sees: multiples of 32 near the image's own proportions."""
        short, long = self.SIDES
        scale = min(max(short / min(width, height), 1.0), long / max(width, height))
        return (_multiple(width * scale), _multiple(height * scale))

    def _islands(self, likely: NDArray[np.float32]) -> Boxes:
        """Turn the network's map into boxes, in pixels of the map."""
        core = cv2.dilate((likely > self.CORE).astype(np.uint8), np.ones((2, 2), np.uint8))
        outlines, _ = cv2.findContours(core, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        boxes = []
        for outline in outlines[: self.MOST]:
            middle, (wide, high), angle = cv2.minAreaRect(outline)
            if min(wide, high) < self.SMALLEST or _mean_inside(likely, outline) < self.SURE:
                continue
            grow = self.GROW * wide * high / (wide + high)  # both sides: 2 x area / perimeter
            grown = (middle, (wide + grow, high + grow), angle)
            boxes.append(clockwise(cv2.boxPoints(grown)))
        return np.array(boxes, np.float32).reshape(-1, 4, 2)


class Recognizer:
    """Reads one line of text.

    The network sees a strip 48 pixels high and names a character, or none, for every few columns.

    Example:
        >>> Recognizer().read(cut(image, box))
        Line(text='Region-based segmentation', score=0.99)
    """

    def __init__(self) -> None:
        self.network = _network("PP-OCRv6_rec_small.onnx")
        characters = self.network.get_modelmeta().custom_metadata_map["character"].splitlines()
        self.characters = ["", *characters, " "]  # class 0 is "nothing here"

    def read(self, strip: Image) -> Line:
        """Read a strip of any width that is `LINE_HEIGHT` high; an empty text where nothing is."""
        likely = _run(self.network, strip)[0]
        best = likely.argmax(axis=1)
        # A character that spans several columns is named several times in a row: count it once.
        first = np.flatnonzero((best != 0) & (np.diff(best, prepend=0) != 0))
        if not first.size:
            return Line("", 0.0)
        text = "".join(self.characters[best[column]] for column in first)
        return Line(text, round(float(likely[first, best[first]].mean()), 4))


def cut(image: Image, box: NDArray[np.float32]) -> Image:
    """Cut a box out of an image, straightened, as a strip of `LINE_HEIGHT`.

    A box that is much higher than wide holds a line that runs downwards; it is laid on its side.
    """
    wide, high = _sides(box)
    frame = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
    warp = cv2.getPerspectiveTransform(box, frame)
    straight = cv2.warpPerspective(
        image, warp, (wide, high), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    if high >= 1.5 * wide:
        straight = cv2.rotate(straight, cv2.ROTATE_90_COUNTERCLOCKWISE)
        wide, high = high, wide
    width = int(np.clip(round(LINE_HEIGHT * wide / high), 16, 3200))
    shrink = cv2.INTER_AREA if high > LINE_HEIGHT else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(straight, (width, LINE_HEIGHT), interpolation=shrink), np.uint8)


def reading_order(boxes: Boxes) -> Boxes:
    """Sort boxes by row, and within a row from left to right.

    A box belongs to the row of the one above it if its middle is less than half a line lower.
    """
    if not len(boxes):
        return boxes
    middle = boxes.mean(axis=1)
    half = np.ptp(boxes[:, :, 1], axis=1) / 2
    row = np.zeros(len(boxes), int)
    down = np.argsort(middle[:, 1], kind="stable")
    for above, below in pairwise(down):
        apart = middle[below, 1] - middle[above, 1]
        row[below] = row[above] + (apart >= min(half[above], half[below]))
    return boxes[np.lexsort((middle[:, 0], row))]


def clockwise(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Order four corners clockwise from the top left, as a reader of the line sees them."""
    left, right = np.split(corners[np.argsort(corners[:, 0], kind="stable")], 2)
    (top_left, bottom_left), (top_right, bottom_right) = (
        side[np.argsort(side[:, 1], kind="stable")] for side in (left, right)
    )
    return np.stack([top_left, top_right, bottom_right, bottom_left])


def _network(name: str) -> onnxruntime.InferenceSession:
    """Load one of the networks inside the `rapidocr` package, for one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # every image has another size: an arena only grows
    return onnxruntime.InferenceSession(_weights(name), options, providers=["CPUExecutionProvider"])


def _weights(name: str) -> Path:
    """Find a file of weights without importing the package that carries it."""
    carrier = find_spec("rapidocr")
    if carrier is None or carrier.origin is None:
        raise FileNotFoundError(
            "the OCR models are not installed; install them with: "
            "pip install --no-deps --require-hashes -r examples/ocr/requirements.txt"
        )
    return Path(carrier.origin).parent / "models" / name


def _run(network: onnxruntime.InferenceSession, image: Image) -> NDArray[np.float32]:
    """Run a network on one RGB image; it wants BGR, channels first, from -1 to 1."""
    pixels = image[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)
    (output,) = network.run(None, {"x": pixels / 127.5 - 1.0})
    return np.asarray(output, np.float32)


def _mean_inside(likely: NDArray[np.float32], outline: NDArray[np.int32]) -> float:
    """Average the map over an island."""
    x, y, wide, high = cv2.boundingRect(outline)
    inside = np.zeros((high, wide), np.uint8)
    cv2.fillPoly(inside, [outline - (x, y)], 1)
    return float(cv2.mean(likely[y : y + high, x : x + wide], inside)[0])


def _multiple(length: float) -> int:
    """Round a side to what the detector can halve five times."""
    return max(32, round(length / 32) * 32)


def _sides(box: NDArray[np.float32]) -> tuple[int, int]:
    """Measure a box: width along its upper or lower side, height along the left or right one."""
    wide = max(np.linalg.norm(box[0] - box[1]), np.linalg.norm(box[3] - box[2]))
    high = max(np.linalg.norm(box[0] - box[3]), np.linalg.norm(box[1] - box[2]))
    return max(1, round(float(wide))), max(1, round(float(high)))
