"""kill -9 of every process at marked points and random moments, while merchants go on paying: I3 to I8 and I16.

``make chaos CYCLES=50 SEED=7``: more of it, from another seed. A failure prints the seed that replays its faults.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
import pytest
from psycopg.conninfo import conninfo_to_dict

from gateway.settlement import import_settlement
from khata.wiring import open_gateway
from ledger.points import SETTLEMENT_BOOKED, VARIABLE
from tests.chaos import judge
from tests.chaos.faults import cycle
from tests.chaos.shopper import ANSWER_TIMEOUT, GOOD, Client, Log, Shopper
from tests.chaos.system import System, durable_system, eventually, khata, system_on
from tests.server import Server, temporary_home

SEED = int(os.environ.get("SEED") or 20261122)
CYCLES = int(os.environ.get("CYCLES") or 1)
SHOPPERS = 3  # of each merchant
SECONDS_A_CYCLE = 180  # at most, on a machine that does much else
ON_ITS_WAY_S = 0.5
PAYMENT = {
    "amount": 125_000,
    "currency": "INR",
    "capture_method": "manual",
    "card": {"number": GOOD[0], "expiry_month": 12, "expiry_year": 2030, "cvv": "123"},
}


@pytest.mark.timeout(180 + CYCLES * SECONDS_A_CYCLE)
async def test_nothing_acknowledged_is_lost_whatever_is_killed(tmp_path: Path) -> None:
    log = Log(tmp_path / "acknowledged.jsonl")
    async with durable_system() as system, clients_of(system, log) as clients:
        try:
            told_by_file = await shop_under_fire(system, clients)
            ended = perf_counter()
            await judge.at_rest(system, told_by_file)
            print(f"every outcome is known {perf_counter() - ended:.1f} s after the last request")
            await find_nothing(system, log)
            await settle_with_a_kill(system)
            await judge.at_rest(system)
            await find_nothing(system, log)
            await judge_every_answer(system, clients, log)
        except BaseException:
            print(f"replay: make chaos CYCLES={CYCLES} SEED={SEED}\n{system.said()}")
            with suppress(Exception):  # what went wrong may be the database
                print(f"--- still open\n{await judge.open_operations(system)}")
            raise


async def shop_under_fire(system: System, clients: list[Client]) -> list[str]:
    """Payments, captures, refunds and holds while everything is killed; the references of those a file will tell."""
    stop = asyncio.Event()
    first = [
        Shopper(client, f"m{client.merchant}", random.Random(SEED + client.merchant)) for client in clients
    ]
    more = [
        Shopper(client, f"m{client.merchant}s{n}", random.Random(f"{SEED}-{client.merchant}-{n}"))
        for client in clients
        for n in range(SHOPPERS)
    ]
    await asyncio.gather(*(shopper.told_by_the_file() for shopper in first))
    await outlive_the_database(system)
    async with asyncio.TaskGroup() as group:
        for shopper in more:
            group.create_task(shopper.play(stop))
        dice = random.Random(SEED)
        for _ in range(CYCLES):
            await cycle(system, dice, report=print)
        stop.set()
    return [f"{shopper.name}-file" for shopper in first]


async def outlive_the_database(system: System) -> None:
    """API and worker go on by themselves: neither is started again, and the worker asks the bank again."""

    async def worker_works() -> None:
        before = await tries(system)

        async def more() -> bool:
            return await tries(system) > before

        await eventually(more, "the worker works")

    await worker_works()
    await system.kill_database(0.3)
    await worker_works()
    await system.ready()
    assert system.deaths() == {"api": 0, "worker": 0, "acquirer": 0, "database": 1}


async def tries(system: System) -> int:
    """How many messages to the bank were begun, again and again for what it does not answer."""
    return (await system.rows("SELECT sum(tries)::int FROM gateway.operation"))[0][0]


async def find_nothing(system: System, log: Log) -> None:
    assert await judge.audit_findings(system) == []
    assert await judge.differences_with_bank(system) == []
    assert log.broken == []


async def judge_every_answer(system: System, clients: list[Client], log: Log) -> None:
    told = log.read()
    assert await judge.done_otherwise(system, told) == []
    assert await judge.lost(clients, told) == []
    assert await judge.answered_otherwise(clients, told) == []
    print(f"seed {SEED}: {len(told)} answers kept, {log.retries} times asked again, deaths {system.deaths()}")


async def settle_with_a_kill(system: System) -> None:
    """The bank's files are imported; first one of them by a process that dies just before it commits."""
    paths = [file["path"] for file in (await system.bank("POST", "/settlement"))["files"]]
    before = await system.rows("SELECT count(*) FROM ledger.journal")
    status, said = await khata(system, "import", paths[0], once={VARIABLE: SETTLEMENT_BOOKED})
    assert status == -signal.SIGKILL, said
    assert await system.rows("SELECT count(*) FROM ledger.journal") == before
    async with open_gateway(system.settings, system.database) as gw:
        for path in map(Path, paths):
            done = await import_settlement(gw, path.read_bytes(), path.name)
            assert not done.replayed


@dataclass(frozen=True, slots=True)
class Cut:
    """How the bank is caught with a request: ``setting`` holds it there; ``booked`` already or not yet."""

    setting: dict[str, Any]
    booked: bool


CUTS = (Cut({"hang": True}, booked=False), Cut({"latency_ms": 5000}, booked=True))


async def test_a_bank_killed_in_the_middle_of_an_authorization_is_told_to_reverse_it(
    server: Server, tmp_path: Path
) -> None:
    log = Log(tmp_path / "acknowledged.jsonl")
    async with quick_system(server) as system, clients_of(system, log) as (client, *_):
        for cut in CUTS:
            await authorize_and_kill_the_bank(system, client, cut)
            await find_nothing(system, log)


async def authorize_and_kill_the_bank(system: System, client: Client, cut: Cut) -> None:
    await system.ready()
    before = len((await system.bank("GET", "/book"))["entries"])
    await system.bank("POST", "/settings", json=cut.setting)
    asking = asyncio.create_task(
        client.post("/v1/payments", PAYMENT, f"booked {cut.booked}".replace(" ", "-"))
    )

    async def bank_has_it() -> bool:
        assert not asking.done(), asking
        if cut.booked:
            return len((await system.bank("GET", "/book"))["entries"]) > before
        return bool(await system.rows("SELECT FROM gateway.operation WHERE state = 'sending'"))

    await eventually(bank_has_it, "the bank has the request")
    await asyncio.sleep(ON_ITS_WAY_S)
    system.kill("acquirer")
    payment = await asking
    assert (payment["status"], payment["outcome"]) == ("processing", "unknown")
    assert payment["unknown_since"]
    assert payment["next_check_at"]
    after = await Shopper(client, "", random.Random(0)).known(payment)
    assert (after["status"], after["authorized"]) == ("requires_payment_method", 0)
    await judge.at_rest(system)
    book = await system.bank("GET", "/book")
    kinds = [entry["kind"] for entry in book["entries"][before:]]
    assert kinds == (["authorization", "reversal"] if cut.booked else ["reversal"])
    assert book["open"] == []
    assert await system.rows("SELECT FROM ledger.hold") == []


@asynccontextmanager
async def quick_system(server: Server) -> AsyncGenerator[System]:
    """On a database of the test session's server, which is not killed."""
    with server.fresh_database() as database, temporary_home() as home:
        # The roles are the server's: another home must know the same passwords.
        shutil.copy(Path(server.home) / "secrets.json", home)
        name = str(conninfo_to_dict(database.app_dsn)["dbname"])
        async with system_on(server.admin_dsn, home, name=name) as system:
            yield system


@asynccontextmanager
async def clients_of(system: System, log: Log) -> AsyncGenerator[list[Client]]:
    """A client of each merchant."""
    async with aiohttp.ClientSession(timeout=ANSWER_TIMEOUT) as http:
        yield [Client(http, system, number, log) for number in range(len(system.members))]
