"""Merchants at home in two books: everything of each happens in its own, and one file of the bank settles both."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from banks.audit import BanksExaminer
from banks.errors import SettlementRefused
from gateway import captures, funds, recovery, refunds, settlement
from gateway.audit import GatewayExaminer
from gateway.merchants import NewMerchant, create_merchant
from gateway.states import PaymentStatus as S
from ledger.audit import LedgerExaminer, audit
from ledger.books import change_account, create_book
from ledger.model import AccountStatus
from tests.gateway.test_recovery import NEVER_ANSWERED_AMOUNT
from tests.gateway.world import BANK, PLAN, World

ESCROW, RECEIVABLE = "Assets:Bank:meridian:Escrow", "Assets:Receivable:meridian"


@dataclass
class TwoHomes:
    """The same gateway seen from the merchant of each book."""

    main: World
    second: World

    @property
    def both(self) -> tuple[World, World]:
        return self.main, self.second

    async def findings(self) -> list[str]:
        """Every examiner, on every book."""
        examiners = (LedgerExaminer(), BanksExaminer(), GatewayExaminer())
        found: list[str] = []
        for world in self.both:
            async with world.psycopg() as conn:
                results = await audit(conn, world.book_id, examiners=examiners)
            found += [f"{r.check.id}: {f}" for r in results for f in r.findings]
        return found

    async def captured(self) -> tuple[Any, ...]:
        return tuple([await world.captured() for world in self.both])


@pytest.fixture
async def homes(world: World) -> TwoHomes:
    async with world.psycopg() as conn:
        second = await create_book(conn, name="second", now=world.clock())
    shop = await create_merchant(world.gw, NewMerchant("Dosa Corner", second, BANK, {"INR": PLAN}))
    return TwoHomes(world, replace(world, merchant=shop, book_id=second))


async def test_all_of_a_merchant_happens_in_its_home_book(homes: TwoHomes) -> None:
    await homes.captured()
    open_ = await homes.second.authorized()
    (file,) = await homes.main.settle()
    done = await settlement.import_settlement(homes.main.gw, file, "today")
    assert done.totals.captures == 2
    for world in homes.both:
        sums = await world.balances()
        assert sums[ESCROW] == 98_230
        assert sums["Liabilities:Merchant:Pending"] == 97_640
        assert RECEIVABLE not in sums
    assert (await homes.main.held(), await homes.second.held()) == (0, 100_000)
    assert await funds.release_due(homes.main.gw, done.settled_on + timedelta(days=1)) == 2
    assert [(await w.balances())["Liabilities:Merchant:Available"] for w in homes.both] == [97_640] * 2
    homes.main.clock.forward(days=8)
    assert await recovery.expire_due(homes.main.gw) == 1
    assert (await homes.second.get(open_)).status is S.EXPIRED
    assert await homes.second.held() == 0
    assert await homes.findings() == []


async def test_unknown_outcomes_of_both_books_are_resolved_by_one_file(homes: TwoHomes) -> None:
    unknown = [await world.authorized() for world in homes.both]
    for world, payment in zip(homes.both, unknown, strict=True):
        await captures.capture(world.gw, world.merchant.id, payment.id, NEVER_ANSWERED_AMOUNT)
    (file,) = await homes.main.settle()
    await settlement.import_settlement(homes.main.gw, file, "today")
    for world, payment in zip(homes.both, unknown, strict=True):
        assert (await world.get(payment)).status is S.PARTIALLY_CAPTURED
        assert RECEIVABLE not in await world.balances()
    assert await homes.findings() == []


async def test_a_file_with_anything_wrong_in_one_book_changes_no_book(homes: TwoHomes) -> None:
    """The part that comes first would have been booked: the rehearsal has seen the other refuse."""
    await homes.captured()
    (file,) = await homes.main.settle()
    before = [await world.balances() for world in homes.both]
    await freeze(homes.second, AccountStatus.FROZEN)
    with pytest.raises(SettlementRefused, match="account_frozen"):
        await settlement.import_settlement(homes.main.gw, file, "today")
    assert [await world.balances() for world in homes.both] == before
    assert await homes.main.rows("SELECT * FROM banks.settlement_file") == []
    await freeze(homes.second, AccountStatus.OPEN)
    await settlement.import_settlement(homes.main.gw, file, "today")
    assert await homes.findings() == []


async def freeze(world: World, status: AccountStatus) -> None:
    async with world.psycopg() as conn:
        at = world.clock()
        await change_account(
            conn, world.book_id, ESCROW, "INR", now=at, reason="test", person="tester", status=status
        )


async def test_a_file_whose_import_dies_between_two_books_is_named_and_goes_on_where_it_stopped(
    homes: TwoHomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await homes.captured()
    (file,) = await homes.main.settle()
    import_part = settlement._import_part  # pyright: ignore[reportPrivateUsage]

    async def dying(gw: Any, book_id: int, *given: Any, rehearsal: bool = False) -> Any:
        if book_id == homes.second.book_id and not rehearsal:
            raise ConnectionError
        return await import_part(gw, book_id, *given, rehearsal=rehearsal)

    monkeypatch.setattr(settlement, "_import_part", dying)
    with pytest.raises(ConnectionError):
        await settlement.import_settlement(homes.main.gw, file, "today")
    monkeypatch.undo()
    assert [RECEIVABLE in await world.balances() for world in homes.both] == [False, True]
    first, second = homes.main.book_id, homes.second.book_id
    assert any(
        f.startswith("I9-parts") and f"books is {{{first},{second}}}" in f for f in await homes.findings()
    )
    again = await settlement.import_settlement(homes.main.gw, file, "today")
    assert (again.replayed, again.totals.captures) == (False, 2)
    assert await homes.findings() == []
    lines = await homes.main.rows("SELECT book_id, line FROM banks.settlement_line ORDER BY line")
    assert sorted(lines) == [(first, 2), (second, 3)]
    assert (await settlement.import_settlement(homes.main.gw, file, "today")).replayed


async def test_a_file_of_other_content_under_one_id_is_refused_whatever_book_it_is_for(
    homes: TwoHomes,
) -> None:
    await homes.main.captured()
    (mine,) = await homes.main.settle()
    await settlement.import_settlement(homes.main.gw, mine, "today")
    await homes.second.captured()
    theirs = (await homes.main.settle())[-1]
    forged = signed(theirs.replace(b"-inr-2|", b"-inr|"))
    with pytest.raises(SettlementRefused, match="other content"):
        await settlement.import_settlement(homes.main.gw, forged, "forged")
    await settlement.import_settlement(homes.main.gw, theirs, "today")
    assert await homes.findings() == []


def signed(file: bytes) -> bytes:
    """With the checks that its lines must bear (docs/settlement-file.md)."""
    running, lines = hashlib.sha256(), list[bytes]()
    for line in file.splitlines():
        content = line.rpartition(b"|")[0]
        running.update(content)
        check = running.hexdigest().encode()
        made = content + b"|" + (check if content.startswith(b"T") else check[:16]) + b"\n"
        running.update(made[len(content) :])
        lines.append(made)
    return b"".join(lines)


async def test_another_book_has_none_of_a_merchants_payments_and_refunds(homes: TwoHomes) -> None:
    payment = await homes.second.captured()
    refund = await refunds.refund(homes.second.gw, homes.second.merchant.id, payment.id, 10_000)
    assert refund.status == "succeeded"
    assert await homes.main.balances() == {}
    assert {j.kind for j in await homes.main.journals()} == set()
    kinds = {j.kind for j in await homes.second.journals()}
    assert {"capture", "refund", "refund_completion"} <= kinds


async def test_a_payment_that_a_superuser_puts_into_another_book_is_named_in_both(homes: TwoHomes) -> None:
    payment = await homes.second.captured()
    async with await psycopg.AsyncConnection.connect(homes.main.database.admin_dsn) as conn:
        await conn.execute("SET session_replication_role = replica")
        await conn.execute("UPDATE gateway.payment SET book_id = 1")
    said = f"I4-homes: gateway.payment id={payment.id}: book_id is 1, must be {homes.second.book_id}"
    assert (await homes.findings()).count(said) == 2
