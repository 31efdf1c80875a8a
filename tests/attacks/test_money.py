"""Floors, frozen and closed accounts, and the terms of holds, by raw SQL as the application's role."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger.books import change_account
from ledger.model import AccountStatus
from tests.attacks.conftest import EXPIRES, Scene
from tests.attacks.raw import (
    HOLD,
    NO_PRIVILEGE,
    NOT_NULL,
    UNIQUE,
    VALUE,
    Forged,
    Leg,
    insert_rows,
    is_refused,
    is_taken,
    refused,
)
from tests.ledger.words import CREDIT_WALLET, ESCROW, FEES, NOW, PENDING_A, PENDING_B, WALLET, new_id

PLACE, INCREASE, CAPTURE, RELEASE, EXPIRE = range(5)


# ---------------------------------------------------------------- floors


@pytest.mark.parametrize(
    ("account", "amount"),
    [(WALLET, 8501), (CREDIT_WALLET, 501), (PENDING_A, 1)],
    ids=["held", "credit line", "empty"],
)
async def test_available_below_the_floor_is_refused(scene: Scene, account: str, amount: int) -> None:
    """The wallet has 10,000, of which 1,500 are held."""
    await is_refused(scene.app, await scene.forge([Leg(account, PENDING_B, amount)]), "KH006", "its floor is")
    if amount > 1:
        await is_taken(scene.app, await scene.forge([Leg(account, PENDING_B, amount - 1)]))


async def test_available_below_the_floor_in_the_middle_of_a_batch_is_refused(scene: Scene) -> None:
    below_then_above = [Leg(WALLET, PENDING_B, 9000)], [Leg(ESCROW, WALLET, 9000)]
    await is_refused(scene.app, await scene.forge(*below_then_above), "KH006")
    within_one = await scene.forge([leg for [leg] in below_then_above])
    await is_refused(scene.app, within_one, "KH006")


async def test_a_lying_running_balance_does_not_hide_a_broken_floor(scene: Scene) -> None:
    forged = await scene.forge([Leg(WALLET, PENDING_B, 9000)], [Leg(ESCROW, WALLET, 9000)])
    forged.postings[0]["debit_available"] = 0
    await is_refused(scene.app, forged, "KH013")


async def test_a_hold_counts_against_the_floor(scene: Scene) -> None:
    forged = await scene.forge(
        [Leg(WALLET, PENDING_A, 8501, layer=1, action=INCREASE, hold_id=scene.open_hold)]
    )
    await is_refused(scene.app, forged, "KH006")


async def test_money_on_its_way_in_is_not_available(scene: Scene) -> None:
    """1,500 are held for this merchant; none of it can be spent."""
    await is_refused(scene.app, await scene.forge([Leg(PENDING_A, FEES, 1)]), "KH006")


async def test_floor_and_status_are_not_set_past_their_facts(scene: Scene) -> None:
    for change in ("floor = NULL", "status = 'open'", "posted_credits = 10^12", "seq = 0"):
        with refused(NO_PRIVILEGE):
            await scene.app.execute(f"UPDATE ledger.balance SET {change}")  # type: ignore[arg-type]
        await scene.app.rollback()


async def test_a_sum_past_64_bits_is_refused(scene: Scene) -> None:
    """Gross: back and forth, so that no balance leaves its range."""
    there, back = Leg(ESCROW, FEES, 10**15), Leg(FEES, ESCROW, 10**15)
    forged = await scene.forge([there, back] * (2**63 // 10**15 + 1))
    for start in range(0, len(forged.postings), 1000):
        await insert_rows(scene.app, "posting", forged.postings[start : start + 1000])
    with refused("22003"):
        await insert_rows(scene.app, "journal", forged.journals)


# ---------------------------------------------------------------- frozen and closed accounts


@pytest.mark.parametrize("status", [AccountStatus.FROZEN, AccountStatus.CLOSED])
async def test_a_frozen_or_closed_account_takes_no_line_on_either_side(
    scene: Scene, status: AccountStatus
) -> None:
    await change_account(
        scene.conn, scene.book_id, FEES, "INR", now=NOW, reason="attack", person="attacker", status=status
    )
    await scene.conn.commit()
    for leg in (Leg(FEES, PENDING_B, 5), Leg(ESCROW, FEES, 5)):
        await is_refused(scene.app, await scene.forge([leg]), "KH007", status.value)


async def test_a_frozen_account_gives_holds_back_and_nothing_else(scene: Scene) -> None:
    await change_account(
        scene.conn,
        scene.book_id,
        WALLET,
        "INR",
        now=NOW,
        reason="attack",
        person="attacker",
        status=AccountStatus.FROZEN,
    )
    await scene.conn.commit()
    give_back = Leg(WALLET, PENDING_A, -10, layer=1, action=CAPTURE, hold_id=scene.open_hold)
    book_it = Leg(WALLET, PENDING_A, 10, action=CAPTURE, hold_id=scene.open_hold)
    await is_refused(scene.app, await scene.forge([give_back, book_it]), "KH007")
    await is_taken(scene.app, await scene.forge([give_back._replace(action=RELEASE)]))


# ---------------------------------------------------------------- the terms of holds


def capture(scene: Scene, consumed: int, booked: int, **more: object) -> list[Leg]:
    hold_id = scene.open_hold
    take = Leg(WALLET, PENDING_A, -consumed, layer=1, action=CAPTURE, hold_id=hold_id)
    book = Leg(WALLET, PENDING_A, booked, action=CAPTURE, hold_id=hold_id)._replace(**more)
    return [take, book]


async def test_a_hold_captured_above_its_ceiling_is_refused(scene: Scene) -> None:
    too_much = await scene.forge(capture(scene, 1000, 1101))  # 1,000 and 10 %
    await is_refused(scene.app, too_much, HOLD, "hold_ceiling")
    bit_by_bit = await scene.forge(capture(scene, 400, 400), capture(scene, 600, 701))
    await is_refused(scene.app, bit_by_bit, HOLD, "hold_ceiling")
    await is_taken(scene.app, await scene.forge(capture(scene, 1000, 1100)))


async def test_a_capture_that_leaves_the_hold_standing_is_refused(scene: Scene) -> None:
    await is_refused(scene.app, await scene.forge(capture(scene, 1, 900)), HOLD, "hold_taken")
    await is_refused(scene.app, await scene.forge(capture(scene, 900, 1)), HOLD)  # more taken out than booked
    nothing_taken_out = await scene.forge(capture(scene, 1, 1)[1:])
    await is_refused(scene.app, nothing_taken_out, "KH009")


async def test_a_capture_in_another_currency_than_the_hold_is_refused(scene: Scene) -> None:
    yen = Leg(ESCROW, WALLET, 100, "JPY", action=CAPTURE, hold_id=scene.open_hold)
    await is_refused(scene.app, await scene.forge([capture(scene, 100, 100)[0], yen]), "KH009")


async def test_more_released_than_is_left_is_refused(scene: Scene) -> None:
    release = Leg(WALLET, PENDING_A, -1001, layer=1, action=RELEASE, hold_id=scene.open_hold)
    await is_refused(scene.app, await scene.forge([release]), HOLD, "hold_")
    in_two = await scene.forge([release._replace(amount=-600)], [release._replace(amount=-600)])
    await is_refused(scene.app, in_two, HOLD, "hold_")


async def test_a_hold_that_has_ended_takes_nothing_more(scene: Scene) -> None:
    release = Leg(WALLET, PENDING_A, -1000, layer=1, action=RELEASE, hold_id=scene.open_hold)
    await is_taken(scene.app, await scene.forge([release]))
    for leg in (
        release._replace(amount=-1),
        release._replace(amount=5, action=INCREASE),
        release._replace(amount=5, action=PLACE),
    ):
        await is_refused(scene.app, await scene.forge([leg]), "KH009")


@pytest.mark.parametrize("side", [{"debit": ESCROW}, {"credit": PENDING_B}])
async def test_a_hold_moves_on_its_own_pair_only(scene: Scene, side: dict[str, str]) -> None:
    leg = Leg(WALLET, PENDING_A, 5, layer=1, action=INCREASE, hold_id=scene.open_hold)._replace(**side)
    await is_refused(scene.app, await scene.forge([leg]), "KH009")


async def test_a_hold_nobody_placed_cannot_be_used(scene: Scene) -> None:
    for action in (PLACE, INCREASE):
        leg = Leg(WALLET, PENDING_A, 5, layer=1, action=action, hold_id=new_id())
        await is_refused(scene.app, await scene.forge([leg]), "KH009")


async def tick(scene: Scene, at: object) -> None:
    await scene.app.execute("UPDATE ledger.book SET recorded_at = %s WHERE book_id = %s", [at, scene.book_id])
    await scene.app.commit()


async def test_a_capture_or_increase_after_expiry_is_refused_and_expiry_before_its_time(scene: Scene) -> None:
    expire = Leg(WALLET, PENDING_A, -500, layer=1, action=EXPIRE, hold_id=scene.timed_hold)
    take = [expire._replace(action=CAPTURE, amount=-5), expire._replace(action=CAPTURE, amount=5, layer=0)]
    await tick(scene, EXPIRES - timedelta(microseconds=1))
    await is_refused(scene.app, await scene.forge([expire]), "KH009")
    await tick(scene, EXPIRES)
    for legs in (take, [expire._replace(action=INCREASE, amount=5)]):
        await is_refused(scene.app, await scene.forge(legs), "KH009")
    await is_taken(scene.app, await scene.forge([expire]))


async def test_a_hold_without_expiry_does_not_expire(scene: Scene) -> None:
    leg = Leg(WALLET, PENDING_A, -5, layer=1, action=EXPIRE, hold_id=scene.open_hold)
    await is_refused(scene.app, await scene.forge([leg]), "KH009")


async def new_hold(scene: Scene, **more: object) -> dict[str, object]:
    return {
        "book_id": scene.book_id, "hold_id": new_id(), "debit_account": await scene.account_id(WALLET),
        "credit_account": await scene.account_id(PENDING_A), "tolerance_bps": 0,
    } | more  # fmt: skip


async def test_the_terms_of_a_new_hold_are_checked(scene: Scene) -> None:
    for more, state, appended in (
        ({"tolerance_bps": -1}, VALUE, None),
        ({"tolerance_bps": 10_001}, VALUE, None),
        ({"expires_at": "infinity"}, VALUE, None),
        ({"debit_account": 999}, "KH005", "KH009"),
        ({"debit_account": None}, NOT_NULL, "KH009"),
        ({"hold_id": scene.open_hold}, UNIQUE, None),
    ):
        hold = await new_hold(scene, **more)
        place = Leg(WALLET, PENDING_A, 5, layer=1, action=PLACE, hold_id=hold["hold_id"])  # type: ignore[arg-type]
        forged = await scene.forge([place])
        forged.holds = [hold]
        await is_refused(scene.app, forged, state, appended=appended)
    for more in ({"held": 5}, {"captured": 5, "consumed": 5}):  # what ledger.append has no argument for
        with refused(NO_PRIVILEGE):
            await insert_rows(scene.app, "hold", [await new_hold(scene, **more)])
        await scene.app.rollback()


async def test_a_hold_cannot_be_placed_after_its_expiry_twice_or_across_currencies(scene: Scene) -> None:
    hold = await new_hold(scene, expires_at=NOW - timedelta(hours=1))
    place = Leg(WALLET, PENDING_A, 5, layer=1, action=PLACE, hold_id=hold["hold_id"])  # type: ignore[arg-type]

    async def placed(*journals: list[Leg]) -> Forged:
        forged = await scene.forge(*journals)
        forged.holds = [hold]
        return forged

    await is_refused(scene.app, await placed([place]), "KH009")
    hold["expires_at"] = None
    await is_refused(scene.app, await placed([place], [place]), "KH009")
    hold["credit_account"] = await scene.account_id(WALLET, "JPY")
    forged = await placed([place])
    forged.postings[0] |= {"credit_account": hold["credit_account"], "credit_seq": 1}
    await is_refused(scene.app, forged, "KH008")
