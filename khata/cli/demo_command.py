"""khata demo"""

from __future__ import annotations

import asyncio

import rich_click as click
from psycopg import AsyncConnection

from khata import judges
from khata.audit import audit_database
from khata.bootstrap import open_database
from khata.cli.audit_command import audit_table
from khata.cli.common import console
from khata.clock import utc_now
from khata.config import Settings
from khata.database import Database
from khata.demo import StoryFailed, acts
from khata.logs import configure_logs
from khata.packing import Wanted, export_pack, proved
from khata.sealing import Sealer
from khata.stage import alone, placed, run_stage
from khata.wiring import api_secrets, open_gateway
from ledger import read
from ledger.export import export_journal

# A bank that stays silent is given up on, and asked again, within seconds.
PATIENCE = {
    "acquirer_timeout_s": 1.5,
    "lease_s": 6.0,
    "recovery_backoff_s": (1.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0),
}
LATE_MS = 3000


@click.command()
@click.option("--seed", type=int, default=20261122, help="Draws amounts and choices.")
def command(seed: int) -> None:
    """Tell the scripted story on real processes and sockets, show that the books are right, and exit 0.

    Over 200 payments of three merchants in INR, JPY and KWD: declines, time-outs, captures in parts, voids, expiry,
    refunds, settlement, funds; then the trial balance, every balance explained, hledger, ledger and beancount agreeing
    with every account, the bank's own book compared, the audit, an audit pack proved. The data stays; run it again for
    more.
    """
    configure_logs("ERROR")
    given = Settings()
    with alone(given.home), open_database(given) as (database, _):
        asyncio.run(_tell(placed(given, **PATIENCE), database, seed))


async def _tell(settings: Settings, database: Database, seed: int) -> None:
    async with run_stage(settings, late_ms=LATE_MS) as stage, open_gateway(settings, database) as gw:
        story = acts.Story(stage, database, gw, console, seed)
        async with acts.cast(story):
            console.rule("1. Payments: customers pay, the bank answers, declines, delays or forgets")
            count = await acts.play(story)
            console.print(f"  {count} payments over HTTP")
            console.rule("2. Settlement: the bank's files, each imported twice")
            await acts.settle(story)
            await acts.nothing_left_open(story)
            console.rule("3. Funds become payable; refunds after that come out of them")
            console.print(f"  {await acts.pay_out_funds(story)} captures' funds released")
            console.print(f"  {await acts.refund_after_settlement(story)} refunds")
            await acts.settle(story)
            console.rule("4. The books")
            await acts.show_books(story)
            console.rule("5. The proof")
            await acts.compare_with_bank(story)
            await acts.clearing_is_zero(story)
    await _prove(settings, database, story)


async def _prove(settings: Settings, database: Database, story: acts.Story) -> None:
    """Other people's programs and our own audit, on the books as they stand."""
    async with await AsyncConnection.connect(database.audit_dsn) as conn:
        for book_id in story.books:
            balances = await read.balances(conn, book_id)
            for name, judge in judges.JUDGES.items():
                path = settings.home / f"demo-{book_id}.{name}"
                with path.open("wb") as file:
                    async for chunk in export_journal(conn, book_id, name):
                        file.write(chunk)
                try:
                    acts.agree(console, balances, name, judge(path))
                except judges.JudgeMissing as missing:
                    console.print(f"  [yellow]not shown[/]: {missing}")
    audits = await audit_database(database)
    for audit in audits:
        console.print(audit_table(audit))
    if not all(audit.clean for audit in audits):
        raise StoryFailed("the audit has findings; `khata audit` names them")
    sealer = Sealer(settings.log_origin, api_secrets(settings))
    for book_id in story.books:
        wanted = Wanted(settings.home / f"demo-{book_id}.zip", formats=())
        written = await export_pack(database, sealer, book_id, wanted, now=utc_now())
        proved(wanted.out)
        console.print(
            f"  [green]✓[/] the stand-alone verifier proves {wanted.out.name}, book {written.book}:"
        )
        console.print(f"    {written.to_index} leaves, root {written.root.hex()}")
    console.print("[bold green]The books are right.[/]")
