"""Scripts, styles and pictures: where they are, and what they must hash to (Subresource Integrity)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STATIC = Path(__file__).parent.parent / "static"


@dataclass(frozen=True, slots=True)
class Asset:
    """``url`` changes with the content, so that no cache can serve an old file to a new page."""

    url: str
    integrity: str


@cache
def asset(name: str) -> Asset:
    """The file ``name`` below ``api/static``, read once. ``FileNotFoundError`` if there is none."""
    digest = hashlib.sha384((STATIC / name).read_bytes()).digest()
    return Asset(f"/static/{name}?v={digest.hex()[:16]}", "sha384-" + base64.b64encode(digest).decode())
