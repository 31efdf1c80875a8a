"""Manual adjustments: one person proposes, another approves; the database books nothing else."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest
from psycopg import AsyncConnection

from ledger import acts, adjustments, errors, periods, proposals
from ledger import model as m
from ledger.acts import By
from ledger.adjustments import Adjustment
from ledger.audit import audit
from ledger.books import open_accounts
from ledger.decide import decide
from ledger.load import load
from ledger.proposals import Kind
from ledger.store import store
from tests.ledger.words import ESCROW, FEES, NOW, PENDING_A, PENDING_B, Book, fund, journal, new_id, pay, unit


@pytest.fixture
def book(book_of_many: Book) -> Book:
    return book_of_many


BETWEEN = "Assets:Clearing:Book:second"
CORRECTION = Adjustment((pay(PENDING_A, FEES, 250),), "fee taken twice", {"order": "17"})


async def propose(
    book: Book,
    adjustment: Adjustment = CORRECTION,
    *,
    id_: UUID | None = None,
    person: str = "asha",
    reason: str = "ticket 4711",
) -> proposals.Proposal:
    by = By(person, reason, NOW)
    made = await adjustments.propose(book.conn, book.book_id, id_ or new_id(), adjustment, by)
    await book.conn.commit()
    return made


async def approve(
    book: Book, id_: UUID, person: str = "ben", *, conn: AsyncConnection[Any] | None = None
) -> proposals.Proposal:
    conn, by = conn or book.conn, By(person, "checked", NOW)
    try:
        return await adjustments.approve(conn, book.book_id, id_, by, journal_id=new_id())
    finally:
        await conn.commit()


async def reject(book: Book, id_: UUID, person: str = "ben") -> proposals.Proposal:
    try:
        by = By(person, "not ours", NOW)
        return await proposals.reject(book.conn, book.book_id, Kind.ADJUSTMENT, id_, by)
    finally:
        await book.conn.commit()


async def sqlstate(book: Book, statement: str, *values: object) -> str:
    """What raw SQL of the application's role is refused with."""
    with pytest.raises(psycopg.Error) as refused:
        await book.conn.execute(statement.encode(), values)
    await book.conn.rollback()
    return refused.value.sqlstate or ""


# ---------------------------------------------------------------- two people


async def test_an_adjustment_is_booked_once_somebody_else_approves_it(book: Book) -> None:
    proposal = await propose(book)
    assert (proposal.status, await book.balance(PENDING_A)) == ("open", (0, 0, 0))
    decided = await approve(book, proposal.id)
    assert (decided.status, decided.journal_seq) == ("approved", 1)
    assert await book.balance(PENDING_A) == (250, 250, 0)
    cursor = await book.conn.execute(
        "SELECT kind, source_type || '/' || source_id || '/' || source_event, canonical::jsonb -> 'metadata'"
        " FROM ledger.journal WHERE book_id = %s",
        [book.book_id],
    )
    assert await cursor.fetchall() == [
        (
            "adjustment",
            f"adjustment/{proposal.id}/approved",
            {"order": "17", "adjustment.approved_act": "2", "adjustment.proposed_act": "1"},
        )
    ]
    told = {a.act: a.person for a in await acts.acts(book.conn, book.book_id)}
    assert told == {1: "asha", 2: "ben"}


async def test_the_log_of_acts_tells_who_did_what_and_why(book: Book) -> None:
    one, two = await propose(book), await propose(book)
    await approve(book, one.id)
    await reject(book, two.id)
    told = await acts.acts(book.conn, book.book_id)
    assert [(a.act, a.person, a.action, a.subject, a.reason) for a in reversed(told)] == [
        (1, "asha", "adjustment_proposed", str(one.id), "ticket 4711"),
        (2, "asha", "adjustment_proposed", str(two.id), "ticket 4711"),
        (3, "ben", "adjustment_approved", str(one.id), "checked"),
        (4, "ben", "adjustment_rejected", str(two.id), "not ours"),
    ]
    assert [a.act for a in await acts.acts(book.conn, book.book_id, person="ben", before=4)] == [3]
    assert [a.act for a in await acts.acts(book.conn, book.book_id, subject=str(two.id), limit=1)] == [4]


async def test_a_rejected_adjustment_is_never_booked(book: Book) -> None:
    proposal = await propose(book)
    assert (await reject(book, proposal.id)).status == "rejected"
    with pytest.raises(errors.ProposalDecided):
        await approve(book, proposal.id, person="chen")
    assert await book.balance(PENDING_A) == (0, 0, 0)


async def test_the_proposer_may_not_decide(book: Book) -> None:
    proposal = await propose(book)
    with pytest.raises(errors.SamePerson):
        await approve(book, proposal.id, person="asha")
    with pytest.raises(errors.SamePerson):
        await reject(book, proposal.id, person="asha")


async def test_a_second_verdict_is_refused_and_the_same_again_is_a_replay(book: Book) -> None:
    proposal = await propose(book)
    first = await approve(book, proposal.id)
    assert await approve(book, proposal.id) == first
    with pytest.raises(errors.ProposalDecided):
        await approve(book, proposal.id, person="chen")
    with pytest.raises(errors.ProposalDecided):
        await reject(book, proposal.id)
    assert len(await acts.acts(book.conn, book.book_id)) == 2
    assert await book.balance(PENDING_A) == (250, 250, 0)


async def test_an_unknown_proposal_cannot_be_decided(book: Book) -> None:
    with pytest.raises(errors.ProposalUnknown):
        await approve(book, new_id())


@pytest.mark.parametrize("reason", ["", "  ", "a\nb", "x" * 501])
def test_a_reason_is_required(reason: str) -> None:
    with pytest.raises(errors.InvalidEntry) as invalid:
        By("asha", reason, NOW)
    assert invalid.value.field == "reason"


@pytest.mark.parametrize("person", ["", "two words", "x" * 65, "é"])
def test_a_person_is_an_opaque_word(person: str) -> None:
    with pytest.raises(errors.InvalidEntry) as invalid:
        By(person, "so", NOW)
    assert invalid.value.field == "person"


async def test_the_same_proposal_again_is_a_replay_and_another_of_its_id_a_conflict(book: Book) -> None:
    first = await propose(book)
    assert await propose(book, id_=first.id) == first
    for again in (
        propose(book, id_=first.id, reason="another"),
        propose(book, id_=first.id, person="ben"),
        propose(book, Adjustment((pay(PENDING_A, FEES, 1),)), id_=first.id),
    ):
        with pytest.raises(errors.ProposalConflict):
            await again
        await book.conn.rollback()
    assert len(await acts.acts(book.conn, book.book_id)) == 1


def test_what_cannot_be_adjusted_cannot_be_said() -> None:
    posting = pay(PENDING_A, FEES, 250)
    with pytest.raises(errors.InvalidEntry):
        Adjustment(())
    with pytest.raises(errors.InvalidEntry):
        Adjustment((posting,) * 101)
    with pytest.raises(errors.InvalidEntry):
        Adjustment((posting,), metadata={"adjustment.approved_act": "7"})
    for between in (pay(BETWEEN, FEES, 250), pay(PENDING_A, BETWEEN, 250)):
        with pytest.raises(errors.InvalidEntry):
            Adjustment((posting, between))
    with pytest.raises(errors.InvalidEntry):
        Adjustment((m.Posting(PENDING_A, FEES, 250, "INR", up_to=True),))


def test_a_proposal_keeps_an_adjustment_whole() -> None:
    full = Adjustment(
        (pay(PENDING_A, FEES, 1), pay(PENDING_B, ESCROW, 2)),
        'é \\ "',
        {"order": "a b"},
        NOW - timedelta(days=3, microseconds=1),
        m.OnClosed.FIRST_OPEN_DAY,
    )
    assert Adjustment.of(full.content()) == full


async def test_open_proposals_are_paged_by_number(book: Book) -> None:
    made = [await propose(book) for _ in range(4)]
    await reject(book, made[2].id)
    page = await proposals.page(book.conn, book.book_id, Kind.ADJUSTMENT, limit=2)
    assert [p.id for p in page] == [made[3].id, made[1].id]
    page = await proposals.page(book.conn, book.book_id, Kind.ADJUSTMENT, limit=2, before=page[-1].number)
    assert [p.id for p in page] == [made[0].id]
    every = await proposals.page(book.conn, book.book_id, Kind.ADJUSTMENT, open_only=False)
    assert [p.status for p in every] == ["open", "rejected", "open", "open"]
    assert await proposals.page(book.conn, book.book_id, Kind.REOPENING) == []


# ---------------------------------------------------------------- what the ledger says to it


async def test_a_refused_journal_leaves_the_proposal_open_and_says_why(book: Book) -> None:
    proposal = await propose(book, Adjustment((pay(FEES, PENDING_A, 1),)))
    with pytest.raises(errors.InsufficientFunds):
        await approve(book, proposal.id)
    [still] = await proposals.page(book.conn, book.book_id, Kind.ADJUSTMENT)
    assert (still.status, len(await acts.acts(book.conn, book.book_id))) == ("open", 1)
    await book.ok(fund(PENDING_A, 1))
    assert (await approve(book, proposal.id, person="chen")).journal_seq == 2


async def test_two_people_approve_at_once_and_one_wins(book: Book) -> None:
    proposal = await propose(book)

    async def one(person: str) -> proposals.Proposal:
        async with await AsyncConnection.connect(book.database.app_dsn) as conn:
            return await approve(book, proposal.id, person, conn=conn)

    told = await asyncio.gather(*(one(f"person-{n}") for n in range(6)), return_exceptions=True)
    winners = [p for p in told if isinstance(p, proposals.Proposal)]
    assert len(winners) == 1
    assert sum(isinstance(e, errors.ProposalDecided) for e in told) == 5
    assert await book.balance(PENDING_A) == (250, 250, 0)
    assert len(await acts.acts(book.conn, book.book_id)) == 2


async def test_an_approval_that_never_commits_leaves_nothing(book: Book) -> None:
    proposal = await propose(book)
    async with await AsyncConnection.connect(book.database.app_dsn) as conn:
        by = By("ben", "checked", NOW)
        await adjustments.approve(conn, book.book_id, proposal.id, by, journal_id=new_id())
        await conn.rollback()  # as a crash before COMMIT does
    [still] = await proposals.page(book.conn, book.book_id, Kind.ADJUSTMENT)
    assert (still.status, await book.balance(PENDING_A)) == ("open", (0, 0, 0))
    assert len(await acts.acts(book.conn, book.book_id)) == 1
    assert (await approve(book, proposal.id)).status == "approved"


async def test_an_autocommit_connection_is_refused(book: Book) -> None:
    async with await AsyncConnection.connect(book.database.app_dsn, autocommit=True) as conn:
        with pytest.raises(errors.NotInTransaction):
            await approve(book, new_id(), conn=conn)


# ---------------------------------------------------------------- raw SQL of the application's role

PROPOSE = "SELECT ledger.propose(%s, %s, 'adjustment', %s::jsonb, %s, %s, now())"
DECIDE = "SELECT ledger.decide_proposal(%s, %s, 'adjustment', %s, %s, %s, now())"


async def test_the_database_refuses_one_person_a_second_verdict_and_silence(book: Book) -> None:
    proposal = await propose(book)
    decide = (book.book_id, proposal.id, True)
    assert await sqlstate(book, DECIDE, *decide, "asha", "mine") == "KH026"
    assert await sqlstate(book, DECIDE, *decide, "ben", " ") == "KH025"
    assert await sqlstate(book, DECIDE, *decide, "ben", None) == "KH025"
    assert await sqlstate(book, DECIDE, *decide, "two words", "so") == "KH025"
    assert await sqlstate(book, DECIDE, *decide, None, "so") == "KH025"
    assert await sqlstate(book, DECIDE, book.book_id, new_id(), True, "ben", "so") == "KH026"
    assert await sqlstate(book, DECIDE, book.book_id, proposal.id, None, "ben", "so") == "KH019"
    assert await sqlstate(book, DECIDE, 99, proposal.id, True, "ben", "so") == "KH005"
    reopening = DECIDE.replace("adjustment", "reopening")
    assert await sqlstate(book, reopening, *decide, "ben", "so") == "KH026"
    await reject(book, proposal.id)
    assert await sqlstate(book, DECIDE, *decide, "chen", "so") == "KH026"


async def test_the_database_refuses_proposals_without_reason_and_a_second_of_one_id(book: Book) -> None:
    proposal = await propose(book)
    assert await sqlstate(book, PROPOSE, book.book_id, new_id(), "{}", "asha", "") == "KH025"
    assert await sqlstate(book, PROPOSE, book.book_id, None, "{}", "asha", "so") == "KH019"
    assert await sqlstate(book, PROPOSE, book.book_id, proposal.id, "{}", "asha", "so") == "KH026"
    other = PROPOSE.replace("'adjustment'", "'payout'")
    assert await sqlstate(book, other, book.book_id, new_id(), "{}", "asha", "so") == "KH014"


POSTING = CORRECTION.content()["postings"][0]
UNREADABLE: dict[str, Any] = {
    "nothing": {},
    "a list of one": [CORRECTION.content()],
    "a number": 7,
    **{
        f"without {key}": {k: v for k, v in CORRECTION.content().items() if k != key}
        for key in CORRECTION.content()
    },
    **{
        f"{key} {value!r}": CORRECTION.content() | {key: value}
        for key, values in {
            "description": (None, 1, ["x"]),
            "effective_at": (1, "yesterday", "2026-11-01", ["2026-11-01T00:00:00.000000Z"]),
            "metadata": (None, [], [{}], {"order": 17}, {"order": ["17"]}, {"adjustment.proposed_act": "1"}),
            "on_closed": (None, "later", ["refuse"]),
            "postings": (None, {}, [], POSTING, [POSTING, 1], [[POSTING]], [POSTING] * 101),
        }.items()
        for value in values
    },
    **{f"a posting without {key}": [{k: v for k, v in POSTING.items() if k != key}] for key in POSTING},
    **{f"{key} is no string": [POSTING, POSTING | {key: 250}] for key in POSTING},
    **{f"an amount {amount}": [POSTING | {"amount": amount}] for amount in ("0", "-1", "1.5", "", "9" * 17)},
    "a pending posting": [POSTING | {"layer": "pending"}],
    "between books, debit": [POSTING, POSTING | {"debit": BETWEEN}],
    "between books, credit": [POSTING | {"credit": BETWEEN}],
}


async def test_the_database_refuses_a_proposal_that_is_no_adjustment(book: Book) -> None:
    for name, given in UNREADABLE.items():
        only_postings = isinstance(given, list) and name != "a list of one"
        content = CORRECTION.content() | {"postings": given} if only_postings else given
        wanted = orjson.dumps(content).decode()
        assert await sqlstate(book, PROPOSE, book.book_id, new_id(), wanted, "asha", "so") == "KH028", name
    right = orjson.dumps(CORRECTION.content()).decode()
    await book.conn.execute(PROPOSE.encode(), [book.book_id, new_id(), right, "asha", "so"])


async def test_what_no_journal_can_be_is_told_when_it_is_read_and_can_only_be_rejected(book: Book) -> None:
    """The database knows the form, not every rule of a journal: here both sides are one account."""
    content = CORRECTION.content() | {"postings": [POSTING | {"credit": POSTING["debit"]}]}
    id_ = new_id()
    wanted = orjson.dumps(content).decode()
    await book.conn.execute(PROPOSE.encode(), [book.book_id, id_, wanted, "asha", "so"])
    await book.conn.commit()
    with pytest.raises(errors.InvalidEntry):
        await approve(book, id_)
    assert (await reject(book, id_)).status == "rejected"


@pytest.mark.parametrize("broken", [{}, {"postings": 7}, {"metadata": []}, {"effective_at": "soon"}])
def test_what_is_no_adjustment_is_a_typed_error(broken: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidEntry):
        Adjustment.of(CORRECTION.content() | broken if broken else {})


async def test_an_adjustment_between_books_is_not_booked_whatever_was_approved(book: Book) -> None:
    """A superuser put the account into the proposal: the application's raw journal is still refused."""
    await open_accounts(book.conn, book.book_id, [m.NewAccount(BETWEEN, "INR")], now=NOW)
    proposal = await propose(book)
    await book.conn.execute(DECIDE.encode(), [book.book_id, proposal.id, True, "ben", "checked"])
    await book.conn.commit()
    async with await AsyncConnection.connect(book.database.admin_dsn) as admin:
        await admin.execute("SET session_replication_role = replica")
        changed = f"UPDATE ledger.proposal SET content = replace(content, '{FEES}', '{BETWEEN}')"
        await admin.execute(changed.encode())
    right = CORRECTION.journal(new_id(), proposal.id, proposed_act=1, approved_act=2)
    between = m.Journal(
        right.id, right.kind, right.source, (pay(PENDING_A, BETWEEN, 250),),
        description=right.description, metadata=right.metadata,
    )  # fmt: skip
    with pytest.raises(errors.DatabaseRefused) as refused:
        await book.post(between)
    assert (refused.value.sqlstate, "between books" in refused.value.message) == ("KH028", True)


async def test_the_first_open_day_is_the_same_in_every_style_of_dates(book: Book) -> None:
    await periods.close(
        book.conn, book.book_id, By("asha", "month end", NOW), through=NOW.date() - timedelta(days=2)
    )
    late = Adjustment(
        (pay(PENDING_A, FEES, 250),), "", {}, NOW - timedelta(days=9), m.OnClosed.FIRST_OPEN_DAY
    )
    proposal = await propose(book, late)
    await book.conn.execute(DECIDE.encode(), [book.book_id, proposal.id, True, "ben", "checked"])
    numbers = {"proposed_act": proposal.number, "approved_act": proposal.number + 1}
    unit_ = unit(late.journal(new_id(), proposal.id, **numbers))
    state = await load(book.conn, book.book_id, [unit_], now=NOW)
    await book.conn.execute(
        "SET LOCAL datestyle = 'German'"
    )  # psycopg cannot read times in it: what follows writes
    await store(book.conn, state, decide(state, [unit_]))
    await book.conn.commit()


@pytest.mark.parametrize("table", ["act", "proposal", "verdict", "period_fact"])
async def test_nobody_writes_the_tables_of_people_by_hand(book: Book, table: str) -> None:
    await approve(book, (await propose(book)).id)
    for statement in (
        f"INSERT INTO ledger.{table} SELECT * FROM ledger.{table}",
        f"UPDATE ledger.{table} SET reason = 'other'",
        f"DELETE FROM ledger.{table}",
        f"TRUNCATE ledger.{table}",
    ):
        assert await sqlstate(book, statement) == "42501"
    record = "SELECT ledger.record_act(%s, 'asha', 'lied', 'x', 'so', '{}', now())"
    assert await sqlstate(book, record, book.book_id) == "42501"


@pytest.mark.parametrize("table", ["act", "proposal", "verdict", "period_fact"])
async def test_not_even_their_owner_changes_them(book: Book, table: str) -> None:
    proposal = await propose(book)
    await approve(book, proposal.id)
    async with await AsyncConnection.connect(book.database.owner_dsn) as owner:
        for statement in (
            f"UPDATE ledger.{table} SET reason = 'other'",
            f"DELETE FROM ledger.{table}",
            f"TRUNCATE ledger.{table} CASCADE",
        ):
            if table == "period_fact" and "TRUNCATE" not in statement:
                continue  # it has no row here
            with pytest.raises(psycopg.Error) as refused:
                await owner.execute(statement.encode())
            assert refused.value.sqlstate == "KH010"
            await owner.rollback()
        two = await propose(book)
        with pytest.raises(psycopg.Error) as refused:
            await owner.execute(
                "INSERT INTO ledger.verdict VALUES (%s, %s, true, 'asha', 'mine', now(), 1)",
                [book.book_id, two.id],
            )
        assert refused.value.sqlstate == "KH026"


FORGERIES: dict[str, m.Journal] = {
    "no proposal": journal(pay(PENDING_A, FEES, 250), kind="adjustment"),
    "a source key like one": m.Journal(
        new_id(), "transfer", m.Source("adjustment", "x", "approved"), (pay(PENDING_A, FEES, 250),)
    ),
}


@pytest.mark.parametrize("forged", FORGERIES.values(), ids=list(FORGERIES))
async def test_an_adjustment_nobody_approved_cannot_be_booked(book: Book, forged: m.Journal) -> None:
    with pytest.raises(errors.DatabaseRefused) as refused:
        await book.post(unit(forged))
    assert refused.value.sqlstate == "KH028"


async def test_an_open_or_rejected_adjustment_cannot_be_booked(book: Book) -> None:
    open_, rejected = await propose(book), await propose(book)
    await reject(book, rejected.id)
    for proposal in (open_, rejected):
        with pytest.raises(errors.DatabaseRefused) as refused:
            await book.post(CORRECTION.journal(new_id(), proposal.id, proposed_act=1, approved_act=3))
        assert refused.value.sqlstate == "KH028"
        await book.conn.rollback()


OTHERS: dict[str, dict[str, Any]] = {
    "another amount": {"postings": (pay(PENDING_A, FEES, 251),)},
    "another account": {"postings": (pay(PENDING_B, FEES, 250),)},
    "one more posting": {"postings": (pay(PENDING_A, FEES, 250), pay(PENDING_A, FEES, 1))},
    "another description": {"description": "gift"},
    "other metadata": {"metadata": {"adjustment.approved_act": "2", "adjustment.proposed_act": "1"}},
    "another act": {
        "metadata": {"order": "17", "adjustment.approved_act": "1", "adjustment.proposed_act": "1"}
    },
    "a name": {"metadata": {"order": "17", "adjustment.approver": "ben", "adjustment.proposer": "asha"}},
    "another time": {"effective_at": NOW - timedelta(days=1)},
    "another kind": {"kind": "transfer"},
    "another event": {"source": ("adjustment", "again")},
    "another type of source": {"source": ("api", "approved")},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=list(OTHERS))
async def test_an_approved_adjustment_is_booked_as_it_was_approved(
    book: Book, change: dict[str, Any]
) -> None:
    proposal = await propose(book)
    # Approved by raw SQL, which books nothing.
    await book.conn.execute(DECIDE.encode(), [book.book_id, proposal.id, True, "ben", "checked"])
    right = CORRECTION.journal(new_id(), proposal.id, proposed_act=1, approved_act=2)
    said: dict[str, Any] = {name: getattr(right, name) for name in ("id", "kind", "postings", "effective_at")}
    said |= {"description": right.description, "metadata": right.metadata, "source": right.source} | change
    if "source" in change:
        type_, event = change["source"]
        said["source"] = m.Source(type_, str(proposal.id), event)
    await book.conn.commit()
    with pytest.raises(errors.DatabaseRefused) as refused:
        await book.post(m.Journal(**said))
    assert refused.value.sqlstate == "KH028"
    await book.conn.rollback()
    assert (await approve(book, proposal.id)).journal_seq == 1  # what was lost between verdict and journal


async def test_the_audit_passes_a_book_with_adjustments(book: Book) -> None:
    await book.ok(fund(PENDING_B, 5))
    await approve(book, (await propose(book)).id)
    await reject(book, (await propose(book)).id)
    await propose(book)
    async with await AsyncConnection.connect(book.database.audit_dsn) as conn:
        results = await audit(conn, book.book_id)
    assert [str(f) for r in results for f in r.findings] == []


# ---------------------------------------------------------------- what a superuser did

# An act's row rewritten with its leaf hash: only what the acts say of each other, or the journals, can tell.
REHASH = (
    "UPDATE ledger.act a SET leaf_hash = sha256('\\x00'::bytea || convert_to(ledger.act_line(a, b.name), 'UTF8'))"
    " FROM ledger.book b WHERE b.book_id = a.book_id AND b.book_id = %(book)s"
)


async def findings_after(book: Book, *statements: str) -> set[tuple[str, str]]:
    """What the audit names after a superuser's statements, as (table, field)."""
    async with await AsyncConnection.connect(book.database.admin_dsn) as conn:
        await conn.execute("SET session_replication_role = replica")
        for statement in statements:
            await conn.execute(statement.encode(), {"book": book.book_id})
        await conn.commit()
    async with await AsyncConnection.connect(book.database.audit_dsn) as conn:
        return {(f.table, f.field) for r in await audit(conn, book.book_id) for f in r.findings}


async def test_an_approval_by_the_proposer_is_named(book: Book) -> None:
    """Verdict, act and leaf hash agree that asha approved: but she had proposed it."""
    await approve(book, (await propose(book)).id)
    named = await findings_after(
        book,
        "UPDATE ledger.verdict SET person = 'asha' WHERE book_id = %(book)s",
        "UPDATE ledger.act SET person = 'asha' WHERE book_id = %(book)s AND action = 'adjustment_approved'",
        REHASH,
    )
    assert named == {("verdict", "person")}


async def test_an_open_proposal_that_is_no_adjustment_is_named(book: Book) -> None:
    """Content, content hash, act and leaf hash agree: what they say cannot be booked."""
    await propose(book)
    named = await findings_after(
        book,
        "UPDATE ledger.proposal SET content = '{}' WHERE book_id = %(book)s",
        "UPDATE ledger.act SET detail = ledger.jcs(detail::jsonb || jsonb_build_object('content_hash',"
        " encode(sha256('{}'), 'hex'))) WHERE book_id = %(book)s",
        REHASH,
    )
    assert named == {("proposal", "content")}


async def test_an_adjustment_whose_approval_was_taken_out_is_named(book: Book) -> None:
    await approve(book, (await propose(book)).id)
    named = await findings_after(
        book,
        "DELETE FROM ledger.verdict WHERE book_id = %(book)s",
        "DELETE FROM ledger.act WHERE book_id = %(book)s AND action = 'adjustment_approved'",
        "UPDATE ledger.book SET acts = 1 WHERE book_id = %(book)s",
    )
    assert named == {("journal", "source")}


async def test_an_adjustment_other_than_the_one_approved_is_named(book: Book) -> None:
    """Content, content hash and act agree on another amount: the journal tells."""
    await approve(book, (await propose(book)).id)
    named = await findings_after(
        book,
        "UPDATE ledger.proposal SET content = replace(content, '\"250\"', '\"251\"') WHERE book_id = %(book)s",
        "UPDATE ledger.act a SET detail = ledger.jcs(a.detail::jsonb || jsonb_build_object('content_hash',"
        " encode(sha256(convert_to(p.content, 'UTF8')), 'hex'))) FROM ledger.proposal p"
        " WHERE p.book_id = a.book_id AND p.act = a.act AND p.book_id = %(book)s",
        REHASH,
    )
    assert named == {("journal", "postings")}
