"""The OCR stages as plain classes: real models, real pictures, no server.

Between the stages values go through the codec, as they do between processes.
"""

import io
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mesh import DecodingError, ValidationError
from mesh.worker import codec

ROOT = Path(__file__).resolve().parents[2]
SENTENCE = "Invoice 4711 of March"


@pytest.fixture(scope="module")
def service():
    """The module `examples/ocr/service.py`, imported as its own folder would import it."""
    names = ("service", "models", "client")
    saved = {name: sys.modules.pop(name, None) for name in names}
    sys.path.insert(0, str(ROOT / "examples" / "ocr"))
    try:
        yield import_module("service")
    finally:
        sys.path.pop(0)
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update({name: module for name, module in saved.items() if module})


@pytest.fixture(scope="module")
def stages(service):
    return [service.Decode(), service.Detect(), service.Recognize()]


def read(stages, body):
    decode, *others = stages
    value = decode.forward(decode.deserialize(body))
    for stage in others:
        value = stage.forward(codec.decode(list(map(bytes, codec.encode(value)))))
    return value["lines"]


def sample(name):
    import skimage

    return (Path(skimage.__file__).parent / "data" / name).read_bytes()


def picture(image_format, rotate=0, **options):
    """A coloured card with one sentence on it, as bytes."""
    card = Image.new("RGB", (640, 160), (250, 240, 200))
    font = ImageFont.load_default(size=44)
    ImageDraw.Draw(card).text((40, 50), SENTENCE, font=font, fill=(20, 40, 120))
    out = io.BytesIO()
    card.rotate(rotate, expand=True).save(out, image_format, **options)
    return out.getvalue()


def test_a_photographed_page_is_read(stages):
    lines = read(stages, sample("page.png"))
    assert [line["text"] for line in lines][:1] == ["Region-based segmentation"]
    words = " ".join(line["text"] for line in lines).split()
    known = "Let us first determine markers of the coins and the background. These pixels that we"
    assert set(known.split()) <= set(words)
    assert "unambiguously" in words
    assert "np.zeros" in lines[-1]["text"]
    assert all(line["score"] > 0.9 for line in lines)


def test_boxes_lie_in_the_picture_and_go_down_the_page(stages):
    boxes = np.array([line["box"] for line in read(stages, sample("page.png"))])
    assert boxes.shape == (7, 4, 2)
    assert boxes.min() >= 0
    assert (boxes.max(axis=(0, 1)) <= (384, 191)).all()
    middles = boxes[:, :, 1].mean(axis=1)
    assert all(above < below for above, below in pairwise(middles))
    top_left, top_right, bottom_right, bottom_left = boxes.mean(axis=0)
    assert top_left[0] < top_right[0]
    assert top_left[1] < bottom_left[1]
    assert bottom_left[0] < bottom_right[0]


def test_a_word_in_a_photograph_of_something_else_is_found(stages):
    assert "YAMAHA" in [line["text"] for line in read(stages, sample("motorcycle_left.png"))]


@pytest.mark.parametrize("name", ["grass.png", "moon.png"])
def test_a_picture_without_text_has_no_lines(stages, name):
    assert read(stages, sample(name)) == []


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_formats_are_read(stages, image_format):
    (line,) = read(stages, picture(image_format))
    assert line["text"] == SENTENCE


def test_a_camera_held_sideways_is_put_right(stages):
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is at the right of the picture
    (line,) = read(stages, picture("JPEG", rotate=90, exif=exif))
    assert line["text"] == SENTENCE


def test_a_line_that_runs_downwards_is_laid_on_its_side(stages):
    (line,) = read(stages, picture("PNG", rotate=-90))
    assert line["text"] == SENTENCE


@pytest.mark.parametrize("body", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7"])
def test_what_is_no_image_is_said_so(stages, body):
    with pytest.raises(DecodingError, match="no image"):
        read(stages, body)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_a_damaged_image_is_said_so(stages, image_format):
    whole = picture(image_format)
    with pytest.raises(DecodingError, match="damaged"):
        read(stages, whole[: len(whole) // 2])


def test_a_huge_image_is_refused_before_it_is_decoded(stages):
    body = io.BytesIO()
    Image.new("1", (30_000, 1_000)).save(body, "PNG")
    with pytest.raises(ValidationError, match="30000 x 1000"):
        read(stages, body.getvalue())


def test_an_image_beyond_all_measure_is_refused_too(stages):
    body = io.BytesIO()
    Image.new("1", (60_000, 10_000)).save(body, "PNG")
    with pytest.raises((ValidationError, DecodingError)):
        read(stages, body.getvalue())


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3)])
def test_odd_sizes_are_survived(stages, size):
    body = io.BytesIO()
    Image.new("L", size, 255).save(body, "PNG")
    assert read(stages, body.getvalue()) == []


def test_lines_of_two_columns_are_read_row_by_row(service):
    def box(x, y):
        return [[x, y], [x + 90, y], [x + 90, y + 20], [x, y + 20]]

    shuffled = np.array([box(200, 43), box(0, 0), box(0, 40), box(200, 4)], np.float32)
    ordered = import_module("models").reading_order(shuffled)
    assert ordered[:, 0].tolist() == [[0, 0], [200, 4], [0, 40], [200, 43]]


def test_corners_go_clockwise_from_the_top_left(service):
    corners = np.array([[10, 10], [0, 10], [10, 0], [0, 0]], np.float32)
    ordered = import_module("models").clockwise(corners)
    assert ordered.tolist() == [[0, 0], [10, 0], [10, 10], [0, 10]]


def test_the_examples_of_the_stages_run(stages):
    for stage in stages[1:]:
        stage.forward(stage.example)
