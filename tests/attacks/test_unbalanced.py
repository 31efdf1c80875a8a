"""Posting an unbalanced journal is impossible: in the API of ledger/, and in SQL as the application's role.

A posting is one row with one amount, one currency, one debited and one credited account, so there is no column
in which an imbalance could be written; these tests try every way around that.
"""

from __future__ import annotations

from typing import Any

import pytest

from ledger import errors
from ledger import model as m
from tests.attacks.conftest import Scene
from tests.attacks.raw import HOLD, NO_PRIVILEGE, POSTING, VALUE, Leg, is_refused, refused
from tests.ledger.words import ESCROW, FEES, PENDING_A, PENDING_B, WALLET, journal, new_id, pay

POSTING_FIELDS = ("debit", "credit", "amount", "currency", "layer", "up_to")  # up_to: the amount is the most


# ---------------------------------------------------------------- the API of ledger/


def test_a_posting_has_one_amount_in_one_currency_and_always_two_sides() -> None:
    assert m.Posting.__dataclass_fields__.keys() == set(POSTING_FIELDS)
    for side in ("debit", "credit"):
        with pytest.raises(TypeError):
            m.Posting(**{"debit": ESCROW, "credit": WALLET, "amount": 1, "currency": "INR"} | {side: None})  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", [0, -1, -(10**15), 0.5, 1.0, True, None, "1", 10**15 + 1, float("nan")])
def test_an_amount_that_is_not_a_positive_integer_cannot_be_built(amount: Any) -> None:
    for build in (
        lambda: m.Posting(ESCROW, WALLET, amount, "INR"),
        lambda: m.Place(new_id(), ESCROW, WALLET, amount, "INR"),
        lambda: m.Increase(new_id(), amount),
        lambda: m.Capture(new_id(), amount),
    ):
        with pytest.raises(errors.InvalidEntry):
            build()


def test_a_journal_of_nothing_or_of_bare_pending_lines_cannot_be_built() -> None:
    for postings in ((), (m.Posting(WALLET, PENDING_A, 1, "INR", m.Layer.PENDING),)):
        with pytest.raises(errors.InvalidEntry):
            journal(*postings)


def test_both_sides_on_one_account_cannot_be_built() -> None:
    with pytest.raises(errors.InvalidEntry):
        pay(WALLET, WALLET, 1)
    with pytest.raises(errors.InvalidEntry):
        m.Capture(new_id(), 1, debit=WALLET, credit=WALLET)


@pytest.mark.parametrize(
    ("name", "value"), [("amount", -5), ("amount", 0), ("credit", WALLET), ("layer", m.Layer.PENDING)]
)
async def test_a_posting_forged_after_it_was_built_is_refused_by_the_database(
    scene: Scene, name: str, value: Any
) -> None:
    posting = pay(FEES, WALLET, 5)
    entry = journal(posting)
    object.__setattr__(posting, name, value)  # what no honest caller does
    with pytest.raises(errors.DatabaseRefused):
        await scene.post(entry)
    await scene.conn.rollback()


async def test_one_amount_cannot_be_booked_in_two_currencies(scene: Scene) -> None:
    [refusal] = await scene.post(
        journal(pay(PENDING_A, ESCROW, 5, "JPY"))
    )  # escrow has a JPY account, the merchant none
    assert refusal == errors.AccountUnknown(PENDING_A, "JPY")


# ---------------------------------------------------------------- SQL as khata_app


async def test_the_table_has_no_column_for_an_imbalance(scene: Scene) -> None:
    cursor = await scene.audit.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'ledger' AND table_name = 'posting'"
        " AND (column_name LIKE '%amount%' OR column_name LIKE '%account%' OR column_name LIKE '%currency%')"
        " ORDER BY 1"
    )
    assert [row[0] for row in await cursor.fetchall()] == [
        "amount",
        "credit_account",
        "currency",
        "debit_account",
    ]


@pytest.mark.parametrize("column", ["debit_account", "credit_account", "amount", "currency", "layer"])
async def test_a_one_sided_posting_is_refused(scene: Scene, column: str) -> None:
    forged = await scene.forge([Leg(WALLET, PENDING_B, 5)])
    forged.postings[0][column] = None
    await is_refused(scene.app, forged, POSTING)


@pytest.mark.parametrize("amount", [0, -5, 10**15 + 1, 2**63 - 1])
async def test_a_zero_or_negative_or_enormous_amount_is_refused(scene: Scene, amount: int) -> None:
    forged = await scene.forge([Leg(WALLET, PENDING_B, amount)])
    await is_refused(scene.app, forged, POSTING, "posting_amount")


async def test_a_negative_amount_passes_only_as_what_gives_back_a_hold(scene: Scene) -> None:
    for leg in (
        Leg(WALLET, PENDING_B, -5, layer=1, action=3),  # of no hold
        Leg(WALLET, PENDING_A, -5, layer=0, action=2, hold_id=scene.open_hold),
        Leg(WALLET, PENDING_A, -5, layer=1, action=0, hold_id=scene.open_hold),
    ):
        await is_refused(scene.app, await scene.forge([leg]), POSTING, "posting_")
    more_than_held = Leg(WALLET, PENDING_A, -1001, layer=1, action=3, hold_id=scene.open_hold)
    await is_refused(scene.app, await scene.forge([more_than_held]), HOLD, "hold_")


async def test_the_same_account_on_both_sides_is_refused(scene: Scene) -> None:
    forged = await scene.forge([Leg(WALLET, PENDING_B, 5)])
    forged.postings[0]["credit_account"] = forged.postings[0]["debit_account"]
    await is_refused(scene.app, forged, POSTING, "posting_sides")


async def test_sides_in_two_currencies_are_refused(scene: Scene) -> None:
    yen = await scene.account_id(WALLET, "JPY")
    for side in ("debit", "credit"):
        forged = await scene.forge([Leg(ESCROW, PENDING_B, 5)])
        forged.postings[0][f"{side}_account"] = yen
        forged.postings[0] |= {f"{side}_seq": 1, f"{side}_posted": 5 if side == "credit" else -5}
        await is_refused(scene.app, forged, "KH008")


async def test_a_side_on_an_account_that_does_not_exist_is_refused(scene: Scene) -> None:
    for side in ("debit", "credit"):
        forged = await scene.forge([Leg(WALLET, PENDING_B, 5)])
        forged.postings[0][f"{side}_account"] = 999
        await is_refused(scene.app, forged, "KH005", "no account 999")


async def test_a_side_that_states_another_balance_than_its_lines_make_is_refused(scene: Scene) -> None:
    for column in (
        "debit_posted",
        "debit_available",
        "debit_incoming",
        "credit_posted",
        "credit_available",
        "credit_incoming",
    ):
        forged = await scene.forge([Leg(WALLET, PENDING_B, 5)])
        forged.postings[0][column] += 1
        await is_refused(scene.app, forged, "KH013")


async def test_one_balance_cannot_be_moved_without_the_other(scene: Scene) -> None:
    for column in ("posted_debits", "posted_credits", "pending_debits", "pending_credits"):
        with refused(NO_PRIVILEGE):
            await scene.app.execute(f"UPDATE ledger.balance SET {column} = {column} + 1")  # type: ignore[arg-type]
        await scene.app.rollback()


@pytest.mark.parametrize("lines", [1, 3])
async def test_a_journal_with_fewer_or_more_postings_than_it_states_is_refused(
    scene: Scene, lines: int
) -> None:
    forged = await scene.forge([Leg(WALLET, PENDING_B, 5), Leg(PENDING_B, FEES, 1)])
    forged.journals[0]["lines"] = lines
    await is_refused(scene.app, forged, "KH003")


async def test_two_journals_cannot_lend_each_other_a_posting(scene: Scene) -> None:
    forged = await scene.forge(
        [Leg(WALLET, PENDING_B, 5), Leg(PENDING_B, FEES, 1)], [Leg(WALLET, PENDING_B, 2)]
    )
    forged.journals[0]["lines"], forged.journals[1]["lines"] = 1, 2  # the sum is right
    await is_refused(scene.app, forged, "KH003")


async def test_a_journal_without_postings_is_refused(scene: Scene) -> None:
    forged = await scene.forge([Leg(WALLET, PENDING_B, 5)])
    forged.postings.clear()
    await is_refused(scene.app, forged, "KH003")
    forged.journals[0]["lines"] = 0
    await is_refused(scene.app, forged, VALUE, "journal_lines")


async def test_one_statement_for_both_tables_and_copy_meet_the_same_guards(scene: Scene) -> None:
    forged = await scene.forge([Leg(WALLET, PENDING_B, 5)])
    columns = ", ".join(forged.postings[0])
    async with scene.app.cursor() as cursor:
        with refused(POSTING, "posting_amount"):
            async with cursor.copy(f"COPY ledger.posting ({columns}) FROM STDIN") as copy:  # type: ignore[arg-type]
                await copy.write_row(
                    [-5 if name == "amount" else value for name, value in forged.postings[0].items()]
                )
        await scene.app.rollback()
        one_statement = "WITH p AS ({}), j AS ({}) SELECT 1".format(
            *(
                f"INSERT INTO ledger.{table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
                for table, row in (
                    ("posting", forged.postings[0]),
                    ("journal", forged.journals[0] | {"lines": 2}),
                )
            )
        )
        with refused("KH003"):
            await cursor.execute(
                one_statement,  # type: ignore[arg-type]
                [*forged.postings[0].values(), *(forged.journals[0] | {"lines": 2}).values()],
            )


async def test_every_currency_of_the_book_sums_to_zero_in_each_layer(scene: Scene) -> None:
    cursor = await scene.audit.execute(
        "SELECT sum(posted_debits - posted_credits), sum(pending_debits - pending_credits)"
        " FROM ledger.balance WHERE book_id = %s GROUP BY currency",
        [scene.book_id],
    )
    assert {tuple(map(int, row)) for row in await cursor.fetchall()} == {(0, 0)}


async def test_a_check_asks_for_its_refusal_only_where_what_must_hold_does_not(scene: Scene) -> None:
    """``condition OR ledger.broken(…)``: broken always raises, so a row that passes was never put to it."""
    conn = scene.app
    await conn.execute(
        "CREATE TEMP TABLE checked (n integer"
        " CONSTRAINT more CHECK (n > 0 OR ledger.broken('KH014', 'checked', 'more')))"
    )
    await conn.execute("INSERT INTO checked SELECT generate_series(1, 5000)")
    for number in (6, 7, 8):  # also by a plan that is kept
        await conn.execute("INSERT INTO checked VALUES (%s)", [number], prepare=True)
    for wrong in (0, None):
        with refused(VALUE, "more"):
            async with conn.transaction():
                await conn.execute("INSERT INTO checked VALUES (%s)", [wrong], prepare=True)
