"""The files a statement comes as."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from api.documents.statement_html import CSP, StatementHtml
from api.documents.statement_pdf import StatementPdf
from ledger.reports.camt053 import StatementCamt053
from ledger.reports.statement import StatementHead, StatementWriter
from ledger.reports.statement_csv import StatementCsv

_LONGEST_NAME = 120


@dataclass(frozen=True, slots=True)
class Format:
    """``inline``: a browser shows it in its place instead of storing it."""

    writer: Callable[[StatementHead], StatementWriter]
    media_type: str
    suffix: str
    inline: bool = False


FORMATS: Mapping[str, Format] = {
    "csv": Format(StatementCsv, "text/csv; charset=utf-8", "csv"),
    "camt.053": Format(StatementCamt053, "application/xml", "xml"),
    "html": Format(StatementHtml, "text/html; charset=utf-8", "html", inline=True),
    "pdf": Format(StatementPdf, "application/pdf", "pdf"),
}


def file_name(head: StatementHead, format: Format) -> str:
    """``Assets-Bank-Meridian-Escrow-INR-2026-11-01-2026-11-30.csv``; a long path keeps its end."""
    path = head.path.replace(":", "-")[-_LONGEST_NAME:]
    return f"{path}-{head.currency}-{head.first}-{head.last}.{format.suffix}"


def headers(head: StatementHead, format: Format) -> dict[str, str]:
    place = "inline" if format.inline else "attachment"
    named = {"Content-Disposition": f'{place}; filename="{file_name(head, format)}"'}
    return named | ({"Content-Security-Policy": CSP} if format.inline else {})
