"""Reads that concurrent requests share: each has its own answer, as fresh as if it had asked alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import psycopg
import pytest
from litestar import Litestar, Request, get

from api.errors import PolicyMissing
from api.policy import check_policies, public
from api.reads import Reads
from api.schemas.past import MerchantBalances
from ledger import model as m
from tests.api.conftest import Api

PENDING, AVAILABLE = "Liabilities:Merchant:{}:Pending", "Liabilities:Merchant:{}:Available"


def connections(api: Api) -> list[int]:
    """Those that read for many, by the server's process."""
    with psycopg.connect(api.database.admin_dsn, autocommit=True) as admin:
        found = admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ~ 'json_agg'"
            " AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in found.fetchall()]


def end(api: Api, pids: list[int]) -> None:
    with psycopg.connect(api.database.admin_dsn, autocommit=True) as admin:
        for pid in pids:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


async def test_many_who_ask_at_once_each_get_their_own(api: Api) -> None:
    await api.open(m.NewAccount("Equity:Opening", "INR"), m.NewAccount("Equity:Opening", "JPY"))
    callers = []
    for number in range(3):
        merchant = await api.merchant(f"M{number}")
        await api.move("Equity:Opening", PENDING.format(merchant.owner), 100 + number)
        await api.move("Equity:Opening", AVAILABLE.format(merchant.owner), 7 + number, "JPY")
        callers.append((merchant, await api.caller(merchant), number))
    asked = [(merchant, caller.get("/v1/balance"), n) for merchant, caller, n in callers * 20]
    answers = await asyncio.gather(*(answer for _, answer, _ in asked))
    for (merchant, _, number), answer in zip(asked, answers, strict=True):
        nothing = {"pending": 0, "available": 0, "reserve": 0, "disputed": 0, "owed": 0}
        assert answer.json() == {
            "merchant": merchant.owner,
            "as_of": None,
            "data": [
                {"currency": "INR"} | nothing | {"pending": 100 + number},
                {"currency": "JPY"} | nothing | {"available": 7 + number},
            ],
        }
        # Bytes of its own making, so they are held against the view that the description promises.
        assert MerchantBalances.model_validate_json(answer.content).json_bytes() == answer.content


async def test_of_available_funds_what_a_hold_reserves_is_gone_and_of_pending_ones_it_is_not(
    api: Api,
) -> None:
    merchant = await api.merchant()
    wallet = await api.wallet(merchant, "c1", 100)
    await api.move("Equity:Opening", AVAILABLE.format(merchant.owner), 100)
    caller, operator = await api.caller(merchant), await api.caller(None)
    for figure in ("Available", "Pending"):
        path = f"Liabilities:Merchant:{merchant.owner}:{figure}"
        await api.move("Equity:Opening", path, 50)
        body = {"debit": path, "credit": wallet, "amount": 30, "currency": "INR"}
        assert (await operator.post("/v1/holds", body)).status_code == 201
    [inr, _] = (await caller.get("/v1/balance")).json()["data"]
    assert (inr["available"], inr["pending"]) == (120, 50)


async def test_a_balance_shows_what_was_answered_before_it_was_asked(api: Api) -> None:
    """Also while others keep a read under way at all times."""
    merchant = await api.merchant()
    wallet = await api.wallet(merchant, "c1", 1000)
    caller = await api.caller(merchant)
    done = asyncio.Event()

    async def ask_all_the_time() -> None:
        while not done.is_set():
            await caller.get("/v1/balance")

    others = [asyncio.create_task(ask_all_the_time()) for _ in range(4)]
    for number in range(1, 21):
        legs = [{"debit": wallet, "credit": AVAILABLE.format(merchant.owner), "amount": 5, "currency": "INR"}]
        assert (await caller.post("/v1/transfers", {"legs": legs})).status_code == 201
        assert (await caller.get("/v1/balance")).json()["data"][0]["available"] == 5 * number
    done.set()
    await asyncio.gather(*others)


async def test_an_account_that_somebody_else_opened_under_a_merchants_name_is_not_its_own(api: Api) -> None:
    merchant = await api.merchant(currencies=("INR",))
    await api.open(m.NewAccount(AVAILABLE.format(merchant.owner), "USD", owner="mer_other"))
    answer = await (await api.caller(merchant)).get("/v1/balance")
    assert [entry["currency"] for entry in answer.json()["data"]] == ["INR"]


async def rows_read(api: Api, ask: Callable[[], Awaitable[Any]]) -> int:
    """Of accounts and balances, through any index or none."""
    await asyncio.sleep(
        1.1
    )  # a session tells what it has read at the end of a statement, once a second at most
    await ask()
    with psycopg.connect(api.database.admin_dsn, autocommit=True) as admin:
        found = admin.execute(
            "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables"
            " WHERE relname IN ('account', 'balance')"
        ).fetchone()
    assert found
    return found[0]


@pytest.mark.parametrize("analysed", [False, True])
async def test_a_plan_made_in_a_young_book_reads_by_key_when_it_has_grown(api: Api, analysed: bool) -> None:
    """The statement stays prepared: planned without statistics, or by those of a few rows, and none come later."""
    with psycopg.connect(api.database.admin_dsn, autocommit=True) as admin:
        admin.execute("ALTER TABLE ledger.account SET (autovacuum_enabled = off)")
        admin.execute("ALTER TABLE ledger.balance SET (autovacuum_enabled = off)")
    merchant = await api.merchant()
    caller = await api.caller(merchant)
    ask = partial(caller.get, "/v1/balance")
    if analysed:
        with psycopg.connect(api.database.admin_dsn, autocommit=True) as admin:
            admin.execute("ANALYZE ledger.account, ledger.balance")
    await ask()
    wallets = [
        m.NewAccount(f"Liabilities:Customer:c{n}:Wallet", "INR", owner=merchant.owner) for n in range(3000)
    ]
    await api.open(*wallets)
    before = await rows_read(api, ask)
    for _ in range(9):
        await ask()
    read = await rows_read(api, ask) - before
    assert 10 * 20 <= read <= 10 * 20 + 50  # ten accounts a request, each with its balance


async def test_a_connection_lost_between_two_reads_is_nobodys_trouble(api: Api) -> None:
    caller = await api.caller(await api.merchant())
    first = await caller.get("/v1/balance")
    lost = connections(api)
    assert len(lost) == 1
    end(api, lost)
    assert (await caller.get("/v1/balance")).content == first.content
    assert len(connections(api)) == 1


async def test_a_connection_lost_in_the_middle_of_a_read_is_nobodys_trouble(api: Api) -> None:
    caller = await api.caller(await api.merchant())
    first = await caller.get("/v1/balance")
    with psycopg.connect(api.database.admin_dsn) as admin:
        admin.execute("LOCK TABLE ledger.balance IN ACCESS EXCLUSIVE MODE")
        asked = [asyncio.create_task(caller.get("/v1/balance")) for _ in range(5)]
        await waits(api)
        end(api, connections(api))
        await waits(api)  # again, on another connection
    assert {answer.content for answer in await asyncio.gather(*asked)} == {first.content}


async def waits(api: Api) -> None:
    """Until a read waits for the lock."""
    with psycopg.connect(api.database.admin_dsn, autocommit=True) as admin:
        for _ in range(500):
            found = admin.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
            if found and found[0]:
                return
            await asyncio.sleep(0.01)
    pytest.fail("no read waits")


async def test_who_stops_waiting_takes_nobodys_answer_away(api: Api) -> None:
    merchant = await api.merchant()
    reads, book = api.deps.reads, api.deps.book_id
    await reads.figures(book, merchant.owner)
    with psycopg.connect(api.database.admin_dsn) as admin:
        admin.execute("LOCK TABLE ledger.balance IN ACCESS EXCLUSIVE MODE")
        impatient, patient, next_one = (
            asyncio.create_task(reads.figures(book, merchant.owner)) for _ in range(3)
        )
        await waits(api)
        impatient.cancel()
    assert [currency for currency, _ in sorted(await patient)] == ["INR", "JPY"]
    assert [currency for currency, _ in sorted(await next_one)] == ["INR", "JPY"]
    assert impatient.cancelled()


async def test_without_a_database_everybody_is_told_and_asking_again_later_works(api: Api) -> None:
    merchant, away = await api.merchant(), True

    async def connect() -> Any:
        if away:
            raise psycopg.OperationalError("no route")
        return await psycopg.AsyncConnection.connect(api.database.app_dsn, autocommit=True)

    reads = Reads(connect)
    asked = [reads.figures(api.deps.book_id, merchant.owner) for _ in range(3)]
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(answer, psycopg.OperationalError)
    away = False
    assert await reads.figures(api.deps.book_id, merchant.owner)
    await reads.close()


async def test_a_database_that_says_nothing_is_given_up_and_asked_anew_later(api: Api) -> None:
    merchant = await api.merchant()
    connect = partial(psycopg.AsyncConnection.connect, api.database.app_dsn, autocommit=True)
    reads, book = Reads(connect, answer_s=0.5), api.deps.book_id
    expected = await reads.figures(book, merchant.owner)
    with psycopg.connect(api.database.admin_dsn) as admin:
        admin.execute("LOCK TABLE ledger.balance IN ACCESS EXCLUSIVE MODE")
        asked = [reads.figures(book, merchant.owner) for _ in range(3)]
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(answer, psycopg.OperationalError)
    found = await reads.figures(book, merchant.owner)
    assert [currency for currency, _ in sorted(found)] == [currency for currency, _ in sorted(expected)]
    await reads.close()


def test_a_route_that_would_not_ask_who_calls_stops_the_application() -> None:
    async def anybody(request: Request[Any, Any, Any]) -> None: ...

    async def authorize(request: Request[Any, Any, Any]) -> None: ...

    @get("/open", before_request=anybody, sync_to_thread=False, **public())
    def open_route() -> None: ...

    @get("/fine", sync_to_thread=False, **public())
    def fine() -> None: ...

    check_policies(Litestar([fine], before_request=authorize, openapi_config=None))
    with pytest.raises(PolicyMissing, match="GET /open"):
        check_policies(Litestar([fine, open_route], before_request=authorize, openapi_config=None))
