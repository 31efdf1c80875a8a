"""AICPA Audit Data Standards, general ledger: the flat files ``GL_Detail``, ``Trial_Balance``, ``Chart_Of_Accounts``.

Columns, lengths and codes are data: ``ads_schema.json``, which names its source. Pipe-delimited UTF-8 with a header.

The general ledger is the posted layer: pending lines are no part of it. Journals are those recorded in the range;
``Effective_Date`` says from when each counts, ``Entered_Date`` when it was recorded (UTC). An account of Khata's is a
path in one currency, and ``GL_Account_Number`` is both (``account_number``). ``Amount`` has no sign, beginning and
ending ones are debit positive: what began and the lines make what ended. ``Entered_By`` and ``Approved_By`` are the
two people of an adjustment; everything else was entered by the program. Texts longer than the standard's columns are
cut, and line breaks are spaces.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncConnection

from ledger import adjustments
from ledger.export.money import decimal_text
from ledger.export.selection import Chosen, journal_pages
from ledger.export.standing import Standing, accounts_of
from ledger.export.tables import text_cell

DELIMITER = "|"
PROGRAM = "khata"
_TYPES = {
    "Assets": "Assets",
    "Liabilities": "Liabilities",
    "Equity": "Equity",
    "Income": "Revenues",
    "Expenses": "Expenses",
}
_LONGEST_NUMBER = 100
_DIGEST = 32
Row = Mapping[str, str]
# Proposer, approver, when approved: of an adjustment.
People = tuple[str, str, datetime]


@cache
def schema() -> Any:
    """The document ``ads_schema.json``."""
    return orjson.loads(files("ledger.export").joinpath("ads_schema.json").read_bytes())


def account_number(path: str, currency: str) -> str:
    """``Assets:Bank:Escrow INR``; of a path too long for the column its beginning and a digest of it."""
    name = f"{path} {currency}"
    if len(name) <= _LONGEST_NUMBER:
        return name
    return f"{path[: _LONGEST_NUMBER - _DIGEST - 5]}~{sha256(path.encode()).hexdigest()[:_DIGEST]} {currency}"


# ---------------------------------------------------------------- GL_Detail


async def gl_detail(conn: AsyncConnection[Any], chosen: Chosen) -> AsyncGenerator[bytes]:
    yield _header("GL_Detail")
    async for page in journal_pages(conn, chosen):
        journals = [orjson.loads(line) for line in page]
        people = await _people(conn, chosen, journals)
        yield _rows("GL_Detail", (row for journal in journals for row in _detail(chosen, journal, people)))


def _detail(chosen: Chosen, journal: dict[str, Any], people: Mapping[str, People]) -> Iterator[Row]:
    head = _detail_head(chosen, journal) | _entered(journal, people.get(journal["source"]["id"]))
    for place, p in enumerate(journal["postings"]):
        if p["layer"] != "posted":
            continue
        for number, (side, indicator) in enumerate((("debit", "D"), ("credit", "C")), start=2 * place + 1):
            yield head | {
                "Journal_ID_Line_Number": str(number),
                "GL_Account_Number": account_number(p[side], p["currency"]),
                "Amount": decimal_text(int(p["amount"]), p["currency"]),
                "Amount_Credit_Debit_Indicator": indicator,
                "Amount_Currency": p["currency"],
            }


def _detail_head(chosen: Chosen, journal: dict[str, Any]) -> dict[str, str]:
    source, effective = journal["source"], date.fromisoformat(journal["effective_at"][:10])
    said = f"{journal['kind']}: {journal['description']}" if journal["description"] else journal["kind"]
    reverses = journal.get("reverses")
    return {
        "Journal_ID": str(journal["seq"]),
        "JE_Header_Description": said,
        "JE_Line_Description": f"{source['type']}/{source['id']}/{source['event']}",
        "Source": source["type"],
        "Business_Unit_Code": chosen.book,
        "Effective_Date": effective.isoformat(),
        "Fiscal_Year": f"{effective.year:04}",
        "Period": f"M{effective.month}",
        "Reversal_Indicator": "" if reverses is None else "1",
        "Reversal_Journal_ID": "" if reverses is None else str(reverses),
    }


def _entered(journal: dict[str, Any], people: People | None) -> dict[str, str]:
    proposer, approver, at = people or (PROGRAM, "", None)
    recorded = journal["recorded_at"]
    return {
        "Entered_By": proposer,
        "Entered_Date": recorded[:10],
        "Entered_Time": recorded[11:19],
        "Approved_By": approver,
        "Approved_Date": "" if at is None else at.astimezone(UTC).date().isoformat(),
    }


_PEOPLE = """
SELECT p.proposal_id::text, p.proposer, v.person, v.decided_at
  FROM ledger.proposal p JOIN ledger.verdict v USING (book_id, proposal_id)
 WHERE p.book_id = %s AND p.proposal_id = ANY(%s) AND v.approved"""


async def _people(
    conn: AsyncConnection[Any], chosen: Chosen, journals: Iterable[dict[str, Any]]
) -> dict[str, People]:
    """By proposal; an adjustment's source is its proposal."""
    ids = [UUID(j["source"]["id"]) for j in journals if j["source"]["type"] == adjustments.KIND]
    if not ids:
        return {}
    rows = await (await conn.execute(_PEOPLE, [chosen.book_id, ids])).fetchall()
    return {id_: (proposer, approver, at) for id_, proposer, approver, at in rows}


# ---------------------------------------------------------------- accounts


async def trial_balance(conn: AsyncConnection[Any], chosen: Chosen) -> AsyncGenerator[bytes]:
    yield _header("Trial_Balance")
    found = await accounts_of(conn, chosen)
    async for page in found.pages(conn):
        yield _rows("Trial_Balance", (_balance(chosen, s) for s in page if s.chosen))


def _balance(chosen: Chosen, s: Standing) -> Row:
    return {
        "GL_Account_Number": account_number(s.path, s.currency),
        "Business_Unit_Code": chosen.book,
        "Fiscal_Year": f"{chosen.last_day.year:04}",
        "Period": period(chosen.first_day, chosen.last_day),
        "Balance_As_Of_Date": chosen.last_day.isoformat(),
        "Amount_Beginning": decimal_text(s.opening, s.currency),
        "Amount_Ending": decimal_text(s.closing, s.currency),
        "Amount_Currency": s.currency,
    }


def period(first: date, last: date) -> str:
    """``M11`` within a month; else the first and the last day, as the column has 15 characters: ``260928-261122``."""
    if (first.year, first.month) == (last.year, last.month):
        return f"M{last.month}"
    return f"{first:%y%m%d}-{last:%y%m%d}"


async def chart_of_accounts(conn: AsyncConnection[Any], chosen: Chosen) -> AsyncGenerator[bytes]:
    yield _header("Chart_Of_Accounts")
    found = await accounts_of(conn, chosen)
    async for page in found.pages(conn):
        yield _rows("Chart_Of_Accounts", (_account(s) for s in page))


def _account(s: Standing) -> Row:
    root, second = s.path.split(":")[:2]
    return {
        "GL_Account_Number": account_number(s.path, s.currency),
        "GL_Account_Name": s.path,
        "FS_Caption": f"{root}:{second}",
        "Account_Type": _TYPES[root],
        "Account_Subtype": second,
    }


# ---------------------------------------------------------------- flat files


def _header(table: str) -> bytes:
    return _text([[field["name"] for field in _fields(table)]])


def _rows(table: str, rows: Iterable[Row]) -> bytes:
    fields = [(field["name"], field.get("length"), field["type"] == "text") for field in _fields(table)]
    return _text([[_cell(row[name], length, text) for name, length, text in fields] for row in rows])


def _fields(table: str) -> list[dict[str, Any]]:
    return schema()["tables"][table]["fields"]


def _cell(value: str, length: int | None, text: bool) -> str:
    return text_cell(" ".join(value.split("\n")))[:length] if text else value


def _text(rows: Iterable[Iterable[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=DELIMITER, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()
