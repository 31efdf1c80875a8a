"""One effect and one answer for each Idempotency-Key, where the answer is kept together with the journal."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from psycopg.rows import tuple_row

from api.clients import sweep
from api.known_accounts import KnownAccounts
from ledger import model as m
from ledger.books import change_account
from ledger.errors import AccountUnknown
from tests.api.conftest import Api, Caller
from tests.api.test_holds import available, terms, wallet_and_caller


async def forget_answers(api: Api) -> None:
    async with api.deps.pool.connection() as conn:
        await conn.execute("DELETE FROM api.idempotency")


async def kept(api: Api) -> list[tuple[str, int | None]]:
    async with api.deps.pool.connection() as conn, conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute("SELECT route, status FROM api.idempotency ORDER BY key")
        return await cursor.fetchall()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"expires_at": "2027-03-04T05:06:07.123456+05:30", "tolerance_bps": 250},
        {"expires_at": "2027-03-04T05:06:07Z", "metadata": {"order_id": "7"}, "description": "₹ 5"},
    ],
)
async def test_the_answer_of_a_placed_hold_is_what_the_books_say_of_it(
    api: Api, more: dict[str, Any]
) -> None:
    """Nothing is read for it, so it is held against what is read: byte for byte."""
    merchant, wallet, caller = await wallet_and_caller(api)
    body = terms(wallet, available(merchant), 100, **more)
    first = await caller.post("/v1/holds", body, key="k")
    assert first.status_code == 201, first.text
    assert (await caller.get(f"/v1/holds/{first.json()['id']}")).content == first.content
    await forget_answers(api)
    again = await caller.post("/v1/holds", body, key="k")
    assert (again.status_code, again.content) == (201, first.content)


async def test_journal_and_answer_are_kept_together_so_that_no_crash_parts_them(api: Api) -> None:
    """Whoever is gone before the answer was sent: it is there as soon as the journal is."""
    merchant, wallet, caller = await wallet_and_caller(api)
    body = terms(wallet, available(merchant), 100)
    committed = asyncio.Event()
    writer = api.deps.gateway.writers(api.deps.book_id)
    submit = writer.submit

    async def dies(unit: m.Unit) -> Any:
        await submit(unit)
        committed.set()
        raise RuntimeError("killed before it could answer")

    writer.submit = dies  # type: ignore[method-assign]
    lost = await caller.post("/v1/holds", body, key="k")
    writer.submit = submit  # type: ignore[method-assign]
    assert committed.is_set()
    assert lost.status_code == 500
    assert await kept(api) == [("hold_place", 201)]
    answer = await caller.post("/v1/holds", body, key="k")
    assert answer.status_code == 201
    assert (await caller.get(f"/v1/holds/{answer.json()['id']}")).content == answer.content
    assert await reserved(caller, wallet) == 100


async def reserved(caller: Caller, wallet: str) -> int:
    [account] = (await caller.get("/v1/accounts", prefix=wallet)).json()["data"]
    return account["pending_out"]


async def test_a_refused_hold_keeps_nothing_of_its_answer(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    assert (await caller.post("/v1/holds", terms(wallet, available(merchant), 1500))).status_code == 409
    assert await kept(api) == []


async def test_the_first_answer_stands_whatever_has_become_of_the_accounts(api: Api) -> None:
    """Where the same request would be refused today, it was not then."""
    merchant, wallet, caller = await wallet_and_caller(api)
    body = terms(wallet, available(merchant), 600)
    first = await caller.post("/v1/holds", body, key="k")
    legs = [{"debit": wallet, "credit": available(merchant), "amount": 400, "currency": "INR"}]
    moved = await caller.post("/v1/transfers", {"legs": legs}, key="t")
    assert (first.status_code, moved.status_code) == (201, 201)
    for status in (m.AccountStatus.OPEN, m.AccountStatus.FROZEN):
        if status is not m.AccountStatus.OPEN:
            async with api.deps.pool.connection() as conn:
                await change_account(
                    *(conn, api.deps.book_id, wallet, "INR"),
                    now=api.clock(),
                    reason="test",
                    person="tester",
                    status=status,
                )
        refused = await caller.post("/v1/holds", body)
        assert refused.status_code == 409
        again = await caller.post("/v1/holds", body, key="k")
        assert (again.status_code, again.content) == (201, first.content)
        again = await caller.post("/v1/transfers", {"legs": legs}, key="t")
        assert (again.status_code, again.content) == (201, moved.content)


@pytest.mark.parametrize(
    "change",
    [
        {"debit": "Liabilities:Customer:nobody:Wallet"},
        {"credit": "Liabilities:Merchant:somebody:Available"},
        {"amount": 10_000},
        {"description": "another"},
    ],
)
async def test_a_used_key_with_another_body_is_a_mismatch_before_anything_else_is_wrong(
    api: Api, change: dict[str, Any]
) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    body = terms(wallet, available(merchant), 100)
    assert (await caller.post("/v1/holds", body, key="k")).status_code == 201
    other = await caller.post("/v1/holds", body | change, key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    leg = {"debit": wallet, "credit": available(merchant), "amount": 10, "currency": "INR"}
    assert (await caller.post("/v1/transfers", {"legs": [leg]}, key="k")).status_code == 201
    if "description" not in change:
        other = await caller.post("/v1/transfers", {"legs": [leg | change]}, key="k")
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


async def test_at_once_each_key_has_the_answer_of_its_own_request(api: Api) -> None:
    """In one batch: new keys, repeats, and one key for several requests, of which one wins."""
    merchant, wallet, caller = await wallet_and_caller(api)
    asked = [(f"k{n % 10}", 1 + n % 20) for n in range(60)]  # each key with two amounts, each three times
    answers = await asyncio.gather(
        *(caller.post("/v1/holds", terms(wallet, available(merchant), amount), key=k) for k, amount in asked)
    )
    for key in {key for key, _ in asked}:
        mine = [(amount, answer) for (k, amount), answer in zip(asked, answers, strict=True) if k == key]
        won = {answer.json()["held"] for _, answer in mine if answer.status_code == 201}
        assert len(won) == 1
        for amount, answer in mine:
            if amount in won:
                assert (answer.status_code, answer.json()["held"]) == (201, amount)
            else:
                assert answer.json()["code"] == "idempotency_mismatch"
    assert await reserved(caller, wallet) == sum(
        {
            answer.json()["id"]: answer.json()["held"] for answer in answers if answer.status_code == 201
        }.values()
    )


async def test_a_forgotten_answer_of_a_captured_hold_is_read_off_the_books_again(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    body = terms(wallet, available(merchant), 100)
    hold = (await caller.post("/v1/holds", body, key="k")).json()["id"]
    captured = await caller.post(f"/v1/holds/{hold}/capture", {"amount": 40}, key="c")
    await forget_answers(api)
    assert (await caller.post("/v1/holds", body, key="k")).content == captured.content


async def test_an_account_is_known_as_soon_as_it_is_opened(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    late = "Liabilities:Customer:late:Wallet"
    body = terms(wallet, late, 5)
    answer = await caller.post("/v1/holds", body, key="k")
    assert (answer.status_code, answer.json()["code"]) == (404, "account_unknown")
    await api.open(m.NewAccount(late, "INR", owner=merchant.owner))
    assert (await caller.post("/v1/holds", body, key="k")).status_code == 201
    assert (await caller.post("/v1/holds", body | {"currency": "JPY"})).status_code == 404


async def test_what_is_known_of_an_account_gives_nobody_else_sight_of_it(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    stranger = await api.caller(await api.merchant("Dosa Corner"))
    body = terms(wallet, available(merchant), 5)
    for asks, status in ((caller, 201), (stranger, 404), (caller, 201), (await api.caller(None), 201)):
        assert (await asks.post("/v1/holds", body)).status_code == status


async def test_no_more_accounts_are_remembered_than_a_bound_and_the_oldest_go_first(api: Api) -> None:
    merchant = await api.merchant()
    paths = [await api.wallet(merchant, f"c{n}", 0) for n in range(3)]
    reads = 0

    class Counting:
        def connection(self) -> Any:
            nonlocal reads
            reads += 1
            return api.deps.pool.connection()

    known, book = KnownAccounts(Counting(), most=2), api.deps.book_id  # type: ignore[arg-type]
    for path, wanted in ((0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4), (2, 5)):
        assert await known.owner_of(book, paths[path], "INR") == merchant.owner
        assert reads == wanted
    for _ in range(2):
        with pytest.raises(AccountUnknown):
            await known.owner_of(book, "Liabilities:Customer:nobody:Wallet", "INR")
    assert reads == 7


async def test_a_key_is_forgotten_after_its_days_although_its_answer_came_with_the_journal(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    await caller.post("/v1/holds", terms(wallet, available(merchant)))
    async with api.deps.pool.connection() as conn:
        await sweep(conn, now=api.clock() + timedelta(days=6))
    assert await kept(api) == [("hold_place", 201)]
    async with api.deps.pool.connection() as conn:
        await sweep(conn, now=api.clock() + timedelta(days=8))
    assert await kept(api) == []
