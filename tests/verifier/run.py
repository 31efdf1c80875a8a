"""Runs the verifier as its users do, in this process."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from verifier.khata_verify import main


def verify(pack: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and what the report says."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([str(pack), "--json", *options])
    return code, json.loads(out.getvalue()) if out.getvalue() else {}


def refusal(pack: Path, *options: str) -> tuple[str, int | None]:
    """File and line of what is wrong; fails unless something is."""
    code, report = verify(pack, *options)
    assert code == 1, report
    assert report["verdict"] == "wrong"
    wrong = report["wrong"]
    assert wrong["says"] != wrong["must"], wrong
    return wrong["file"], wrong["line"]
