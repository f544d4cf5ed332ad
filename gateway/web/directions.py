"""What a client is told that asked at the wrong path or with the wrong method. Pure.

All texts are bounded, whatever was asked and however many routes there are, and none repeats what
the client sent: a scanner that tries a thousand paths costs as little as before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from heapq import nlargest
from itertools import islice
from shlex import quote
from typing import Final

from mesh.config.schema import nearest

SHOWN_ROUTES: Final = 20  # routes that are named
_COMPARED_PATHS: Final = 2  # paths that a mistyped one is compared with in full
_COMPARED_CHARACTERS: Final = 64  # characters of a mistyped path that is compared at all
_HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,100}")

Routes = Mapping[str, Sequence[str]]


def named(paths: Sequence[str]) -> str:
    """Some of these paths, and how many more there are.

    Example:
        >>> named(["/a", "/b"])
        '/a, /b'
    """
    shown = ", ".join(paths[:SHOWN_ROUTES]) or "none"
    more = len(paths) - SHOWN_ROUTES
    return f"{shown} and {more} more" if more > 0 else shown


def not_found(path: str, routes: Routes, pages: Iterable[str]) -> str:
    """There is nothing at `path`: what may have been meant, and what there is.

    Example:
        >>> not_found("/infrence", {"/inference": ("echo",)}, ["/health"])
        'there is nothing at this path (did you mean /inference?); routes: /inference'
    """
    meant = (
        _meant(path, (*islice(routes, SHOWN_ROUTES), *pages))
        if len(path) <= _COMPARED_CHARACTERS
        else None
    )
    hint = f" (did you mean {meant}?)" if meant else ""
    return f"there is nothing at this path{hint}; routes: {named(list(routes))}"


@lru_cache(256)
def _meant(path: str, known: tuple[str, ...]) -> str | None:
    """The known path that is most like this one, if any is.

    To compare two paths well takes as long as to answer a page, so it is done with those only that
    have the most characters in common; and a client that asks again and again is answered at once.
    """
    matcher = SequenceMatcher(b=path)
    likely = []
    for one in known:
        matcher.set_seq1(one)
        likely.append((matcher.quick_ratio(), one))
    best = [one for _, one in nlargest(_COMPARED_PATHS, likely)]
    return nearest(path, best)


def call(host: str, path: str) -> str:
    """A command that calls a route.

    Args:
        host: what the client calls this host; anything odd is not repeated.
        path: the route's.

    Example:
        >>> call("127.0.0.1:8000", "/inference")
        'curl -d @request.json http://127.0.0.1:8000/inference'
    """
    host = host if _HOST.fullmatch(host) else "HOST"
    return f"curl -d @request.json {quote(f'http://{host}{path}')}"


def no_inference_here(host: str, routes: Routes) -> str:
    """A request was posted to the root."""
    text = f"inference is not at / but at a route: {named(list(routes))}"
    return f"{text}; for example: {call(host, next(iter(routes)))}" if routes else text


def root_text(title: str, routes: Routes, pages: Mapping[str, str]) -> str:
    """What is served here, for people."""
    width = max(map(len, [*routes, *pages]), default=0) + 2
    lines = [title, "", "Routes (POST):"]
    lines += [f"  {path:{width}}{' -> '.join(stages)}" for path, stages in routes.items()]
    lines += ["", "Pages (GET):"]
    lines += [f"  {path:{width}}{what}" for path, what in pages.items()]
    return "\n".join(lines) + "\n"


def root_json(version: str, routes: Routes, pages: Mapping[str, str]) -> str:
    """The same for programs."""
    shown = {path: list(stages) for path, stages in routes.items()}
    return json.dumps(
        {"name": "meshline", "version": version, "routes": shown, "pages": dict(pages)},
        separators=(",", ":"),
    )
