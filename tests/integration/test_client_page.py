"""docs/client.md: its code is run as it stands there, and names all that there is."""

import re

from site_runs import ROOT, running

from mesh import Client
from mesh.client import Response

PAGE = (ROOT / "docs" / "client.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_what_it_shows_is_what_happens(tmp_path):
    service, *examples = blocks("python")
    (file,) = blocks("toml")
    names = {}
    with running(tmp_path, service, file) as site:
        for example in examples:
            exec(example.replace("http://127.0.0.1:8000", site.url), names)


def test_it_names_every_method_and_attribute():
    public = {
        name
        for kind in (Client, Response)
        for name in dir(kind)
        if not name.startswith("_") and name != "count" and name != "index"
    }
    assert {name for name in public if not re.search(rf"\b{name}\b", PAGE)} == set()
