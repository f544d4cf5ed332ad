"""Answers to requests with a wrong path or method, which say what is right. Pure.

All texts are bounded, whatever the request and however many routes there are, and none repeats what
the client sent. A scanner that tries a thousand paths stays cheap.
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
_COMPARED_PATHS: Final = 2  # paths that a mistyped one is fully compared with
_COMPARED_CHARACTERS: Final = 64  # limit of the characters of a path that is compared
_HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,100}")

Routes = Mapping[str, Sequence[str]]


def named(paths: Sequence[str]) -> str:
    """Return some of these paths, and how many more there are.

    Example:
        >>> named(["/a", "/b"])
        '/a, /b'
    """
    shown = ", ".join(paths[:SHOWN_ROUTES]) or "none"
    more = len(paths) - SHOWN_ROUTES
    return f"{shown} and {more} more" if more > 0 else shown


def not_found(path: str, routes: Routes, pages: Iterable[str]) -> str:
    """Return the text for a path without a page or route: the likely path, and all routes.

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
    """Return the known path that is most similar to this one, if any is.

    A full comparison of two paths takes as long as a page, so only the paths with the most common
    characters are compared. The results are cached.
    """
    matcher = SequenceMatcher(b=path)
    likely = []
    for one in known:
        matcher.set_seq1(one)
        likely.append((matcher.quick_ratio(), one))
    best = [one for _, one in nlargest(_COMPARED_PATHS, likely)]
    return nearest(path, best)


def call(host: str, path: str) -> str:
    """Return a command that calls a route.

    Args:
        host: the client's name for this host; an unusual one is not repeated.
        path: the route's path.

    Example:
        >>> call("127.0.0.1:8000", "/inference")
        'curl -d @request.json http://127.0.0.1:8000/inference'
    """
    host = host if _HOST.fullmatch(host) else "HOST"
    return f"curl -d @request.json {quote(f'http://{host}{path}')}"


def no_inference_here(host: str, routes: Routes) -> str:
    """Return the text for a request that was posted to the root."""
    text = f"inference is not at / but at a route: {named(list(routes))}"
    return f"{text}; for example: {call(host, next(iter(routes)))}" if routes else text


def root_text(title: str, routes: Routes, pages: Mapping[str, str]) -> str:
    """Return the root page as text."""
    width = max(map(len, [*routes, *pages]), default=0) + 2
    lines = [title, "", "Routes (POST):"]
    lines += [f"  {path:{width}}{' -> '.join(stages)}" for path, stages in routes.items()]
    lines += ["", "Pages (GET):"]
    lines += [f"  {path:{width}}{what}" for path, what in pages.items()]
    return "\n".join(lines) + "\n"


def root_json(version: str, routes: Routes, pages: Mapping[str, str]) -> str:
    """Return the root page as JSON."""
    shown = {path: list(stages) for path, stages in routes.items()}
    return json.dumps(
        {"name": "meshline", "version": version, "routes": shown, "pages": dict(pages)},
        separators=(",", ":"),
    )
