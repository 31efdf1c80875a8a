"""Settlement files against the books: what is booked, what is refused, what a second import does."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from banks import accounts
from banks.errors import SettlementRefused
from banks.reconcile import compare, load_acquirer_book, load_our_items, unexplained_receivable
from banks.settlement import SettlementFile, SettlementImport, expected, import_file, parse
from banks.settlement_file import LineKind, SettlementLine, Totals
from khata.database import Database
from ledger import model as m
from ledger.acts import By
from ledger.books import change_account, create_book, open_accounts
from ledger.ids import Ids
from ledger.periods import close
from ledger.post import post
from ledger.read import balances
from ledger.search import Query, search
from tests.banks.acquirer import AcquirerProcess
from tests.banks.conftest import NewReference, Rail, now
from tests.banks.words import approved, capture

BANK = "meridian"
PENDING = "Liabilities:Merchant:mer_1:Pending"
NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
EXPECT = """\
INSERT INTO banks.expected_item
SELECT * FROM jsonb_populate_recordset(NULL::banks.expected_item, %(rows)s::jsonb)"""
new_id = Ids(lambda: NOW)


@dataclass
class Books:
    """A book whose merchant has captures and refunds at the bank."""

    conn: psycopg.AsyncConnection[Any]
    book_id: int
    dsn: str

    async def book(
        self, kind: str, rrn: str, amount: int, currency: str = "INR", *, at: datetime = NOW
    ) -> None:
        """What the gateway does when the bank has approved: the journal and the expectation in one unit."""
        receivable, transit = accounts.receivable(BANK), accounts.refunds_in_transit(BANK)
        pairs = [(receivable, PENDING)] if kind == "capture" else [(PENDING, transit), (transit, receivable)]
        postings = tuple(m.Posting(debit, credit, amount, currency) for debit, credit in pairs)
        operation_id = new_id()
        journal = m.Journal(new_id(), kind, m.Source(kind, str(operation_id), "approved"), postings)
        row = expected(
            bank=BANK,
            book_id=self.book_id,
            rrn=rrn,
            kind=kind,
            amount=amount,
            currency=currency,
            merchant_id="mer_1",
            operation_id=operation_id,
            booked_on=at.date(),
        )
        statement = m.Statement(EXPECT, row, together=True)
        [result] = await post(self.conn, self.book_id, [m.Unit((journal,), (statement,))], now=at)
        assert isinstance(result, m.Posted), result
        await self.conn.commit()

    async def posted(self, currency: str = "INR") -> dict[str, int]:
        all_balances = await balances(self.conn, self.book_id)
        return {b.path: b.posted for b in all_balances if b.currency == currency and b.posted}

    async def count(self, table: str) -> int:
        cursor = await self.conn.execute(f"SELECT count(*) FROM {table}")  # type: ignore[arg-type]
        row = await cursor.fetchone()
        assert row is not None
        return row[0]

    async def refused(self, file: SettlementFile, *, at: datetime = NOW) -> SettlementRefused:
        """Import, and see that the refusal leaves every table and balance as it was."""
        tables = ("ledger.journal", "banks.settlement_file", "banks.settlement_line")
        before = [await self.count(table) for table in tables], await self.posted()
        with pytest.raises(SettlementRefused) as refused:
            await import_file(self.conn, self.book_id, file, now=at)
        await self.conn.commit()  # even a caller who goes on and commits has booked nothing
        assert before == ([await self.count(table) for table in tables], await self.posted())
        return refused.value


@pytest.fixture
async def books(database: Database) -> AsyncIterator[Books]:
    async with await psycopg.AsyncConnection.connect(database.app_dsn) as conn:
        book_id = await create_book(conn, name="main", now=NOW)
        currencies = ("INR", "JPY", "KWD")
        await accounts.open_bank_accounts(conn, book_id, BANK, currencies, now=NOW)
        await open_accounts(conn, book_id, [m.NewAccount(PENDING, c) for c in currencies], now=NOW)
        await conn.commit()
        yield Books(conn, book_id, database.app_dsn)


def a_file(
    *items: tuple[str, LineKind, int, int, int], file_id: str = "meridian-20261122-inr"
) -> SettlementFile:
    """A file as ``parse`` gives it; items as (rrn, kind, amount, cost, tax)."""
    lines = tuple(
        SettlementLine(n, kind, rrn, gross, cost, tax, (gross if kind == "capture" else -gross) - cost - tax)
        for n, (rrn, kind, gross, cost, tax) in enumerate(items, start=2)
    )
    sha256 = repr(items).encode()[:32].ljust(32)
    return SettlementFile(BANK, file_id, date(2026, 11, 22), "INR", lines, Totals.of(lines), sha256)


C1 = ("6GZP3Q000001", LineKind.CAPTURE, 100_000, 1_500, 270)
C2 = ("6GZP3Q000002", LineKind.CAPTURE, 50_000, 750, 135)
R1 = ("6GZP3Q000003", LineKind.REFUND, 40_000, 0, 0)


async def test_a_settled_capture_is_booked_as_accounting_md_says(books: Books) -> None:
    await books.book("capture", "6GZP3Q000001", 100_000)
    await import_file(books.conn, books.book_id, a_file(C1), now=NOW)
    assert await books.posted() == {
        accounts.escrow(BANK): 98_230,
        accounts.bank_cost(BANK): 1_500,
        accounts.INPUT_CREDIT: 270,
        PENDING: 100_000,
    }


async def test_a_file_for_a_day_that_is_closed_counts_from_the_first_open_day(books: Books) -> None:
    await books.book("capture", "6GZP3Q000001", 100_000)
    tomorrow = NOW + timedelta(days=1)
    await close(books.conn, books.book_id, By("asha", "day end", tomorrow), through=NOW.date())
    await books.conn.commit()
    await import_file(books.conn, books.book_id, a_file(C1), now=tomorrow)
    found = await search(books.conn, books.book_id, Query(kind="settlement"))
    assert [j.effective_at for j in found.journals] == [datetime(2026, 11, 23, tzinfo=UTC)]


async def test_a_refund_netted_by_the_bank_comes_back_out_of_escrow_without_its_cost(books: Books) -> None:
    await books.book("capture", "6GZP3Q000001", 100_000)
    await books.book("refund", "6GZP3Q000003", 40_000)
    await import_file(books.conn, books.book_id, a_file(C1, R1), now=NOW)
    assert await books.posted() == {
        accounts.escrow(BANK): 58_230,
        accounts.bank_cost(BANK): 1_500,
        accounts.INPUT_CREDIT: 270,
        PENDING: 60_000,
    }


async def test_each_line_is_a_journal_that_names_it_and_takes_effect_on_the_files_day(books: Books) -> None:
    await books.book("capture", "6GZP3Q000001", 100_000)
    await books.book("capture", "6GZP3Q000002", 50_000)
    later = NOW + timedelta(days=2)
    await import_file(books.conn, books.book_id, a_file(C1, C2), now=later)
    settled = (await search(books.conn, books.book_id, Query(kind="settlement"))).journals
    assert {(j.metadata["file_id"], j.metadata["line"], j.metadata["rrn"]) for j in settled} == {
        ("meridian-20261122-inr", "2", "6GZP3Q000001"),
        ("meridian-20261122-inr", "3", "6GZP3Q000002"),
    }
    assert {j.effective_at.date() for j in settled} == {date(2026, 11, 22)}
    assert {j.recorded_at for j in settled} == {later}


async def test_a_second_import_of_the_same_file_changes_nothing_and_gives_the_first_result(
    books: Books,
) -> None:
    await books.book("capture", "6GZP3Q000001", 100_000)
    first = await import_file(books.conn, books.book_id, a_file(C1), now=NOW)
    await books.conn.commit()
    before = await books.count("ledger.journal")
    again = await import_file(books.conn, books.book_id, a_file(C1), now=NOW + timedelta(days=1))
    assert again == replace(first, replayed=True)
    assert not first.replayed
    assert await books.count("ledger.journal") == before


async def test_the_same_file_id_with_other_content_is_refused(books: Books) -> None:
    await books.book("capture", "6GZP3Q000001", 100_000)
    await books.book("capture", "6GZP3Q000002", 50_000)
    await import_file(books.conn, books.book_id, a_file(C1), now=NOW)
    await books.conn.commit()
    assert (await books.refused(a_file(C2))).field == "file_id"


REFUSED = [
    ("unknown reference", a_file(C1, ("6GZP3Q00000X", LineKind.CAPTURE, 5, 0, 0)), 3, "rrn"),
    ("another amount", a_file(("6GZP3Q000001", LineKind.CAPTURE, 99_999, 1_500, 270)), 2, "amount"),
    ("another kind", a_file(("6GZP3Q000001", LineKind.REFUND, 100_000, 0, 0)), 2, "record"),
    ("another currency", replace(a_file(C1), currency="JPY"), 2, "currency"),
    ("unknown bank", replace(a_file(C1), bank="nobody"), 1, "bank"),
    ("a day to come", replace(a_file(C1), settled_on=date(2026, 11, 23)), 1, "date"),
]


@pytest.mark.parametrize(("why", "file", "line", "field"), REFUSED, ids=[case[0] for case in REFUSED])
async def test_a_file_that_disagrees_with_what_is_expected_is_refused_whole(
    books: Books, why: str, file: SettlementFile, line: int, field: str
) -> None:
    await books.book("capture", "6GZP3Q000001", 100_000)
    refused = await books.refused(file)
    assert (refused.line, refused.field) == (line, field), why


async def test_an_item_settled_by_another_file_is_refused(books: Books) -> None:
    await books.book("capture", "6GZP3Q000001", 100_000)
    await books.book("capture", "6GZP3Q000002", 50_000)
    await import_file(books.conn, books.book_id, a_file(C1), now=NOW)
    await books.conn.commit()
    refused = await books.refused(a_file(C2, C1, file_id="meridian-20261123-inr"))
    assert (refused.line, refused.field) == (3, "rrn")


async def test_a_refusal_of_the_ledger_refuses_the_file_at_its_line(books: Books) -> None:
    await books.book("capture", "6GZP3Q000001", 100_000)
    await change_account(
        books.conn,
        books.book_id,
        accounts.escrow(BANK),
        "INR",
        now=NOW,
        reason="enquiry",
        person="tester",
        status=m.AccountStatus.FROZEN,
    )
    await books.conn.commit()
    refused = await books.refused(a_file(C1))
    assert (refused.line, refused.field) == (2, "posting")
    assert "account_frozen" in refused.reason


async def test_two_files_with_an_item_in_common_imported_at_once_settle_it_once(books: Books) -> None:
    await books.book("capture", "6GZP3Q000001", 100_000)
    await books.book("capture", "6GZP3Q000002", 50_000)

    async def run(file: SettlementFile) -> SettlementImport | SettlementRefused:
        async with await psycopg.AsyncConnection.connect(books.dsn) as conn:
            try:
                return await import_file(conn, books.book_id, file, now=NOW)
            except SettlementRefused as refused:
                return refused

    files = [a_file(C1, C2, file_id="meridian-a"), a_file(C2, C1, file_id="meridian-b")]
    results = await asyncio.gather(*(run(file) for file in files))
    assert {type(result) for result in results} == {SettlementImport, SettlementRefused}
    assert (await books.posted())[accounts.escrow(BANK)] == 98_230 + 50_000 - 750 - 135


async def test_the_same_file_imported_at_once_by_two_is_booked_once(books: Books) -> None:
    await books.book("capture", "6GZP3Q000001", 100_000)

    async def run() -> SettlementImport:
        async with await psycopg.AsyncConnection.connect(books.dsn) as conn:
            return await import_file(conn, books.book_id, a_file(C1), now=NOW)

    results = await asyncio.gather(run(), run())
    assert sorted(result.replayed for result in results) == [False, True]
    assert await books.count("banks.settlement_line") == 1


@pytest.mark.parametrize("table", ["expected_item", "settlement_file", "settlement_line"])
@pytest.mark.parametrize("command", ["UPDATE {} SET bank = bank", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
@pytest.mark.parametrize("role", ["app_dsn", "owner_dsn"])
async def test_what_is_expected_and_settled_is_append_only_for_every_role(
    shared_database: Database, table: str, command: str, role: str
) -> None:
    async with await psycopg.AsyncConnection.connect(getattr(shared_database, role)) as conn:
        with pytest.raises(psycopg.Error) as refused:
            await conn.execute(command.format(f"banks.{table}"))  # type: ignore[arg-type]
    assert refused.value.sqlstate == ("42501" if role == "app_dsn" else "KB001")


@pytest.mark.parametrize("currency", ["INR", "JPY", "KWD"])
async def test_the_acquirers_file_brings_the_receivable_to_zero(
    currency: str, acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference, books: Books
) -> None:
    async with rail() as card_rail:
        for amount in (100_000, 3, 12_345):
            authorization = await approved(card_rail, new_ref(), amount=amount, currency=currency)
            captured = await capture(card_rail, new_ref(), authorization, amount, final=True)
            await books.book("capture", captured.reference.rrn, amount, currency, at=now())
        refund = await card_rail.refund(
            new_ref(), amount=5_000, currency=currency, original=captured.reference
        )
        await books.book("refund", refund.reference.rrn, 5_000, currency, at=now())
    ours = await load_our_items(books.conn, books.book_id, BANK)
    assert compare(load_acquirer_book(acquirer.book_directory / "book.jsonl"), ours).none
    assert await unexplained_receivable(books.conn, books.book_id, BANK) == {}

    [cut] = acquirer.post("/settlement")["files"]
    content = (acquirer.files / f"{cut['file_id']}.txt").read_bytes()
    file = parse(io.BytesIO(content))
    await import_file(books.conn, books.book_id, file, now=now())

    posted = await books.posted(currency)
    assert accounts.receivable(BANK) not in posted
    assert posted[PENDING] == 100_000 + 3 + 12_345 - 5_000
    assert posted[accounts.escrow(BANK)] == file.totals.net
    assert await unexplained_receivable(books.conn, books.book_id, BANK) == {}
