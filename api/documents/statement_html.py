"""A statement as one HTML file that prints: heads repeated on each sheet, no line torn between two."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.documents.figures import day, figure
from api.pages import words
from ledger.reports.statement import StatementEntry, StatementHead

_HERE = Path(__file__).parent / "templates"
STYLE = (_HERE / "statement.css").read_text()
# The one style sheet is named by its hash: the file is served under a policy that allows nothing else.
CSP = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    cast(dict[str, Any], made.filters).update(figure=figure, day=day, words=words.journal)
    return made


_TEMPLATES = _environment()


class StatementHtml:
    """``StatementWriter``. Each figure's cell also carries the amount in minor units (``data-minor``)."""

    def __init__(self, head: StatementHead) -> None:
        self._head = head

    def begin(self) -> bytes:
        return self._part("top.html", style=STYLE)

    def entries(self, page: Sequence[StatementEntry]) -> bytes:
        return self._part("rows.html", page=page)

    def end(self) -> bytes:
        return self._part("bottom.html")

    def _part(self, name: str, **more: Any) -> bytes:
        return _TEMPLATES.get_template(name).render(head=self._head, **more).encode()
