"""Search finds exactly the journals that fit, newest first, page by page, however far the index has come."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import orjson
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from khata.database import Database
from ledger.audit.report import Check, Tally
from ledger.audit.terms import check_terms
from ledger.errors import JournalUnreadable
from ledger.search import EVERY, Amount, Query, books_to_index, index_journals, search
from tests.attacks.raw import Leg, forge
from tests.ledger.random_books import WALLETS, RandomBook
from tests.ledger.words import ESCROW, FEES, NOW, PENDING_A, PENDING_B, WALLET, Book, fund, journal, pay

_names = itertools.count(1)


async def numbers(conn: AsyncConnection[Any], book_id: int, query: Query = EVERY, **more: Any) -> list[int]:
    """Of all journals found, page after page; every page but the last one is full."""
    found: list[int] = []
    limit, before = more.pop("limit", 50), None
    while True:
        page = await search(conn, book_id, query, before_seq=before, limit=limit, **more)
        found += [journal.seq for journal in page.journals]
        if page.next_before_seq is None:
            return found
        assert len(page.journals) == limit
        before = page.next_before_seq


async def index_all(conn: AsyncConnection[Any], book_id: int, most: int = 1000) -> None:
    while await index_journals(conn, book_id, most):
        await conn.commit()


# ---------------------------------------------------------------- against brute force


class Said:
    """A journal's canonical line and owners, judged condition by condition: nothing of what is tested."""

    def __init__(self, line: str, owners: dict[tuple[str, str], str | None]) -> None:
        said = self.line = orjson.loads(line)
        self.day = datetime.fromisoformat(said["effective_at"]).astimezone(UTC).date()
        self.recorded_at = datetime.fromisoformat(said["recorded_at"])
        self.owner_of = {
            p: owners[p, x["currency"]] for x in said["postings"] for p in (x["debit"], x["credit"])
        }
        self.amounts = {(abs(int(p["amount"])), p["currency"]) for p in said["postings"]}

    def fits(self, query: Query, owner: str | None) -> bool:
        source = self.line["source"]
        return (
            query.kind in (None, self.line["kind"])
            and query.source_type in (None, source["type"])
            and query.source_id in (None, source["id"])
            and query.source_event in (None, source["event"])
            and (query.account is None or query.account in self.owner_of)
            and (query.account is None or owner in (None, self.owner_of[query.account]))
            and owner in (None, *self.owner_of.values())
            and (query.amount is None or tuple(query.amount) in self.amounts)
            and query.metadata.items() <= self.line["metadata"].items()
            and (query.effective_from or date.min) <= self.day <= (query.effective_to or date.max)
            and (query.recorded_from is None or query.recorded_from <= self.recorded_at)
            and (query.recorded_to is None or self.recorded_at <= query.recorded_to)
        )


def a_query(random: Random, one: Said) -> tuple[Query, str | None]:
    """Conditions that ``one`` fits, each left out at times; and at times one that few journals fit."""
    source = one.line["source"]
    owner = random.choice([None, *one.owner_of.values()])
    mine = [path for path, whose in one.owner_of.items() if owner in (None, whose)]
    facts: dict[str, Any] = {
        "kind": one.line["kind"],
        "source_type": source["type"],
        "source_id": source["id"],
        "source_event": source["event"],
        "account": random.choice(mine),
        "amount": Amount(*random.choice(sorted(one.amounts))),
        "metadata": one.line["metadata"],
        "effective_from": one.day - timedelta(days=random.choice([0, 1, 31, 90])),
        "effective_to": one.day + timedelta(days=random.choice([0, 2, 45, 400])),
        "recorded_from": one.recorded_at - timedelta(microseconds=random.choice([0, 1, 10**8])),
        "recorded_to": one.recorded_at + timedelta(microseconds=random.choice([0, 10**8])),
    }
    chosen = {
        name: facts[name] for name in random.sample(sorted(facts), random.choice([0, 1, 1, 2, 2, 3, 5]))
    }
    if "source_id" in chosen and random.random() < 0.9:
        del chosen["source_id"]  # it leaves one journal
    if random.random() < 0.1:
        other: dict[str, Any] = {"kind": "void", "account": WALLETS[0], "metadata": {"order": "x"}}
        name = random.choice(sorted(other))
        chosen[name] = other[name]
    return Query(**chosen), owner


async def check_random_book(database: Database, random: Random) -> None:
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        book = RandomBook(conn, random)
        await book.open(f"search-{next(_names)}")
        for _ in range(3):
            await book.batch(12)
            await index_journals(conn, book.book_id, random.choice([1, 5, 20, 60]))
            await conn.commit()
        journals = await said_in(conn, book.book_id)
        for _ in range(12):
            query, owner = a_query(random, random.choice(list(journals.values())))
            expected = [seq for seq, one in sorted(journals.items(), reverse=True) if one.fits(query, owner)]
            limit = random.choice([1, 3, 50])
            assert await numbers(conn, book.book_id, query, owner=owner, limit=limit) == expected, query
            await index_journals(conn, book.book_id, random.choice([0, 1, 3]))


async def said_in(conn: AsyncConnection[Any], book_id: int) -> dict[int, Said]:
    cursor = await conn.execute(
        "SELECT path, currency, owner FROM ledger.account WHERE book_id = %s", [book_id]
    )
    owners = {(path, currency): owner for path, currency, owner in await cursor.fetchall()}
    cursor = await conn.execute("SELECT seq, canonical FROM ledger.journal WHERE book_id = %s", [book_id])
    return {seq: Said(line, owners) for seq, line in await cursor.fetchall()}


@settings(max_examples=12, deadline=None, print_blob=True)
@given(seed=st.integers(0, 2**32))
def test_any_query_finds_what_brute_force_finds(shared_database: Database, seed: int) -> None:
    asyncio.run(check_random_book(shared_database, Random(seed)))


# ---------------------------------------------------------------- what is promised


@pytest.fixture
async def indexed(book: Book) -> Book:
    """Journals 1 to 40 with their terms, 41 to 50 without. Every tenth is a rare one of owner b."""
    for n in range(1, 51):
        rare = n % 10 == 0
        where, kind = (PENDING_B, "rare") if rare else (WALLET, "common")
        said = {"order_id": f"o={n}"}
        await book.ok(
            journal(pay(where, ESCROW, n), kind=kind, metadata=said, effective_at=NOW - timedelta(n))
        )
        if n == 40:
            assert await index_journals(book.conn, book.book_id) == 40
    return book


async def test_a_journal_is_found_before_and_after_it_has_its_terms(indexed: Book) -> None:
    for _ in range(2):
        assert await numbers(indexed.conn, indexed.book_id, Query(kind="rare"), limit=2) == [
            50,
            40,
            30,
            20,
            10,
        ]
        assert await numbers(indexed.conn, indexed.book_id, Query(amount=Amount(45, "INR"))) == [45]
        assert await numbers(indexed.conn, indexed.book_id, Query(metadata={"order_id": "o=7"})) == [7]
        assert await numbers(indexed.conn, indexed.book_id, owner="b") == [50, 40, 30, 20, 10]
        await index_all(indexed.conn, indexed.book_id, 3)
    assert await books_to_index(indexed.conn) == []


async def test_days_are_found_through_months_and_the_ends_of_the_range(indexed: Book) -> None:
    # Journal n is effective n days before 2026-11-22.
    first, last = date(2026, 10, 15), date(2026, 11, 20)
    found = await numbers(indexed.conn, indexed.book_id, Query(effective_from=first, effective_to=last))
    assert found == list(range(38, 1, -1))
    whole = Query(effective_from=date(2026, 11, 1), effective_to=date(2026, 11, 30))
    assert await numbers(indexed.conn, indexed.book_id, whole) == list(range(21, 0, -1))
    assert await numbers(indexed.conn, indexed.book_id, Query(effective_to=date(2026, 10, 4))) == [50, 49]
    assert len(await numbers(indexed.conn, indexed.book_id, Query(effective_from=date.min))) == 50
    assert await numbers(indexed.conn, indexed.book_id, Query(effective_from=date.max)) == []
    assert await numbers(indexed.conn, indexed.book_id, Query(effective_from=last, effective_to=first)) == []


async def test_an_amount_given_back_is_found_as_the_amount_that_was_held(book: Book) -> None:
    from ledger import model as m
    from tests.ledger.words import new_id

    hold = m.Place(new_id(), WALLET, PENDING_A, 77, "INR")
    await book.ok(fund(WALLET, 100), journal(hold=hold), journal(hold=m.Release(hold.hold_id)))
    for _ in range(2):
        assert await numbers(book.conn, book.book_id, Query(amount=Amount(77, "INR"))) == [3, 2]
        assert await numbers(book.conn, book.book_id, Query(amount=Amount(77, "JPY"))) == []
        await index_all(book.conn, book.book_id)


async def test_what_touches_no_account_of_that_path_or_owner_is_not_found(indexed: Book) -> None:
    for account in (FEES, "Assets:Nowhere"):
        assert await numbers(indexed.conn, indexed.book_id, Query(account=account)) == []
    assert await numbers(indexed.conn, indexed.book_id, Query(account=PENDING_B), owner="a") == []
    assert await numbers(indexed.conn, indexed.book_id, Query(account=PENDING_B), owner="b", limit=2) == [
        *(50, 40, 30, 20, 10)
    ]
    assert await numbers(indexed.conn, 999) == []


# ---------------------------------------------------------------- the index


async def test_one_indexer_at_a_time_and_writers_wait_for_none(book: Book) -> None:
    await book.ok(*(fund(WALLET, n) for n in range(1, 4)))
    async with await psycopg.AsyncConnection.connect(book.database.app_dsn) as other:
        assert await index_journals(other, book.book_id, 2) == 2
        assert await index_journals(book.conn, book.book_id, 2) == 0
        await book.ok(fund(WALLET, 4))
        await other.rollback()  # it died: nothing of it stands
    assert await index_journals(book.conn, book.book_id, 3) == 3
    assert await index_journals(book.conn, book.book_id, 3) == 1
    assert await index_journals(book.conn, book.book_id, 3) == 0
    assert await index_journals(book.conn, 999) == 0


@pytest.mark.parametrize("table", ["term", "term_run"])
async def test_the_index_is_written_by_its_own_function_only(book: Book, table: str) -> None:
    await book.ok(fund(WALLET, 1))
    await index_journals(book.conn, book.book_id)
    await book.conn.commit()
    copied = f"INSERT INTO ledger.{table} SELECT * FROM ledger.{table}"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await book.conn.execute(copied.encode())
    async with await psycopg.AsyncConnection.connect(book.database.owner_dsn, autocommit=True) as owner:
        for statement in ("DELETE FROM ledger.{}", "UPDATE ledger.{} SET book_id = 9", "TRUNCATE ledger.{}"):
            with pytest.raises(psycopg.DatabaseError) as refused:
                await owner.execute(statement.format(table).encode())
            assert refused.value.sqlstate == "KH010"


# ---------------------------------------------------------------- past this package


LINES = {
    "no JSON": "not json",
    "nothing": "",
    "not a number": '{"metadata":{"a":NaN}}',
    "too deep": "[" * 10**6,
    "no object": "[1]",
    "nothing said": "{}",
    "no character": '{"metadata":{"a":"\\u0000"}}',
    "postings that are none": '{"description":"","metadata":{},"postings":[{"debit":5}]}',
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
async def test_a_line_that_nobody_can_read_keeps_no_other_journal_from_being_found(
    book: Book, line: str
) -> None:
    """Whoever may insert journals can write one; a page that would show it names it."""
    await forge_between_two(book, {"canonical": line})
    for _ in ("the tail", "the index"):
        for amount, seq in ((1, 1), (2, 3)):
            assert await numbers(book.conn, book.book_id, Query(amount=Amount(amount, "INR"))) == [seq]
        with pytest.raises(JournalUnreadable) as unreadable:
            await search(book.conn, book.book_id)
        assert str(unreadable.value) == "the canonical line of journal 2 cannot be read"
        await index_journals(book.conn, book.book_id)
    assert book.book_id not in await books_to_index(book.conn)
    assert await wrong_terms(book) == []


METADATA = {
    "a list": "[]",
    "no text": '{"a":null,"b":1,"c":{"d":"e"},"f":"g"}',
    "one term twice": '{"a=b":"c","a":"b=c","f":"g"}',
    "a long term": '{"a":"' + Random(1).randbytes(4000).hex() + '","f":"g"}',
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
async def test_what_cannot_be_a_term_is_none_and_the_rest_is_found(book: Book, metadata: str) -> None:
    kind = Random(2).randbytes(4000).hex()  # longer than a row of the index may be
    stated = {
        "kind": kind,
        "source": {"type": "forged", "event": "done"},
        "effective_at": NOW.isoformat(),
        "description": "",
        "metadata": orjson.loads(metadata),
        "postings": [
            {"debit": ESCROW, "credit": WALLET, "amount": "7", "currency": "INR", "layer": "posted"}
        ],
    }
    await forge_between_two(book, {"kind": kind, "canonical": orjson.dumps(stated).decode()})
    expected = {
        "amount": (Query(amount=Amount(7, "INR")), [2]),
        "kind": (Query(kind=kind), []),
        "metadata": (Query(metadata={"f": "g"}), [2] if "f" in metadata else []),
        "everything": (EVERY, [3, 2, 1]),
    }
    for _ in ("the tail", "the index"):
        for name, (query, seqs) in expected.items():
            assert await numbers(book.conn, book.book_id, query) == seqs, name
        await index_journals(book.conn, book.book_id)
    assert book.book_id not in await books_to_index(book.conn)
    assert await wrong_terms(book) == []


async def forge_between_two(book: Book, row: dict[str, str]) -> None:
    """Journal 2 of three, by raw SQL."""
    await book.ok(fund(WALLET, 1))
    forged = await forge(book.conn, book.book_id, [Leg(ESCROW, WALLET, 7)])
    forged.journals[0] |= row
    await forged.insert(book.conn)
    await book.ok(fund(WALLET, 2))


async def wrong_terms(book: Book) -> list[str]:
    tally = Tally(Check("I10.terms", "Terms"))
    await check_terms(book.conn, book.book_id, tally)
    return [str(finding) for finding in tally.findings]
