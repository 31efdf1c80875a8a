"""``ledger.append``, the one function that inserts rows past the triggers: whatever it is given, it keeps their rules.

That it refuses what they refuse is tried beside them, with the same rows (``raw.is_refused``); here is what only its
arguments can say, and what only its order of doing things (rows first, the lock second) could let through.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from ledger.books import create_book, open_accounts
from tests.attacks.conftest import Scene
from tests.attacks.raw import (
    ARGUMENT,
    NO_PRIVILEGE,
    NOT_NULL,
    OTHER_VERSION,
    POSTINGS_STATED,
    UNIQUE,
    VALUE,
    Forged,
    Leg,
    call_append,
    insert_rows,
    is_refused,
    is_taken,
    refused,
)
from tests.attacks.test_functions import HOSTILE
from tests.attacks.test_order import orphans, until_blocked
from tests.ledger.conftest import ACCOUNTS
from tests.ledger.words import (
    AUTHORIZATIONS,
    CREDIT_WALLET,
    ESCROW,
    FEES,
    NOW,
    PENDING_A,
    PENDING_B,
    WALLET,
    fund,
    new_id,
)

LEG = Leg(WALLET, PENDING_B, 5)
TWICE = [Leg(WALLET, PENDING_B, 5), Leg(PENDING_B, FEES, 1)]
Arguments = dict[str, Any]
AUDITED = True  # each book, by the ledger's own audit, too


async def arguments(scene: Scene, *journals: list[Leg]) -> Arguments:
    return (await scene.forge(*journals)).arguments()


async def of_holds(scene: Scene) -> Forged:
    """Two journals, each of which places a new hold."""
    sides = {
        "book_id": scene.book_id, "debit_account": await scene.account_id(WALLET),
        "credit_account": await scene.account_id(PENDING_A), "tolerance_bps": 100,
    }  # fmt: skip
    holds = [{"hold_id": new_id(), "expires_at": None} | sides for _ in range(2)]
    forged = await scene.forge(
        *([Leg(WALLET, PENDING_A, 5, layer=1, action=0, hold_id=hold["hold_id"])] for hold in holds)  # type: ignore[arg-type]
    )
    forged.holds = holds
    return forged


# ---------------------------------------------------------------- arguments


async def test_honest_rows_are_taken_both_ways(scene: Scene) -> None:
    for journals in ([[LEG]], [TWICE, [LEG], TWICE], [TWICE] * 100):
        await is_taken(scene.app, await scene.forge(*journals))
    await is_taken(scene.app, await of_holds(scene))


async def test_what_is_the_same_for_all_may_be_said_once_and_what_is_usual_not_at_all(scene: Scene) -> None:
    forged = await scene.forge([LEG], [LEG], [LEG])
    once: Arguments = {
        name: [forged.arguments()[name][0]] for name in ("kinds", "source_types", "source_events")
    }
    await forged.append(scene.app, effective_ats=[], reversed=[], lines=[], **once)
    cursor = await scene.audit.execute(
        "SELECT count(*), count(DISTINCT (kind, source_type, source_event, lines, effective_at = recorded_at))"
        " FROM ledger.journal WHERE book_id = %s AND source_type = 'forged'",
        [scene.book_id],
    )
    assert await cursor.fetchone() == (3, 1)


async def test_a_batch_of_nothing_is_nothing(scene: Scene) -> None:
    forged = await scene.forge([LEG])
    nothing: Arguments = {name: [] for name, value in forged.arguments().items() if isinstance(value, list)}
    await forged.append(scene.app, **nothing)
    forged = await scene.forge([LEG])
    with refused(POSTINGS_STATED):
        await forged.append(scene.app, **nothing | {"postings": forged.postings})


async def test_every_argument_is_needed(scene: Scene) -> None:
    given = await arguments(scene, [LEG])
    for name in given.keys() - {"follows"}:
        with refused(ARGUMENT, "all its columns"):
            await call_append(scene.app, given | {name: None})
        await scene.app.rollback()


# An argument, what it is instead, and the refusal; of journals of 2, 1 and 2 lines.
OTHERWISE: list[tuple[str, Callable[[Any], Any], str]] = [
    ("expected", lambda version: version - 1, OTHER_VERSION),
    ("expected", lambda version: version + 1, OTHER_VERSION),
    ("expected", lambda version: version - 2**31, OTHER_VERSION),  # of the same lock
    ("expected", lambda _: -(2**63), OTHER_VERSION),
    ("of_book", lambda _: 0, OTHER_VERSION),
    ("of_book", lambda _: 2**31 - 1, OTHER_VERSION),
    ("first", lambda first: first + 1, OTHER_VERSION),
    ("first", lambda first: first + 1000, OTHER_VERSION),
    ("first", lambda first: first - 1, UNIQUE),
    ("first", lambda _: 0, VALUE),
    ("first", lambda _: -5, VALUE),
    ("first", lambda _: 2**63 - 2, "22003"),
    ("at", lambda at: at - timedelta(microseconds=1), OTHER_VERSION),
    ("at", lambda at: at - timedelta(days=365), OTHER_VERSION),
    ("at", lambda _: "-infinity", OTHER_VERSION),
    ("at", lambda _: "infinity", VALUE),
    ("at", lambda _: "9000-01-02Z", VALUE),
    ("postings", lambda rows: rows[:-1], POSTINGS_STATED),
    ("postings", lambda _: [], POSTINGS_STATED),
    ("postings", lambda rows: [*rows, rows[0] | {"line": 3}], "KH005"),
    ("postings", lambda rows: [*rows, rows[0]], UNIQUE),
    ("postings", lambda rows: [*rows, None], POSTINGS_STATED),
    ("postings", lambda rows: [*rows[:-1], None], POSTINGS_STATED),
    ("postings", lambda rows: [*rows[:-1], {}], POSTINGS_STATED),
    ("ids", lambda ids: ids[:1] * 3, UNIQUE),
    ("source_ids", lambda ids: ids[:1] * 3, UNIQUE),
    ("reversed", lambda _: [1, 1, None], UNIQUE),
    ("lines", lambda _: [1, 2, 2], POSTINGS_STATED),  # the sum is right
    ("lines", lambda _: [2, 1, 1], POSTINGS_STATED),
    ("lines", lambda _: [3, 1, 2], POSTINGS_STATED),
    ("lines", lambda _: [2, 0, 3], VALUE),
    ("lines", lambda _: [2, None, 1], POSTINGS_STATED),
    ("lines", lambda _: [], POSTINGS_STATED),
]


@pytest.mark.parametrize("argument", sorted({name for name, _, _ in OTHERWISE}))
async def test_an_argument_that_is_not_as_the_others_have_it_is_refused(scene: Scene, argument: str) -> None:
    given = await arguments(scene, TWICE, [LEG], TWICE)
    for name, other, state in OTHERWISE:
        if name == argument:
            with refused(state):
                await call_append(scene.app, given | {name: other(given[name])})
            await scene.app.rollback()


async def test_arrays_of_another_length_than_the_journals_are_refused(scene: Scene) -> None:
    """One too few or too many of anything; and one where as many are needed as there are journals."""
    given = (await of_holds(scene)).arguments()
    arrays = {name: value for name, value in given.items() if isinstance(value, list) and name != "postings"}
    assert len(arrays) == 15
    for name, values in arrays.items():
        once = name in ("kinds", "source_types", "source_events")
        for other in ([*values, *values, values[0]], [] if once else values[:1]):
            with refused(ARGUMENT, "as many"):
                await call_append(scene.app, given | {name: other})
            await scene.app.rollback()


# Where NULL says: as usual, or as the first.
MAY_BE_NULL = {"effective_ats", "reversed", "lines", "kinds", "source_types", "source_events", "expiries"}


async def test_null_among_the_elements_is_what_is_usual_or_refused(scene: Scene) -> None:
    forged = await of_holds(scene)
    for name, values in forged.arguments().items():
        if isinstance(values, list) and name not in MAY_BE_NULL | {"postings"}:
            with refused("KH009" if name in ("hold_ids", "hold_debits", "hold_credits") else NOT_NULL):
                await forged.append(scene.app, **{name: [values[0], None]})  # pyright: ignore[reportUnknownArgumentType]
            await scene.app.rollback()
    nulls = {name: [values[0], None] for name, values in forged.arguments().items() if name in MAY_BE_NULL}
    await forged.append(scene.app, **nulls)


async def test_an_array_of_another_shape_is_read_in_order_or_refused(scene: Scene) -> None:
    """Two dimensions, or not counted from 1: the same elements, so the same batch."""
    forged = await scene.forge([LEG], [LEG])
    for form, rest in (("[7:8]={%s}", ""), ("{{%s}}", ""), ("[-3:-3][2:3]={{%s}}", "")):
        shaped: Arguments = {}
        for name in ("lines", "kinds", "source_types", "source_ids", "source_events"):
            shaped[name] = form % ",".join(f'"{value}"' for value in forged.arguments()[name]) + rest
        await forged.append(scene.app, **shaped)
        forged = await scene.forge([LEG], [LEG])
    with refused(NOT_NULL):  # the one for all is not where the first should be
        await forged.append(scene.app, kinds="[2:2]={transfer}")
    await scene.app.rollback()
    cursor = await scene.app.execute(
        "SELECT array_agg(jsonb_populate_record(NULL::ledger.posting, e))::text"
        " FROM jsonb_array_elements(%s::jsonb) AS e",
        [Jsonb([row | {"hold_id": None} for row in forged.postings])],
    )
    row = await cursor.fetchone()
    assert row is not None
    await forged.append(scene.app, postings=f"[5:6]={row[0]}")


async def test_a_sum_of_lines_past_its_range_is_no_way_around(scene: Scene) -> None:
    forged = await scene.forge(*[[LEG]] * 3)
    with refused(POSTINGS_STATED):
        await forged.append(scene.app, lines=[32767, 32767, 32767])


async def test_hostile_values_in_place_of_honest_ones_are_refused_or_harmless(scene: Scene) -> None:
    """Each argument, each value of its type; what is let through is committed."""
    cursor = await scene.audit.execute(
        "SELECT proargnames, ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes) WITH ORDINALITY AS a(t, n)"
        " ORDER BY n) FROM pg_proc WHERE oid = 'ledger.append'::regproc"
    )
    row = await cursor.fetchone()
    assert row is not None
    forged, ends = await scene.forge(TWICE, [LEG]), Counter[str]()
    for name, type_ in zip(*row, strict=True):
        for value in HOSTILE[type_]:
            try:
                await forged.append(scene.app, **{name: value})
            except psycopg.Error as error:
                await scene.app.rollback()
                state = error.sqlstate or str(error)
                # Not null before any check: that of a column is asked first.
                assert state.startswith(("KH", "22", UNIQUE, NOT_NULL)), (name, str(value)[:100], state)
                ends[state] += 1
            else:
                forged = await scene.forge(TWICE, [LEG])
                ends["stands"] += 1
    assert ends["stands"] >= 5  # another next version, no words where words may be …
    assert ends.total() > 100


# ---------------------------------------------------------------- postings that belong elsewhere


async def elsewhere(scene: Scene) -> dict[str, dict[str, int]]:
    """Where a posting of a batch has no business: by words, what it says in place of the batch's journal."""
    async with await AsyncConnection.connect(scene.database.app_dsn) as conn:
        other = await create_book(conn, name=f"beside-{scene.book_id}", now=NOW)
        await open_accounts(conn, other, ACCOUNTS, now=NOW)
    return {
        "history": {"journal_seq": 1, "line": 2},
        "the last journal": {"journal_seq": 3, "line": 2},
        "a later journal": {"journal_seq": 1000},
        "another book": {"book_id": other, "journal_seq": 1, "line": 1},
        "a journal of that number in another book": {"book_id": other},
        "no book": {"book_id": 10**6},
        "no journal": {"journal_seq": 0},
        "before all journals": {"journal_seq": -1},
    }


async def test_a_posting_that_belongs_elsewhere_is_refused_in_place_of_one_and_beside_all(
    scene: Scene,
) -> None:
    for words, place in (await elsewhere(scene)).items():
        forged = await scene.forge([LEG], [LEG])
        for postings in (
            [forged.postings[0], forged.postings[1] | place],
            [*forged.postings, forged.postings[1] | place],
        ):
            with refused(POSTINGS_STATED):
                await forged.append(scene.app, postings=postings)
            await scene.app.rollback()
            assert await found(scene, place) == [], words


async def test_an_orphan_does_not_stand_in_for_a_posting_that_goes_elsewhere(scene: Scene) -> None:
    """Somebody's posting above the head fills the journal, so that the batch's own could go where it likes."""
    for words, place in (await elsewhere(scene)).items():
        forged = await scene.forge([LEG])
        await insert_rows(scene.app, "posting", forged.postings)
        await scene.app.commit()
        with refused(POSTINGS_STATED):
            await forged.append(scene.app, postings=[forged.postings[0] | place])
        await scene.app.rollback()
        assert await found(scene, place) == [], words
        await scene.ok(fund(WALLET, 10))
        assert await orphans(scene) == 0


async def found(scene: Scene, place: dict[str, int]) -> list[Any]:
    where = {"book_id": scene.book_id, "journal_seq": 0, "line": 2} | place
    cursor = await scene.audit.execute(
        "SELECT amount FROM ledger.posting"
        " WHERE book_id = %(book_id)s AND journal_seq = %(journal_seq)s AND line = %(line)s",
        where,
    )
    rows = await cursor.fetchall()
    await scene.audit.rollback()
    return rows


async def stray(scene: Scene, **place: int) -> dict[str, Any]:
    """A posting that fits its accounts, which no other here touches."""
    return (await scene.forge([Leg(FEES, CREDIT_WALLET, 5)])).postings[0] | place


async def test_an_orphan_in_a_batchs_journals_keeps_it_out(scene: Scene) -> None:
    """Nobody has cleared the head for it: it goes under the lock, which does."""
    for line, state in (2, POSTINGS_STATED), (30_000, POSTINGS_STATED), (1, UNIQUE):
        forged = await scene.forge([LEG], [Leg(ESCROW, AUTHORIZATIONS, 5)])
        await insert_rows(scene.app, "posting", [await stray(scene, line=line)])
        await scene.app.commit()
        with refused(state):
            await forged.append(scene.app)
        await scene.app.rollback()
        with refused(POSTINGS_STATED):  # in place of the batch's own
            await forged.append(scene.app, postings=forged.postings[1:])
        await scene.app.rollback()
        await scene.ok(fund(WALLET, 10))
        assert await orphans(scene) == 0


async def test_a_journal_said_to_have_fewer_lines_by_a_shorter_array_is_refused(scene: Scene) -> None:
    """A journal whose number of lines is left out has one; it is not left out of the sum."""
    forged = await scene.forge(TWICE, [LEG])
    for lines in ([2], [2, None], [1], [None, 2]):
        with refused(POSTINGS_STATED if len(lines) > 1 else ARGUMENT):
            await forged.append(scene.app, lines=lines, postings=forged.postings[:2])
        await scene.app.rollback()


# ---------------------------------------------------------------- time


async def test_a_day_that_is_left_out_is_the_batchs_own_and_may_be_closed(scene: Scene) -> None:
    """Not of the one beside it, which is open."""
    await scene.close_by_hand(NOW.date())
    open_day = NOW + timedelta(days=3)
    forged = await scene.forge([LEG], [LEG])
    for effective_ats in (
        [],
        [open_day, None],
        [None, open_day],
        [open_day, NOW],
        [open_day, NOW - timedelta(days=99)],
    ):
        with refused("KH002"):
            await forged.append(scene.app, effective_ats=effective_ats)
        await scene.app.rollback()
    await forged.append(scene.app, effective_ats=[open_day, open_day])


# ---------------------------------------------------------------- holds


async def test_a_hold_without_postings_is_terms_and_no_money_by_hand_and_refused_in_a_batch(
    scene: Scene,
) -> None:
    forged = await of_holds(scene)
    money = await scene.forge([LEG])
    money.holds = forged.holds
    with refused("KH009"):
        await money.append(scene.app)
    await scene.app.rollback()
    await insert_rows(scene.app, "hold", forged.holds)
    await scene.app.commit()
    # Its postings come later; nobody else's do.
    placed = await scene.forge(
        [Leg(WALLET, PENDING_A, 5, layer=1, action=0, hold_id=forged.holds[0]["hold_id"])]
    )
    placed.holds = forged.holds[:1]
    await is_refused(scene.app, placed, UNIQUE)
    placed.holds = []
    await is_taken(scene.app, placed)


async def test_a_hold_in_a_batch_is_stated_once_with_the_accounts_and_the_expiry_of_its_placing(
    scene: Scene,
) -> None:
    fee = await scene.account_id(FEES)
    for state, changed in (
        ("KH009", {"debit_account": fee}),
        ("KH009", {"credit_account": fee}),
        ("KH009", {"expires_at": NOW - timedelta(hours=1)}),
        (VALUE, {"tolerance_bps": 20_000}),
    ):
        forged = await of_holds(scene)
        forged.holds[0] |= changed
        with refused(state):
            await forged.append(scene.app)
        await scene.app.rollback()
    forged = await of_holds(scene)
    forged.holds = [*forged.holds, forged.holds[0]]
    with refused("KH009"):
        await forged.append(scene.app)
    await scene.app.rollback()


async def test_postings_of_a_hold_that_is_not_there_are_refused(scene: Scene) -> None:
    forged = await of_holds(scene)
    for holds in ([], forged.holds[:1]):
        await is_refused(scene.app, Forged(forged.journals, forged.postings, holds, forged.version), "KH009")


# ---------------------------------------------------------------- versions


@pytest.mark.parametrize("version", [0, -1, 2**31, 2**62, 2**63 - 1, -(2**63), "expected"])
async def test_no_version_that_an_attacker_gives_the_book_stops_it(scene: Scene, version: Any) -> None:
    """Who writes the book next gives it another, whatever it is; the end of ``scene`` posts both ways."""
    forged = await scene.forge([LEG])
    await forged.append(scene.app, next=forged.version if version == "expected" else version)
    for _ in range(2):
        before = (await scene.forge()).version
        await scene.app.execute(
            "UPDATE ledger.book SET recorded_at = recorded_at WHERE book_id = %s", [scene.book_id]
        )
        await scene.app.commit()
        assert (await scene.forge()).version != before


async def test_a_batch_is_taken_once_also_by_a_version_that_comes_again(scene: Scene) -> None:
    forged = await scene.forge([LEG])
    given = forged.arguments() | {"next": forged.version}
    await call_append(scene.app, given)
    await scene.app.commit()
    with refused(UNIQUE):
        await call_append(scene.app, given)
    await scene.app.rollback()
    other = {"ids": [new_id()], "source_ids": ["other"], "postings": [forged.postings[0] | {"line": 2}]}
    with refused(UNIQUE, "journal_pkey"):
        await call_append(scene.app, given | other)


async def test_every_other_write_of_the_book_makes_what_was_decided_before_stale(scene: Scene) -> None:
    at = NOW + timedelta(hours=1)
    writes = (
        ("UPDATE ledger.book SET recorded_at = recorded_at WHERE book_id = %s", []),
        ("SELECT ledger.open_accounts(%s, '{Assets:Bank:New}', '{INR}', '{NULL}', '{NULL}', %s)", [NOW]),
        ("SELECT ledger.change_account(%s, 1, NULL, 'open', 'attack', 'attacker', %s)", [NOW]),
        (
            "SELECT ledger.set_limit(%s, 1, 'mine', 'debit', 'sum', 10000000, 'day', true, 'why', 'ada', %s)",
            [NOW],
        ),
    )
    for statement, values in writes:
        forged = await scene.forge([LEG])
        await scene.conn.execute(statement.encode(), [scene.book_id, *values])
        await scene.conn.commit()
        with refused(OTHER_VERSION):
            await forged.append(scene.app, at=at)
        await scene.app.rollback()


# ---------------------------------------------------------------- transactions


async def test_within_a_transaction_the_same_rules_hold(scene: Scene) -> None:
    """With the book's lock, with postings of its own before it, and with a line added after it."""
    lock = "UPDATE ledger.book SET recorded_at = recorded_at WHERE book_id = %s RETURNING version"
    forged = await scene.forge([LEG])
    row = await (await scene.app.execute(lock, [scene.book_id])).fetchone()
    assert row is not None
    with refused(OTHER_VERSION):
        async with scene.app.transaction():
            await call_append(scene.app, forged.arguments())
    await forged.append(scene.app, expected=row[0])
    forged = await scene.forge([LEG])
    await insert_rows(scene.app, "posting", [await stray(scene, line=2)])
    with refused(POSTINGS_STATED):
        await call_append(scene.app, forged.arguments())
    await scene.app.rollback()
    await call_append(scene.app, forged.arguments())
    with refused("KH004"):
        await insert_rows(scene.app, "posting", [forged.postings[0] | {"line": 2}])


async def test_what_is_refused_and_caught_leaves_nothing(scene: Scene) -> None:
    forged = await scene.forge([LEG])
    wrong = forged.arguments() | {"lines": [2]}
    with refused(POSTINGS_STATED):
        async with scene.app.transaction():
            await call_append(scene.app, wrong)
    await scene.app.commit()
    assert await orphans(scene) == 0
    await call_append(scene.app, forged.arguments())
    with refused(UNIQUE):  # the same again
        async with scene.app.transaction():
            await call_append(scene.app, forged.arguments())
    await scene.app.commit()


async def test_a_snapshot_that_does_not_see_an_orphan_cannot_post_over_it(scene: Scene) -> None:
    """REPEATABLE READ: a line committed since is in the table and not in the count, whichever way the journal comes."""
    for isolation in ("REPEATABLE READ", "SERIALIZABLE"):
        for way in ("insert", "append"):
            forged = await scene.forge([LEG])
            await scene.app.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}".encode())
            await scene.app.execute("SELECT head FROM ledger.book")
            await insert_rows(scene.conn, "posting", [await stray(scene, line=2)])
            await scene.conn.commit()
            with refused("KH037"):
                await getattr(forged, way)(scene.app)
            await scene.app.rollback()
            await scene.ok(fund(WALLET, 10))


SETTINGS = [
    *(
        "row_security = off",
        "timezone = 'Asia/Kolkata'",
        "standard_conforming_strings = off",
        "xmloption = document",
    ),
    *("transform_null_equals = on", "enable_indexscan = off", "lock_timeout = 1", "search_path = pg_temp"),
    *("datestyle = 'German'", "plan_cache_mode = force_custom_plan"),
]


async def test_no_setting_of_the_caller_changes_what_is_refused(scene: Scene) -> None:
    forged = await scene.forge([Leg(WALLET, PENDING_B, 8501)])
    for setting in SETTINGS:
        await scene.app.execute(f"SET LOCAL {setting}".encode())
        with refused(NO_PRIVILEGE if setting == "row_security = off" else "KH006"):
            await forged.append(scene.app)
        await scene.app.rollback()


# ---------------------------------------------------------------- races


async def test_of_two_batches_upon_one_version_one_stands(scene: Scene) -> None:
    forged = await scene.forge([LEG])
    rival = (await scene.forge([Leg(FEES, CREDIT_WALLET, 5)])).arguments()
    await call_append(scene.conn, forged.arguments())
    attack = asyncio.create_task(call_append(scene.app, rival))
    await until_blocked(scene, scene.app)  # for the number of its posting
    await scene.conn.commit()
    with refused(UNIQUE, "posting"):
        await attack


async def test_a_line_in_anothers_journal_through_a_batch_of_ones_own_is_refused(scene: Scene) -> None:
    """Rows are written before the lock is taken: a line for the journal that is under way must not slip under it."""
    forged = await scene.forge([LEG], [Leg(FEES, CREDIT_WALLET, 5)])
    hidden = [forged.postings[0] | {"line": 2}, forged.postings[1]]
    first, second = Forged(forged.journals[:1], forged.postings[:1]), Forged(forged.journals[1:], hidden)
    under_way = first.arguments() | {"expected": forged.version}
    await call_append(scene.conn, under_way)
    attack = asyncio.create_task(call_append(scene.app, second.arguments() | {"expected": under_way["next"]}))
    await until_blocked(scene, scene.app)
    await scene.conn.commit()
    with refused(POSTINGS_STATED):
        await attack


async def test_a_batch_does_not_wait_for_a_book_that_somebody_holds(scene: Scene) -> None:
    """Whoever holds it may be waiting for the batch's own rows."""
    forged = await scene.forge([LEG])
    for holding in (
        "UPDATE ledger.book SET recorded_at = recorded_at WHERE book_id = %s",
        "SELECT FROM ledger.book WHERE book_id = %s FOR KEY SHARE",
    ):
        if "KEY SHARE" in holding:  # as a posting by hand does
            await insert_rows(scene.conn, "posting", [forged.postings[0] | {"line": 2}])
        else:
            await scene.conn.execute(holding.encode(), [scene.book_id])
        with refused("55P03"):
            await forged.append(scene.app)
        await scene.app.rollback()
        await scene.conn.rollback()


HOLDING = "SELECT pg_advisory_lock(%s, %s)"


@pytest.mark.parametrize("role", ["khata_app", "khata_audit", "khata_merchant"])
async def test_locks_of_versions_that_somebody_keeps_stop_nobody(scene: Scene, role: str) -> None:
    """Advisory locks are for everybody, roles that only read included: they put batches in order and guard nothing."""
    forged = await scene.forge([LEG])
    attacker = scene.roles()[role]
    for number in (forged.version & (2**31 - 1), (forged.version + 1) & (2**31 - 1), -1):
        await attacker.execute(HOLDING, [scene.book_id, number])
    await attacker.commit()
    started = time.monotonic()
    await is_taken(scene.conn, forged)
    await scene.ok(fund(WALLET, 10))
    assert time.monotonic() - started < 1
    await attacker.execute("SELECT pg_advisory_unlock_all()")
    await attacker.commit()


async def test_a_lock_taken_in_place_of_the_batch_before_delays_and_no_longer_than_its_bound(
    scene: Scene,
) -> None:
    forged = await scene.forge([LEG], [LEG])
    first, second = (
        Forged([journal], [posting]).arguments()
        for journal, posting in zip(forged.journals, forged.postings, strict=True)
    )
    first |= {"expected": forged.version}
    second |= {"expected": first["next"]}
    await scene.merchant.execute(HOLDING, [scene.book_id, first["next"] & (2**31 - 1)])
    with refused(OTHER_VERSION):  # its own lock is taken: it goes under the book's, as another version
        await call_append(scene.conn, first)
    await scene.conn.rollback()
    attacked = asyncio.create_task(call_append(scene.app, second))
    await until_blocked(scene, scene.app)
    await scene.ok(fund(PENDING_A, 10))  # whoever posts under the book's lock passes it
    await scene.merchant.execute("SELECT pg_advisory_unlock_all()")
    with refused(OTHER_VERSION):
        await attacked
    cursor = await scene.audit.execute("SELECT proconfig FROM pg_proc WHERE oid = 'ledger.append'::regproc")
    row = await cursor.fetchone()
    assert row is not None
    assert "lock_timeout=5s" in row[0]


# ---------------------------------------------------------------- its owner


async def test_the_owner_of_the_tables_meets_the_same_rules_both_ways(scene: Scene) -> None:
    """The triggers are off for the role of ``append`` only, and that is nobody's but in it."""
    forged = await scene.forge([LEG])
    forged.journals[0]["lines"] = 2
    for way in ("insert", "append"):
        with refused(POSTINGS_STATED, role="khata_owner"):
            await getattr(forged, way)(scene.owner)
        await scene.owner.rollback()


async def test_temporary_things_named_like_what_it_uses_are_not_found(scene: Scene) -> None:
    """Functions, tables and types of the caller's would run, or be written, with the rights of its role."""
    conn = scene.app
    await conn.execute("CREATE TEMP TABLE who (name text)")
    await conn.execute("GRANT ALL ON who TO PUBLIC")
    for name in ("book", "journal", "posting", "balance", "hold"):
        await conn.execute(f"CREATE TEMP TABLE {name} (LIKE ledger.{name})".encode())
        await conn.execute(f"GRANT ALL ON pg_temp.{name} TO PUBLIC".encode())
    for name, parameters, returns in (
        ("unnest", "anyarray", "SETOF anyelement"),
        ("cardinality", "anyarray", "integer"),
        ("generate_series", "bigint, bigint", "SETOF bigint"),
        ("pg_advisory_xact_lock", "integer, integer", "void"),
        ("refuse", "text, text", "void"),
        ("apply_balances", "integer, bigint, bigint", "void"),
    ):
        await conn.execute(
            f"CREATE FUNCTION pg_temp.{name}({parameters}) RETURNS {returns} LANGUAGE plpgsql AS"
            f" $$ BEGIN INSERT INTO pg_temp.who VALUES (current_user || ' {name}'); RETURN; END $$".replace(
                "RETURN;", "RETURN;" if "SETOF" in returns or returns == "void" else "RETURN 1;"
            ).encode()
        )
    await conn.execute("SET search_path = pg_temp, pg_catalog")
    await call_append(conn, await arguments(scene, TWICE))
    await conn.commit()
    cursor = await conn.execute("SELECT name FROM pg_temp.who WHERE name NOT LIKE 'khata_app %'")
    assert await cursor.fetchall() == []
    for name in ("book", "journal", "posting", "balance", "hold"):
        assert await (await conn.execute(f"SELECT * FROM pg_temp.{name}".encode())).fetchall() == []
