"""Send images to the OCR service and print what it read.

    python client.py [--url URL] [IMAGE ...]

Without an image it sends two photographs that scikit-image brings along: a page of a book and a
motorcycle. All that is printed comes from the service's answers.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from mesh import Client, MeshError
from mesh.client import Response

URL = "http://127.0.0.1:8000"


def sample_images() -> list[Path]:
    """Find the two photographs in scikit-image, without importing it."""
    package = find_spec("skimage")
    if package is None or package.origin is None:
        sys.exit("scikit-image is not installed; name an image, or: pip install scikit-image")
    pictures = Path(package.origin).parent / "data"
    return [pictures / "page.png", pictures / "motorcycle_left.png"]


def read_image(client: Client, image: Path) -> Response:
    """Send one image file; return the service's answer, or raise the error that it reports."""
    response = client.post("/inference", image.read_bytes())
    response.raise_for_status()
    return response


def show(image: Path, response: Response) -> None:
    """Print an answer: every line with its score and box, then what each stage took."""
    lines = response.json()["lines"]
    print(f"\n{image.name}: {len(lines)} lines")
    for line in lines:
        corners = " ".join(f"{x:.0f},{y:.0f}" for x, y in line["box"])
        print(f"  {line['score']:.3f}  {line['text']:<56} [{corners}]")
    stages = ", ".join(f"{name} {ms:.1f} ms" for name, ms in response.timings.items())
    print(f"  {stages} (request {response.request_id})")


def main() -> None:
    """Read the command line and do it."""
    arguments = argparse.ArgumentParser(description="Read the text in images.")
    arguments.add_argument("images", nargs="*", type=Path, metavar="IMAGE")
    arguments.add_argument("--url", default=URL, help="where the service is (default: %(default)s)")
    chosen = arguments.parse_args()
    try:
        with Client(chosen.url, timeout=120) as client:
            for image in chosen.images or sample_images():
                show(image, read_image(client, image))
    except (MeshError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
