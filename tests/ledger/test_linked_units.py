"""Units of several journals and hold operations: they stand or fall together, in the order given."""

from __future__ import annotations

from ledger import errors
from ledger import model as m
from tests.ledger.recompute import assert_sound
from tests.ledger.words import (
    FEES,
    PENDING_A,
    PENDING_B,
    WALLET,
    Book,
    fund,
    journal,
    new_id,
    pay,
    unit,
)


def place(amount: int) -> m.Place:
    return m.Place(new_id(), WALLET, PENDING_A, amount, "INR")


async def test_two_actions_on_one_hold_in_one_unit_happen_in_order(book: Book) -> None:
    hold = place(100)
    await book.ok(
        fund(WALLET, 150),
        unit(
            journal(hold=hold),
            journal(hold=m.Increase(hold.hold_id, 50)),
            journal(hold=m.Capture(hold.hold_id, 120)),
            journal(hold=m.Release(hold.hold_id)),
        ),
    )
    assert await book.balance(WALLET) == (30, 30, 0)
    backwards = place(30)
    [refused] = await book.post(unit(journal(hold=m.Capture(backwards.hold_id, 1)), journal(hold=backwards)))
    assert (refused, refused.index) == (errors.HoldUnknown(backwards.hold_id), 0)  # type: ignore[union-attr]
    await assert_sound(book.conn, book.book_id)


async def test_a_set_of_holds_is_captured_or_none_of_it_and_the_culprit_is_named(book: Book) -> None:
    holds = [place(100), place(100), place(100)]
    await book.ok(fund(WALLET, 300), *(journal(hold=hold) for hold in holds))
    [refused] = await book.post(
        unit(*(journal(hold=m.Capture(h.hold_id, amount)) for h, amount in zip(holds, (100, 101, 100), strict=True)))
    )  # fmt: skip
    assert refused == errors.HoldExceeded(holds[1].hold_id, 101, 100)
    assert refused.index == 1
    assert await book.balance(WALLET) == (300, 0, 0)
    await book.ok(unit(*(journal(hold=m.Capture(h.hold_id, 100)) for h in holds)))
    assert await book.balance(PENDING_A) == (300, 300, 0)


async def test_what_an_earlier_journal_of_the_unit_gives_the_next_may_spend(book: Book) -> None:
    hold = place(100)
    await book.ok(fund(WALLET, 100), journal(hold=hold))
    spend = journal(pay(FEES, WALLET, 70))
    [refused] = await book.post(unit(spend, journal(hold=m.Release(hold.hold_id))))
    assert isinstance(refused, errors.InsufficientFunds)
    await book.ok(unit(journal(hold=m.Release(hold.hold_id)), journal(pay(FEES, WALLET, 70))))
    assert await book.balance(WALLET) == (30, 30, 0)


async def test_holds_transfers_and_a_reversal_stand_or_fall_as_one_and_replay_as_one(book: Book) -> None:
    hold = place(40)
    [wrong, _] = await book.ok(fund(PENDING_B, 25), fund(WALLET, 100))
    together = unit(
        journal(reverses=wrong.seqs[0], kind="reversal", source="undo"),
        journal(hold=hold, source="hold"),
        journal(m.Posting(WALLET, FEES, 500, "INR", up_to=True), source="rest"),
    )
    [stands] = await book.ok(together)
    assert await book.balance(FEES) == (60, 60, 0)
    [again] = await book.post(together)
    assert again == m.Posted(stands.seqs, stands.ids, replayed=True)
    [part] = await book.post(unit(together.journals[1], journal(pay(FEES, WALLET, 1))))
    assert isinstance(part, errors.SourceConflict)
    assert part.index == 1
    await assert_sound(book.conn, book.book_id)
