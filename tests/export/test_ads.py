"""The AICPA files, held against the schema that is kept as data, and against the books."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections import defaultdict
from datetime import date, time
from decimal import Decimal
from typing import Any

import pytest
from psycopg import AsyncConnection

from khata.database import Database
from ledger.export import FILES, Selection, minor_units
from ledger.export.ads import DELIMITER, account_number, period, schema
from ledger.export.money import exponent
from tests.export.books import AWKWARD, exported, journals, large_book, sums

Table = list[dict[str, str]]
PERIODS = [Selection(), Selection(after_seq=200, through_seq=900), Selection(owner="c1", after_seq=200)]


@pytest.fixture(scope="module")
def book_id(shared_database: Database) -> int:
    async def build() -> int:
        async with await AsyncConnection.connect(shared_database.app_dsn) as conn:
            return (await large_book(conn, journals=1200)).book_id

    return asyncio.run(build())


async def tables(dsn: str, book_id: int, selection: Selection) -> dict[str, Table]:
    """The files of an export, read as the schema says they are to be read."""
    found: dict[str, Table] = {}
    for name in FILES["ads"]:
        text = (await exported(dsn, book_id, "ads", name, selection)).decode(schema()["form"]["encoding"])
        rows = list(csv.reader(io.StringIO(text), delimiter=schema()["form"]["delimiter"]))
        table = name.removesuffix(".txt")
        assert rows[0] == [field["name"] for field in schema()["tables"][table]["fields"]]
        found[table] = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    return found


def faults(found: dict[str, Table]) -> list[str]:
    """What in the files is not as the schema says: types, lengths, codes, references, keys."""
    out: list[str] = []
    for name, table in found.items():
        described = schema()["tables"][name]
        for field in described["fields"]:
            known = known_keys(found, field)
            values = {row[field["name"]] for row in table}
            wrong = [v for v in values if not fits(field, v) or (known is not None and v not in known)]
            out += [f"{name}.{field['name']}: {value!r}" for value in wrong]
        keys = {tuple(row[part] for part in described["key"]) for row in table}
        out += [f"{name}: a key is there twice"] if len(keys) != len(table) else []
    return out


def known_keys(found: dict[str, Table], field: dict[str, Any]) -> set[str] | None:
    """The keys of the table that a field refers to, if it does."""
    if "references" not in field:
        return None
    [key] = schema()["tables"][field["references"]]["key"]
    return {row[key] for row in found[field["references"]]}


READERS = {
    "text": str,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "year": int,
    "amount": Decimal,
    "currency": str,
}


def fits(field: dict[str, Any], value: str) -> bool:
    if value == "":
        return not field.get("required") and "" in field.get("values", [""])
    try:
        READERS[field["type"]](value)
    except (ValueError, ArithmeticError):
        return False
    return len(value) <= field.get("length", 1000) and value in field.get("values", [value])


@pytest.mark.parametrize("selection", PERIODS)
async def test_the_files_are_as_the_schema_describes_them(
    shared_database: Database, book_id: int, selection: Selection
) -> None:
    found = await tables(shared_database.audit_dsn, book_id, selection)
    assert all(found.values())
    assert faults(found) == []


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("GL_Detail", "Amount_Credit_Debit_Indicator", "X"),
        ("GL_Detail", "Effective_Date", "2026-13-01"),
        ("GL_Detail", "GL_Account_Number", "Assets:Unknown INR"),
        ("GL_Detail", "Journal_ID", ""),
        ("GL_Detail", "Amount", "1,5"),
        ("Trial_Balance", "Period", "from here to there"),
        ("Chart_Of_Accounts", "Account_Type", "Income"),
    ],
)
async def test_a_file_that_is_not_is_found_out(
    shared_database: Database, book_id: int, table: str, field: str, value: str
) -> None:
    found = await tables(shared_database.audit_dsn, book_id, Selection(through_seq=50))
    found[table][3][field] = value
    assert any(fault.startswith(f"{table}.{field}: ") for fault in faults(found))


@pytest.mark.parametrize("selection", PERIODS)
async def test_what_began_and_the_lines_make_what_ended_and_that_is_the_books_balance(
    shared_database: Database, book_id: int, selection: Selection
) -> None:
    dsn = shared_database.audit_dsn
    found = await tables(dsn, book_id, selection)
    head = len(await journals(dsn, book_id))
    ours = await sums(dsn, book_id, selection.through_seq or head)
    before = await sums(dsn, book_id, selection.after_seq)
    names = {account_number(path, currency): (path, currency) for path, currency in (*ours, *before)}
    moved: defaultdict[str, int] = defaultdict(int)
    for row in found["GL_Detail"]:
        amount = minor_units(row["Amount"], row["Amount_Currency"])
        assert amount > 0
        moved[row["GL_Account_Number"]] += amount if row["Amount_Credit_Debit_Indicator"] == "D" else -amount
    for row in found["Trial_Balance"]:
        at, currency = row["GL_Account_Number"], row["Amount_Currency"]
        began, ended = (minor_units(row[name], currency) for name in ("Amount_Beginning", "Amount_Ending"))
        assert began + moved[at] == ended
        if at in names:
            assert (began, ended) == (before.get(names[at], 0), ours.get(names[at], 0))
        else:
            assert began == ended == 0
        assert re.fullmatch(rf"-?\d+(\.\d{{{exponent(currency)}}})?", row["Amount_Ending"])
    if selection.owner is None:
        assert {at for at, amount in moved.items() if amount} <= {
            r["GL_Account_Number"] for r in found["Trial_Balance"]
        }


async def test_each_journal_balances_and_has_its_posted_lines_alone(
    shared_database: Database, book_id: int
) -> None:
    dsn = shared_database.audit_dsn
    found = (await tables(dsn, book_id, Selection()))["GL_Detail"]
    posted = {
        str(j["seq"]): 2 * n
        for j in await journals(dsn, book_id)
        if (n := sum(p["layer"] == "posted" for p in j["postings"]))
    }
    lines: defaultdict[str, int] = defaultdict(int)
    totals: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in found:
        lines[row["Journal_ID"]] += 1
        sign = 1 if row["Amount_Credit_Debit_Indicator"] == "D" else -1
        totals[row["Journal_ID"], row["Amount_Currency"]] += sign * Decimal(row["Amount"])
    assert dict(lines) == posted
    assert not any(totals.values())


async def test_an_adjustment_names_who_entered_and_who_approved_it_a_reversal_what_it_reverses(
    shared_database: Database, book_id: int
) -> None:
    dsn = shared_database.audit_dsn
    rows = (await tables(dsn, book_id, Selection()))["GL_Detail"]
    by_people = {(row["Entered_By"], row["Approved_By"]) for row in rows if row["Source"] == "adjustment"}
    assert by_people == {("asha", "ben")}
    assert {row["Entered_By"] for row in rows if row["Source"] != "adjustment"} == {"khata"}
    reversals = {str(j["seq"]): str(j["reverses"]) for j in await journals(dsn, book_id) if "reverses" in j}
    assert {
        r["Journal_ID"]: r["Reversal_Journal_ID"] for r in rows if r["Reversal_Indicator"] == "1"
    } == reversals
    assert reversals


def test_an_account_number_fits_and_two_accounts_never_share_one() -> None:
    long = AWKWARD[-1]
    numbers = {
        account_number(path, currency) for path in (*AWKWARD, long[:-1]) for currency in ("INR", "KWD")
    }
    assert len(numbers) == 2 * (len(AWKWARD) + 1)
    assert max(map(len, numbers)) <= 100
    assert not any(DELIMITER in number for number in numbers)


def test_a_period_is_a_month_or_its_first_and_last_day() -> None:
    assert period(date(2026, 11, 1), date(2026, 11, 30)) == "M11"
    assert period(date(2026, 9, 28), date(2026, 11, 22)) == "260928-261122"
    assert period(date(2025, 11, 1), date(2026, 11, 30)) == "251101-261130"


def test_the_schema_names_its_source() -> None:
    assert {"standard", "names_lengths_and_codes"} <= set(schema()["source"])
    assert set(schema()["tables"]) == {name.removesuffix(".txt") for name in FILES["ads"]}
