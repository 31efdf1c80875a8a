"""A payment's life on real parts: each event of accounting.md booked to the paisa (₹1,000.00; MDR 2 %, GST 18 %)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from gateway import captures, funds, payments, recovery, refunds, settlement, voids
from gateway.errors import (
    AmountExceeded,
    AuthorizationExpired,
    OutcomeUnknown,
    PaymentNotFound,
    StateConflict,
)
from gateway.fees import FeePlan
from gateway.payments import NewPayment
from gateway.states import PaymentStatus as S
from khata.database import Database
from ledger.read import Balance
from tests.banks.acquirer import AcquirerProcess
from tests.gateway.world import DECLINED, GOOD, World, card
from tests.gateway.world import world as make_world

BOOKED = {
    "Assets:Receivable:meridian": 100_000,
    "Liabilities:Merchant:Pending": 97_640,
    "Income:Fees:card": 2_000,
    "Liabilities:Tax:GST": 360,
}


async def test_an_authorization_is_a_hold_on_the_memo_pair_and_posts_nothing(world: World) -> None:
    payment = await world.authorized()
    assert payment.status is S.REQUIRES_CAPTURE
    assert payment.totals.authorized == 100_000
    assert await world.balances() == {}
    assert await world.held() == 100_000
    await world.check()


async def test_a_capture_books_receivable_fee_and_gst_to_the_paisa(world: World) -> None:
    payment = await world.authorized()
    payment = await captures.capture(world.gw, world.merchant.id, payment.id)
    assert payment.status is S.SUCCEEDED
    assert await world.balances() == BOOKED
    assert await world.held() == 0
    await world.check()


async def test_an_automatic_payment_is_captured_in_the_same_request(world: World) -> None:
    payment = await world.captured()
    assert payment.status is S.SUCCEEDED
    assert await world.balances() == BOOKED
    await world.check()


async def test_a_decline_lets_the_customer_try_again_until_the_attempts_run_out(world: World) -> None:
    payment = await world.authorized(number=DECLINED)
    assert payment.status is S.REQUIRES_PAYMENT_METHOD
    assert payment.last_refusal is not None
    assert payment.last_refusal.response_code == "05"
    await payments.confirm(world.gw, world.merchant.id, payment.id, card(DECLINED))
    last = await payments.confirm(world.gw, world.merchant.id, payment.id, card(DECLINED))
    assert last.status is S.FAILED
    with pytest.raises(StateConflict):
        await payments.confirm(world.gw, world.merchant.id, payment.id, card(GOOD))
    assert await world.held() == 0


async def test_captures_in_parts_sum_to_the_fee_of_the_whole(world: World) -> None:
    payment = await world.authorized()
    for amount in (33_333, 33_333):
        payment = await captures.capture(world.gw, world.merchant.id, payment.id, amount)
        assert payment.status is S.PARTIALLY_CAPTURED
    payment = await captures.capture(world.gw, world.merchant.id, payment.id)
    assert payment.status is S.SUCCEEDED
    assert await world.balances() == BOOKED
    await world.check()


async def test_a_final_capture_frees_the_rest(world: World) -> None:
    payment = await world.authorized()
    payment = await captures.capture(world.gw, world.merchant.id, payment.id, 40_000, final=True)
    assert payment.status is S.SUCCEEDED
    assert await world.held() == 0
    with pytest.raises(StateConflict):
        await captures.capture(world.gw, world.merchant.id, payment.id, 1)
    await world.check()


async def test_a_capture_beyond_the_authorization_is_refused_before_anything_is_sent(world: World) -> None:
    payment = await world.authorized()
    with pytest.raises(AmountExceeded) as refused:
        await captures.capture(world.gw, world.merchant.id, payment.id, 100_001)
    assert refused.value.allowed == 100_000
    assert len((await world.get(payment)).operations) == 1


async def test_a_full_void_gives_everything_back(world: World) -> None:
    payment = await world.authorized()
    payment = await voids.void(world.gw, world.merchant.id, payment.id)
    assert payment.status is S.CANCELED
    assert payment.totals.voided == 100_000
    assert await world.held() == 0
    assert await world.balances() == {}
    assert world.acquirer.get("/book")["open"] == []
    await world.check()


async def test_a_void_in_part_leaves_the_rest_to_capture(world: World) -> None:
    payment = await world.authorized()
    payment = await voids.void(world.gw, world.merchant.id, payment.id, 30_000)
    assert payment.status is S.REQUIRES_CAPTURE
    assert await world.held() == 70_000
    payment = await captures.capture(world.gw, world.merchant.id, payment.id)
    assert payment.totals.captured == 70_000
    assert payment.status is S.SUCCEEDED
    await world.check()


async def test_a_void_after_a_capture_in_part_frees_the_rest(world: World) -> None:
    payment = await world.authorized()
    await captures.capture(world.gw, world.merchant.id, payment.id, 40_000)
    payment = await voids.void(world.gw, world.merchant.id, payment.id)
    assert payment.status is S.SUCCEEDED
    assert await world.held() == 0
    await world.check()


async def test_an_unpaid_payment_can_be_called_off(world: World) -> None:
    payment = await world.new()
    payment = await voids.void(world.gw, world.merchant.id, payment.id)
    assert payment.status is S.CANCELED
    with pytest.raises(StateConflict):
        await payments.confirm(world.gw, world.merchant.id, payment.id, card())


async def test_a_hold_expires_by_its_own_time_also_when_no_job_has_run(world: World) -> None:
    payment = await world.authorized()
    world.clock.forward(days=8)
    seen = await world.get(payment)
    assert seen.status_at(world.clock()) is S.EXPIRED
    with pytest.raises(AuthorizationExpired):
        await captures.capture(world.gw, world.merchant.id, payment.id)
    assert await recovery.expire_due(world.gw) == 1
    assert await recovery.expire_due(world.gw) == 0
    assert (await world.get(payment)).status is S.EXPIRED
    assert await world.held() == 0
    await world.check()


async def test_what_was_captured_stays_when_the_rest_expires(world: World) -> None:
    payment = await world.authorized()
    await captures.capture(world.gw, world.merchant.id, payment.id, 40_000)
    world.clock.forward(days=8)
    assert await recovery.expire_due(world.gw) == 1
    assert (await world.get(payment)).status is S.SUCCEEDED
    await world.check()


async def test_a_payment_nobody_pays_expires(world: World) -> None:
    payment = await world.new()
    world.clock.forward(days=2)
    assert (await world.get(payment)).status_at(world.clock()) is S.EXPIRED
    assert await recovery.expire_due(world.gw) == 1
    assert (await world.get(payment)).status is S.EXPIRED


async def test_another_merchants_payment_is_a_missing_one(world: World) -> None:
    payment = await world.new()
    with pytest.raises(PaymentNotFound):
        await payments.get(world.gw, world.gw.ids(), payment.id)


async def test_settlement_empties_the_receivable_and_funds_become_payable_after_t_plus_n(
    world: World,
) -> None:
    payment = await world.captured()
    (file,) = await world.settle()
    done = await settlement.import_settlement(world.gw, file, "today")
    assert await world.balances() == {
        "Assets:Bank:meridian:Escrow": 98_230,
        "Expenses:Bank:meridian": 1_500,
        "Assets:Tax:InputCredit": 270,
        "Liabilities:Merchant:Pending": 97_640,
        "Income:Fees:card": 2_000,
        "Liabilities:Tax:GST": 360,
    }
    again = await settlement.import_settlement(world.gw, file, "again")
    assert again.replayed
    assert await funds.release_due(world.gw, done.settled_on) == 0
    assert await funds.release_due(world.gw, done.settled_on + timedelta(days=1)) == 1
    assert await funds.release_due(world.gw, done.settled_on + timedelta(days=1)) == 0
    sums = await world.balances()
    assert sums["Liabilities:Merchant:Available"] == 97_640
    assert "Liabilities:Merchant:Pending" not in sums
    assert (await world.get(payment)).status is S.SUCCEEDED
    await world.check()


async def test_a_refund_before_settlement_comes_out_of_pending_and_the_bank_nets_it(world: World) -> None:
    await world.captured()
    payment = await world.captured(50_000)
    refund = await refunds.refund(world.gw, world.merchant.id, payment.id, 20_000, "damaged")
    assert refund.status == "succeeded"
    assert (refund.from_pending, refund.from_available, refund.from_debt) == (20_000, 0, 0)
    sums = await world.balances()
    assert sums["Assets:Receivable:meridian"] == 130_000
    assert sums["Liabilities:Merchant:Pending"] == 97_640 + 48_820 - 20_000
    assert "Liabilities:InTransit:Refunds:meridian" not in sums
    assert (await world.get(payment)).totals.refunded == 20_000
    await world.check()


async def test_a_whole_refund_leaves_our_fee_as_the_merchants_debt(world: World) -> None:
    payment = await world.captured()
    refund = await refunds.refund(world.gw, world.merchant.id, payment.id)
    assert (refund.from_pending, refund.from_available, refund.from_debt) == (97_640, 0, 2_360)
    assert await world.balances() == {
        "Assets:Receivable:Merchant": 2_360,
        "Income:Fees:card": 2_000,
        "Liabilities:Tax:GST": 360,
    }
    with pytest.raises(StateConflict):
        await refunds.refund(world.gw, world.merchant.id, payment.id)
    await world.check()


async def _settled(world: World) -> None:
    for file in await world.settle():
        done = await settlement.import_settlement(world.gw, file, "file")
        await funds.release_due(world.gw, done.settled_on + timedelta(days=1))


async def test_a_refund_after_settlement_comes_out_of_available(world: World) -> None:
    payment = await world.captured()
    await _settled(world)
    refund = await refunds.refund(world.gw, world.merchant.id, payment.id, 60_000)
    assert (refund.from_pending, refund.from_available, refund.from_debt) == (0, 60_000, 0)
    sums = await world.balances()
    assert sums["Liabilities:Merchant:Available"] == 37_640
    assert sums["Assets:Receivable:meridian"] == -60_000
    short = await refunds.refund(world.gw, world.merchant.id, payment.id)
    assert (short.from_pending, short.from_available, short.from_debt) == (0, 37_640, 2_360)
    await world.check()


async def test_a_debt_is_paid_out_of_the_next_funds(world: World) -> None:
    payment = await world.captured()
    await refunds.refund(world.gw, world.merchant.id, payment.id)
    await world.captured(50_000)
    await _settled(world)
    sums = await world.balances()
    assert "Assets:Receivable:Merchant" not in sums
    assert sums["Liabilities:Merchant:Available"] == 48_820 - 2_360
    await world.check()


async def test_a_refund_the_bank_declines_goes_back_where_it_came_from(world: World) -> None:
    payment = await world.captured(200_000)
    refund = await refunds.refund(world.gw, world.merchant.id, payment.id, 66_609)
    assert refund.status == "failed"
    assert (await world.balances())["Liabilities:Merchant:Pending"] == 195_280
    assert (await world.get(payment)).totals.refundable == 200_000
    await world.check()
    await _settled(world)
    refund = await refunds.refund(world.gw, world.merchant.id, payment.id, 66_609)
    assert refund.status == "failed"
    assert (await world.balances())["Liabilities:Merchant:Available"] == 195_280


async def test_a_refund_of_several_captures_goes_to_the_card(world: World) -> None:
    payment = await world.authorized()
    await captures.capture(world.gw, world.merchant.id, payment.id, 50_000)
    await captures.capture(world.gw, world.merchant.id, payment.id, 50_000)
    refund = await refunds.refund(world.gw, world.merchant.id, payment.id, 80_000)
    assert refund.status == "succeeded"
    assert refund.operation.target_id is None
    await world.check()


async def test_currencies_have_their_own_minor_units_and_accounts(world: World) -> None:
    await world.captured(1_000, currency="JPY")
    await world.captured(12_345, currency="KWD")
    assert (await world.balances("JPY"))["Income:Fees:card"] == 20
    assert (await world.balances("JPY"))["Liabilities:Tax:GST"] == 4
    assert (await world.balances("KWD"))["Income:Fees:card"] == 319  # 2.5 % of 12.345 is 0.309, and 0.010
    await world.check()


async def test_a_fee_larger_than_the_capture_becomes_a_debt(world: World) -> None:
    await world.captured(5, currency="KWD")
    sums = await world.balances("KWD")
    assert sums["Assets:Receivable:Merchant"] == 7  # fee 10, GST 2, captured 5
    assert "Liabilities:Merchant:Pending" not in sums
    await world.check()


async def test_sixty_four_captures_at_once_never_exceed_the_authorization(patient_world: World) -> None:
    world = patient_world
    payment = await world.authorized(100_000)
    tries = [captures.capture(world.gw, world.merchant.id, payment.id, 2_500) for _ in range(64)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    refused = [r for r in results if isinstance(r, AmountExceeded | StateConflict)]
    assert len(refused) == 24
    payment = await world.get(payment)
    assert payment.totals.captured == 100_000
    assert payment.status is S.SUCCEEDED
    assert sum(e["amount"] for e in world.acquirer.entries(kind="capture", code="00")) == 100_000
    assert await world.balances() == BOOKED
    await world.check()


async def test_sixty_four_refunds_at_once_never_exceed_the_capture(patient_world: World) -> None:
    world = patient_world
    await world.captured(100_000)
    payment = await world.captured(100_000)
    tries = [refunds.refund(world.gw, world.merchant.id, payment.id, 2_500) for _ in range(64)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    refused = [r for r in results if isinstance(r, AmountExceeded | StateConflict)]
    assert len(refused) == 24, [r for r in results if isinstance(r, BaseException)][:3]
    assert (await world.get(payment)).totals.refunded == 100_000
    assert sum(e["amount"] for e in world.acquirer.entries(kind="refund", code="00")) == 100_000
    await world.check()


async def test_two_confirms_at_once_make_one_attempt(patient_world: World) -> None:
    world = patient_world
    payment = await world.new()
    tries = [payments.confirm(world.gw, world.merchant.id, payment.id, card()) for _ in range(8)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(r, BaseException) for r in results) == 1
    assert all(isinstance(r, StateConflict | OutcomeUnknown) for r in results if isinstance(r, BaseException))
    assert await world.held() == 100_000


async def test_a_stored_card_pays_again_by_its_token(world: World) -> None:
    payment = await world.authorized()
    assert payment.current is not None
    again = await payments.create(
        world.gw, world.merchant.id, NewPayment(500, "INR"), card=payment.current.token
    )
    assert again.status is S.SUCCEEDED


async def test_two_processes_capturing_one_payment_never_exceed_it(patient_world: World) -> None:
    world = patient_world
    payment = await world.authorized(100_000)
    async with world.another_process() as (other, _):
        tries = [
            captures.capture(gw, world.merchant.id, payment.id, 5_000)
            for gw in (world.gw, other)
            for _ in range(16)
        ]
        results = await asyncio.gather(*tries, return_exceptions=True)
    refused = [r for r in results if isinstance(r, BaseException)]
    assert len(refused) == 12
    assert all(isinstance(r, AmountExceeded | StateConflict) for r in refused), refused
    assert await world.balances() == BOOKED
    await world.check()


async def test_a_merchant_whose_fee_is_returned_pays_nothing_for_a_refunded_sale(
    database: Database, acquirer: AcquirerProcess
) -> None:
    async with make_world(database, acquirer, fee_returned=True) as world:
        payment = await world.captured()
        for amount in (33_333, 33_333, None):
            refund = await refunds.refund(world.gw, world.merchant.id, payment.id, amount)
            assert refund.status == "succeeded"
        assert await world.balances() == {}
        await world.check()


async def test_captures_may_exceed_the_authorization_by_what_was_agreed(
    database: Database, acquirer: AcquirerProcess
) -> None:
    async with make_world(database, acquirer, tolerance_bps=1_000) as world:
        payment = await world.authorized(tolerance_bps=1_000)
        with pytest.raises(AmountExceeded) as refused:
            await captures.capture(world.gw, world.merchant.id, payment.id, 110_001)
        assert refused.value.allowed == 110_000
        # The bank was told of it with the authorization.
        payment = await captures.capture(world.gw, world.merchant.id, payment.id, 110_000)
        assert payment.status is S.SUCCEEDED
        assert payment.totals.captured == 110_000
        assert (await world.balances())["Assets:Receivable:meridian"] == 110_000
        assert await world.held() == 0
        await world.check()


async def test_a_fee_handed_back_before_a_later_capture_is_not_handed_back_twice(
    database: Database, acquirer: AcquirerProcess
) -> None:
    """Refunds hand back what was charged and no more, also when the fixed part of the fee came before them."""
    plans = {"INR": FeePlan(bps=200, fixed=5_000)}
    async with make_world(database, acquirer, fee_returned=True, fees=plans) as world:
        payment = await world.authorized(200_000)
        for _ in range(2):
            await captures.capture(world.gw, world.merchant.id, payment.id, 100_000)
            refund = await refunds.refund(world.gw, world.merchant.id, payment.id, 100_000)
            assert refund.status == "succeeded"
        sums = (await world.get(payment)).totals
        assert sums.charge_returned == sums.charge
        assert await world.balances() == {}
        await world.check()


async def test_a_refund_takes_funds_that_become_payable_while_it_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await world.captured()
    (file,) = await world.settle()
    await settlement.import_settlement(world.gw, file, "today")
    real = refunds.balance

    async def after_a_release(*args: Any) -> Balance | None:
        tomorrow = world.clock().date() + timedelta(days=1)
        assert await funds.release_due(world.gw, on=tomorrow) == 1
        return await real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(refunds, "balance", after_a_release)
        refund = await refunds.refund(world.gw, world.merchant.id, payment.id, 50_000)
    assert refund.status == "succeeded"
    assert (refund.from_pending, refund.from_available, refund.from_debt) == (0, 50_000, 0)
    assert (await world.balances())["Liabilities:Merchant:Available"] == 47_640
    await world.check()


async def test_refunds_at_the_same_time_name_captures_that_can_bear_them(patient_world: World) -> None:
    """The bank refuses more than a capture's amount, so the second refund must not name the first's capture."""
    world = patient_world
    payment = await world.authorized(120_000)
    for _ in range(2):
        await captures.capture(world.gw, world.merchant.id, payment.id, 60_000)
    made = await asyncio.gather(
        *(refunds.refund(world.gw, world.merchant.id, payment.id, 60_000) for _ in range(2))
    )
    assert [refund.status for refund in made] == ["succeeded", "succeeded"]
    assert len({refund.operation.target_id for refund in made}) == 2
    await world.check()
