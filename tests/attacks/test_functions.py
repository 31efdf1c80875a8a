"""The functions that the application may run, with hostile arguments; and the refusals of what they write.

On the book of `khata audit --tamper-test`. What a hostile call is allowed to do is committed: the book must still
pass its audit afterwards.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, sql

from khata.database import Database
from khata.tamper import sample
from khata.tamper.sample import SHOP, WALLETS, sample_book
from khata.tamper.spans import small_spans
from ledger.adjustments import Adjustment
from ledger.audit import audit
from ledger.books import create_book
from ledger.model import Posting
from tests.attacks import tally
from tests.attacks.expectations import RUN
from tests.attacks.raw import Leg, forge, is_refused, refused

LATER = sample.START + timedelta(days=30)


@dataclass(frozen=True)
class Ground:
    database: Database
    book_id: int
    other_book: int

    async def one(self, statement: str, *values: object) -> Any:
        async with await AsyncConnection.connect(self.database.admin_dsn) as conn:
            row = await (await conn.execute(statement.encode(), values)).fetchone()
            assert row is not None
            return row[0]

    async def account(self, path: str) -> int:
        find = "SELECT account_id FROM ledger.account WHERE book_id = %s AND path = %s AND currency = 'INR'"
        return await self.one(find, self.book_id, path)


@pytest.fixture(scope="module")
def ground(shared_database: Database) -> Ground:
    async def build() -> Ground:
        await small_spans(shared_database.owner_dsn)
        book_id = await sample_book(shared_database.app_dsn)
        async with await AsyncConnection.connect(shared_database.app_dsn) as conn:
            return Ground(shared_database, book_id, await create_book(conn, name="beside", now=LATER))

    return asyncio.run(build())


PROPOSED = "(SELECT proposal_id FROM ledger.proposal WHERE book_id = {book} ORDER BY act LIMIT 1)"
COMPLETED = "(SELECT transfer_id FROM ledger.transfer WHERE book_id = {book} AND state = 'completed' LIMIT 1)"
HEAD = "(SELECT head FROM ledger.book WHERE book_id = {other})"  # of a book that is not closed
IN_FLIGHT = COMPLETED.replace("completed", "in_flight")
ABSENT = "'01a00000-0000-7000-8000-000000000000'"

SIZE = "(SELECT max(size) FROM ledger.checkpoint WHERE book_id = {book})"
SEAL = "SELECT ledger.seal({{book}}, {size}, 0, {acts}, 0, '', '{tiles}', '', sha256('x'), 'mine', {{later}})"

# SQLSTATE, the role, a statement. {account} is a wallet of the book that has limits.
ATTACKS = [
    ("KH005", "khata_app", "SELECT ledger.propose(77, {absent}, 'adjustment', '{{}}', 'ada', 'why', {later})"),
    ("KH012", "khata_app", "SELECT ledger.change_account({book}, 999, 0, 'open', 'why', 'ada', {later})"),
    ("KH014", "khata_app", "SELECT ledger.propose({book}, {absent}, 'theft', '{{}}', 'ada', 'why', {later})"),
    ("KH018", "khata_owner", "UPDATE ledger.balance SET pending_debits = -1 WHERE account_id = {account}"),
    ("KH016", "khata_owner", "UPDATE ledger.hold SET captured = captured + 100000"),
    ("KH017", "khata_owner", "UPDATE ledger.balance SET status = 'closed' WHERE account_id = {account}"),
    ("KH006", "khata_owner", "UPDATE ledger.balance SET floor = 10^15 WHERE account_id = {account}"),
    ("KH011", "khata_owner", "UPDATE ledger.book SET recorded_at = '2001-01-01'"),
    (
        "KH021", "khata_app",
        "SELECT ledger.set_limit({book}, {account}, 'daily', 'credit', 'sum', 1, 'day', true, 'why', 'ada', {later})",
    ),
    (
        "KH022", "khata_app",
        "SELECT ledger.set_limit({book}, {account}, 'mine', 'debit', 'sum', 1, 'year', true, 'why', 'ada', {later})",
    ),
    ("KH025", "khata_app", "SELECT ledger.change_account({book}, {account}, 0, 'open', '', 'ada', {later})"),
    ("KH025", "khata_app", "SELECT ledger.change_account({book}, {account}, 0, 'open', 'why', NULL, {later})"),
    (
        "KH026", "khata_app",
        "SELECT ledger.decide_proposal({book}, {absent}, 'adjustment', true, 'eve', 'why', {later})",
    ),
    (
        "KH026", "khata_app",
        f"SELECT ledger.decide_proposal({{book}}, {PROPOSED}, 'adjustment', true, 'eve', 'why', {{later}})",
    ),
    ("KH027", "khata_app", "SELECT ledger.close_period({book}, '2099-01-01', sha256('x'), 0, 'eve', 'why', {later})"),
    *(
        (
            "KH014", "khata_app",
            f"SELECT ledger.close_period({{other}}, '{day}', sha256('x'), {HEAD}, 'eve', 'why', {{later}})",
        )
        for day in ("-infinity", "0044-03-15 BC", "1899-12-31")
    ),
    ("KH028", "khata_app", "SELECT ledger.propose({book}, {absent}, 'adjustment', '{{}}', 'eve', 'why', {later})"),
    ("KH030", "khata_app", "SELECT ledger.known({book}, 1000000, NULL)"),
    ("KH030", "khata_audit", "SELECT ledger.known({book}, 1000000, NULL)"),
    (
        "KH032", "khata_app",
        "SELECT ledger.record_transfer({book}, {absent}, {other}, 'debit', 'Assets:A', 'Assets:B', 1, 'INR')",
    ),
    ("KH033", "khata_app", "SELECT ledger.record_arrival({book}, {other}, {absent}, NULL)"),
    ("KH034", "khata_app", f"SELECT ledger.end_transfer({{book}}, {COMPLETED}, NULL, 'mine')"),
    ("KH034", "khata_app", f"SELECT ledger.end_transfer({{book}}, {IN_FLIGHT}, 999999, NULL)"),
    ("KH035", "khata_owner", "UPDATE ledger.transfer SET amount = amount + 1"),
    ("KH038", "khata_app", SEAL.format(size="0", acts=1, tiles="")),
    ("KH039", "khata_app", SEAL.format(size=SIZE, acts=10**9, tiles="")),
    ("KH040", "khata_app", SEAL.format(size=SIZE, acts=0, tiles="")),
    ("KH040", "khata_app", SEAL.format(size=SIZE, acts=0, tiles="x")),
    (
        "KH041", "khata_app",
        "SELECT ledger.add_log_key({book}, 2, 'n', sha256('x'), 'x', {later}, {later}, 'mine')",
    ),
    (
        "KH041", "khata_app",
        "SELECT ledger.add_log_key({book}, 3, 'another.name', sha256('x'), 'x', {later}, {later}, 'mine')",
    ),
    (
        "KH041", "khata_app",
        "SELECT ledger.add_log_key({book}, 3, 'khata.test/sample', sha256('x'), 'x', {later}, NULL, NULL)",
    ),
    ("KH042", "khata_app", "SELECT ledger.add_cosignature({book}, 1, 'w', '— w AAAA')"),
    ("KH042", "khata_app", f"SELECT ledger.add_cosignature({{book}}, {SIZE}, 'w', 'no line')"),
    ("KH019", "khata_app", "SELECT ledger.change_account({book}, {account}, 0, NULL, 'why', 'ada', {later})"),
    ("KH035", "khata_owner", "UPDATE ledger.transfer SET state = 'in_flight', end_seq = NULL, reason = NULL"),
]  # fmt: skip


@pytest.mark.parametrize(("state", "role", "statement"), ATTACKS)
async def test_what_goes_through_functions_and_past_them_is_refused(
    ground: Ground, state: str, role: str, statement: str
) -> None:
    words = {
        "book": ground.book_id, "other": ground.other_book, "account": await ground.account(WALLETS[2]),
        "absent": ABSENT, "later": f"'{LATER.isoformat()}'",
    }  # fmt: skip
    dsns = {
        "khata_app": ground.database.app_dsn,
        "khata_audit": ground.database.audit_dsn,
        "khata_owner": ground.database.owner_dsn,
    }
    async with await AsyncConnection.connect(dsns[role]) as conn:
        with refused(state, role=role):
            await conn.execute(statement.format(**words).encode())
        await conn.rollback()


async def test_a_proposer_does_not_decide(ground: Ground) -> None:
    proposal = "01a00000-0000-7000-8000-0000000000aa"
    content = json.dumps(Adjustment((Posting(SHOP, sample.ESCROW, 1, "INR"),)).content())
    async with await AsyncConnection.connect(ground.database.app_dsn) as conn:
        await conn.execute(
            "SELECT ledger.propose(%s, %s, 'adjustment', %s::jsonb, 'eve', 'why', %s)",
            [ground.book_id, proposal, content, LATER],
        )
        with refused("KH026", "somebody else decides"):
            await conn.execute(
                "SELECT ledger.decide_proposal(%s, %s, 'adjustment', true, 'eve', 'why', %s)",
                [ground.book_id, proposal, LATER],
            )
        await conn.rollback()


async def test_a_limit_is_kept_against_raw_journals(ground: Ground) -> None:
    """Nine credits an hour: the tenth is refused, in one batch or one by one."""
    async with (
        await AsyncConnection.connect(ground.database.audit_dsn) as audit_conn,
        await AsyncConnection.connect(ground.database.app_dsn) as conn,
    ):
        forged = await forge(audit_conn, ground.book_id, *[[Leg(sample.ESCROW, WALLETS[2], 1)]] * 10)
        await is_refused(conn, forged, "KH020")


async def test_an_adjustment_nobody_approved_is_refused(ground: Ground) -> None:
    async with (
        await AsyncConnection.connect(ground.database.audit_dsn) as audit_conn,
        await AsyncConnection.connect(ground.database.app_dsn) as conn,
    ):
        forged = await forge(audit_conn, ground.book_id, [Leg(sample.ESCROW, SHOP, 1)])
        forged.journals[0] |= {
            "source_type": "adjustment",
            "source_id": ABSENT.strip("'"),
            "source_event": "approved",
        }
        await is_refused(conn, forged, "KH028")


# ---------------------------------------------------------------- hostile arguments

NOISE = (
    "",
    " ",
    "\n",
    "'; DROP TABLE ledger.journal; --",
    "x" * 70_000,
    "Assets:Bank:Meridian:Escrow",
    "INR",
    "open",
)
CONTENT = Adjustment((Posting(SHOP, SHOP + "x", 1, "INR"),)).content()
HOSTILE: dict[str, tuple[Any, ...]] = {
    "integer": (None, 0, -1, 1, 2, 3, 999, 2**31 - 1, -(2**31)),
    "smallint": (None, 0, -1, 32767),
    "bigint": (None, 0, -1, 1, 5, 2**62, 2**63 - 1, -(2**63)),
    "boolean": (None, True, False),
    "text": (None, *NOISE, "closed", "debit", "sum", "day", "adjustment", "reopening", "ada"),
    "date": (None, "infinity", "-infinity", "4714-01-01 BC", "2026-11-05", "9999-12-31"),
    "timestamp with time zone": (None, "infinity", "-infinity", "4714-01-01 BC", LATER, "294276-01-01"),
    "uuid": (None, "00000000-0000-0000-0000-000000000000", "01a00000-0000-7000-8000-0000000000bb"),
    "bytea": (None, b"", b"x" * 32, b"\0" * 1000),
    "jsonb": (
        None,
        *map(json.dumps, ({}, [], 1, None, "x", {"through": "no day"}, CONTENT, {"postings": [[]] * 500})),
    ),
    "uuid[]": (None, [], [None], ["00000000-0000-0000-0000-000000000000"] * 5000),
    "bigint[]": (None, [], [None], [-1, 0, 2**63 - 1], list(range(5000))),
    "integer[]": (None, [], [None], [-1, 0, 2**31 - 1], list(range(5000))),
    "text[]": (None, [], [None], list(NOISE), ["Assets:A:" + str(n) for n in range(2000)]),
    "smallint[]": (None, [], [None], [0], [1], [-1, 32767], [32767] * 5000),
    "timestamp with time zone[]": (None, [], [None], ["infinity"], ["-infinity"], [LATER] * 5000),
    "bytea[]": (None, [], [None], [b""], [b"x" * 32], [b"\0" * 1000] * 100),
    "ledger.posting[]": (
        None,
        "{}",
        "{NULL}",
        f'{{"({"," * 17})"}}',
        f'{{"(1,5{",1" * 8},2,1,2,3,0,,INR,)"}}',  # history of another book
        f'{{"({2**63 - 1},{10**15}{f",{2**63 - 1}" * 8},{2**31 - 1},1,2,1,0,,INR,)"}}',
    ),
}
# What PostgreSQL itself says of a value that is none of its type or leaves its range, and of a key used twice.
ALLOWED = ("KH", "22", "23505")
# A refusal of a transfer that another book never sent: no book reads another one's rows, so only the audit can tell.
FOUND_BY_AUDIT = {"arrival"}
CALLS = 30
RAISES = "broken"  # whatever it is given: that is what it is for


async def test_hostile_arguments_are_refused_or_harmless(ground: Ground) -> None:
    random, wrong = Random(11), list[tuple[str, str]]()
    async with await AsyncConnection.connect(ground.database.app_dsn, autocommit=True) as conn:
        cursor = await conn.execute(
            "SELECT proname, ARRAY("
            "  SELECT format_type(t, NULL) FROM unnest(proargtypes) WITH ORDINALITY AS a(t, n) ORDER BY n)"
            " FROM pg_proc WHERE pronamespace = 'ledger'::regnamespace AND prokind = 'f' AND pronargs > 0 ORDER BY 1"
        )
        functions = [
            (name, types) for name, types in await cursor.fetchall() if name in RUN["khata_app"] - {RAISES}
        ]
        for name, types in functions:
            for _ in range(CALLS):
                given = [random.choice(HOSTILE[type_]) for type_ in types]
                ended = await call(conn, name, types, given)
                if ended is not None and not ended.startswith(ALLOWED):
                    wrong.append((f"{name}({', '.join(str(v)[:40] for v in given)})", ended))
    assert wrong == []
    assert len(functions) >= 25
    async with await AsyncConnection.connect(ground.database.audit_dsn) as conn:
        for book_id in (ground.book_id, ground.other_book):
            found = [finding for result in await audit(conn, book_id) for finding in result.findings]
            assert [str(finding) for finding in found if finding.table not in FOUND_BY_AUDIT] == []


def as_type(name: str) -> sql.SQL:
    return sql.SQL(name)  # pyright: ignore[reportArgumentType] - from the catalogue


async def call(conn: AsyncConnection[Any], name: str, types: list[str], given: list[Any]) -> str | None:
    """The SQLSTATE it is refused with; None if it is not, and then it is committed."""
    arguments = sql.SQL(", ").join(sql.SQL("CAST(%s AS {})").format(as_type(type_)) for type_ in types)
    statement = sql.SQL("SELECT * FROM ledger.{}({})").format(sql.Identifier(name), arguments)
    try:
        await conn.execute(statement, given)
    except psycopg.Error as error:
        state = error.sqlstate or str(error)
        if state.startswith("KH"):
            tally.count(state, "khata_app")
        return state
    return None
