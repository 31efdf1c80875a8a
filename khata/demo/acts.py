"""The acts of the story, on a running stage: payments, settlement, funds, refunds, and the proof at the end."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
from psycopg import AsyncConnection
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from banks import reconcile
from banks.accounts import receivable, refunds_in_transit
from gateway import funds
from gateway.core import Gateway
from khata.cli.books_command import trial_balance_table
from khata.cli.money import major
from khata.database import Database
from khata.demo import StoryFailed
from khata.demo.cast import ROLES, Member, engage
from khata.demo.client import MerchantClient
from khata.demo.report import merchant_table
from khata.demo.script import SCENES, Player, Scene
from khata.errors import CommandFailed
from khata.stage import Stage, environment
from khata.wiring import MERIDIAN
from ledger import read

Figures = Mapping[tuple[str, str], int]

AT_ONCE = 12
REFUNDS_AFTER_SETTLEMENT = 3
DAYS_LATER = 3  # by then the slowest merchant's funds are payable


@dataclass
class Story:
    """Everything an act needs. ``seed`` draws amounts and choices; the same seed tells the same story."""

    stage: Stage
    database: Database
    gw: Gateway
    console: Console
    seed: int
    players: tuple[tuple[Member, Player], ...] = ()
    imported: set[str] = field(default_factory=set[str])
    waiting: set[str] = field(default_factory=set[str])

    @property
    def books(self) -> list[int]:
        """The home books of the merchants."""
        return sorted({member.merchant.book_id for member, _ in self.players})


@asynccontextmanager
async def cast(story: Story) -> AsyncGenerator[None]:
    """Engage the merchants; their programs are connected until the end of the block."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        members = [await engage(story.stage.settings, story.database, story.gw, role) for role in ROLES]
        story.players = tuple((m, _player(story, http, m, n)) for n, m in enumerate(members))
        yield


def _player(story: Story, http: aiohttp.ClientSession, member: Member, number: int) -> Player:
    client = MerchantClient(http, story.stage.api, member.client_id, member.secret)
    return Player(client, member.currency, random.Random(story.seed + number), story.waiting)


async def play(story: Story) -> int:
    """Every scene of every merchant, some at a time; how many payments were made."""
    return await _play(story, [scene for scene in SCENES for _ in range(scene[1])])


async def play_once(story: Story) -> int:
    """Every scene of every merchant once."""
    return await _play(story, list(SCENES), quiet=True)


async def _play(story: Story, scenes: Sequence[tuple[str, int, Scene]], *, quiet: bool = False) -> int:
    turns = [(player, title, scene) for title, _, scene in scenes for _, player in story.players]
    gate, played = asyncio.Semaphore(AT_ONCE), Counter[str]()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=story.console, transient=True, disable=quiet) as progress:
        task = progress.add_task("payments", total=len(turns))

        async def turn(player: Player, title: str, scene: Scene) -> None:
            async with gate:
                await scene(player)
            played[title] += 1
            progress.update(task, advance=1, description=doing(story.waiting))

        await all_of([turn(player, title, scene) for player, title, scene in turns])
    for title, _, _ in () if quiet else SCENES:
        story.console.print(f"  {played[title]:>4} × {title}")
    return len(turns)


def doing(waiting: Collection[str]) -> str:
    """The progress line's words: how many outcomes are waited for, and one of them."""
    return f"payments, waiting for the outcome of {len(waiting)} ({min(waiting)})" if waiting else "payments"


async def all_of(turns: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them beside each other. The first that fails ends the others and is raised by itself, not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            for turn in turns:
                group.create_task(turn)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def settle(story: Story, *, quiet: bool = False) -> None:
    """The bank cuts its files; each is imported twice by ``khata import``, and the second changes nothing."""
    async with aiohttp.ClientSession() as http, http.post(f"{story.stage.acquirer}/settlement") as answer:
        files = [file for file in (await answer.json())["files"] if file["file_id"] not in story.imported]
    for file in files:
        story.imported.add(file["file_id"])
        for _ in range(2):
            said = await run_khata(story.stage, "import", file["path"])
            if not quiet:
                story.console.print(f"  {said}", markup=False, highlight=False)


async def run_khata(stage: Stage, *arguments: str) -> str:
    """Run the ``khata`` command as a user would; its last line. Raises ``CommandFailed``."""
    command = [sys.executable, "-m", "khata", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**environment(stage.settings), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise CommandFailed(" ".join(arguments), err.decode(errors="replace").strip())
    lines = out.decode().strip().splitlines()
    return lines[-1] if lines else ""


async def pay_out_funds(story: Story) -> int:
    """Three days later every settled capture is payable: the worker's job, run for that day."""
    on = story.gw.clock().date() + timedelta(days=DAYS_LATER)
    total = 0
    while done := await funds.release_due(story.gw, on=on):
        total += done
    return total


async def refund_after_settlement(story: Story) -> int:
    """Some payments whose funds are payable already are refunded: out of Available now."""
    done = 0
    for _, player in story.players:
        page = await player.client.get("/v1/payments", limit="200")
        settled = [p for p in page["data"] if p["status"] == "succeeded" and not p["refunded"]]
        for payment in settled[:REFUNDS_AFTER_SETTLEMENT]:
            half = payment["captured"] // 2 // 10 * 10
            await player.reach(await player.act(payment, "refunds", amount=half), "succeeded")
            done += 1
    return done


async def nothing_left_open(story: Story) -> None:
    """No payment of ours is still processing."""
    for _, player in story.players:
        page: Any = {"next": None}
        while True:
            query = {"before": page["next"]} if page["next"] else {}
            page = await player.client.get("/v1/payments", limit="200", **query)
            waiting = [p["id"] for p in page["data"] if p["status"] == "processing"]
            if waiting:
                raise StoryFailed(f"still processing: {', '.join(waiting)}")
            if page["next"] is None:
                break


async def show_books(story: Story) -> None:
    """The trial balance, then each merchant's balances with the journals behind every figure."""
    async with await AsyncConnection.connect(story.database.audit_dsn) as conn:
        for book_id in story.books:
            story.console.print(trial_balance_table(await read.trial_balance(conn, book_id)))
        for member, _ in story.players:
            owner, name = member.merchant.owner, member.merchant.name
            home = member.merchant.book_id
            story.console.print(await merchant_table(conn, home, owner, name, member.currency))


async def clearing_is_zero(story: Story) -> None:
    """Everything captured is settled and every refund confirmed: the accounts that must return to zero have."""
    async with await AsyncConnection.connect(story.database.audit_dsn) as conn:
        clearing = [
            balance
            for path in (receivable(MERIDIAN), refunds_in_transit(MERIDIAN))
            for book_id in story.books
            for balance in await read.balances(conn, book_id, prefix=path)
        ]
    for balance in clearing:
        if balance.posted:
            raise StoryFailed(
                f"{balance.path} holds {major(balance.posted, balance.currency)} {balance.currency}"
            )
    story.console.print("  [green]✓[/] what the bank owed us and refunds in transit are back at zero")


async def compare_with_bank(story: Story) -> None:
    """The simulator's own file against our books, capture by capture and refund by refund (invariant I8)."""
    bank = reconcile.load_acquirer_book(story.stage.settings.home / "meridian" / "book.jsonl")
    async with await AsyncConnection.connect(story.database.audit_dsn) as conn:
        ours: list[reconcile.Item] = []
        unexplained: list[dict[str, int]] = []
        for book_id in await _books(conn):
            ours += await reconcile.load_our_items(conn, book_id, MERIDIAN)
            unexplained.append(await reconcile.unexplained_receivable(conn, book_id, MERIDIAN))
        left = reconcile.compare(bank, ours)
    if not left.none or any(unexplained):
        raise StoryFailed(f"the bank's book and ours differ: {left} {unexplained}")
    story.console.print(
        f"  [green]✓[/] the bank's own book and ours agree on {len(bank)} captures and refunds"
    )


async def _books(conn: AsyncConnection[Any]) -> list[int]:
    """Every book: earlier stories may have had merchants in others, and the bank's book has them all."""
    cursor = await conn.execute("SELECT book_id FROM ledger.book ORDER BY book_id")
    return [row[0] for row in await cursor.fetchall()]


def agree(console: Console, balances: Sequence[read.Balance], judge: str, found: Figures) -> None:
    """Every account's posted balance is what ``judge`` reads from the export (debit positive); raises if not."""
    for b in balances:
        ours = b.posted if b.type.debit_normal else -b.posted
        theirs = found.get((b.path, b.currency), 0)
        if ours != theirs:
            figures = f"{major(theirs, b.currency)}, ours {major(ours, b.currency)}"
            raise StoryFailed(f"{judge}: {b.path} in {b.currency} is {figures}")
    console.print(f"  [green]✓[/] {judge} agrees with the balance of every one of {len(balances)} accounts")
