"""khata books journals: search, newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import rich_click as click
from rich.table import Column, Table

from khata.cli.common import book_option, console, json_option, print_json, reading, with_database
from khata.cli.money import major
from khata.database import Database
from ledger.model import check_amount, check_currency
from ledger.read import JournalView
from ledger.search import Amount, Query, search

_DAY = click.DateTime(["%Y-%m-%d"])


class AmountParam(click.ParamType[Amount]):
    """``125000INR``: minor units of a currency."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Amount:
        if isinstance(value, Amount):
            return value
        digits, currency = value[:-3], value[-3:]
        if not (digits.isascii() and digits.isdigit()):
            self.fail(f"{value} is not minor units and a currency, such as 125000INR", param, ctx)
        check_amount(int(digits))
        check_currency(currency)
        return Amount(int(digits), currency)


class PairParam(click.ParamType[tuple[str, str]]):
    """``key=value``."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        key, equals, rest = value.partition("=")
        if not equals:
            self.fail(f"{value} is not key=value", param, ctx)
        return key, rest


class InstantParam(click.ParamType[datetime]):
    """RFC 3339; without an offset it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            at = datetime.fromisoformat(value)
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value} is not a time such as 2026-11-22T09:30:00Z", param, ctx)


@click.command("journals")
@click.option("--kind", help="Only this kind, e.g. capture.")
@click.option("--source-type", help="Only of this type of source, e.g. operation.")
@click.option("--source-id", help="Only of this source.")
@click.option("--source-event", help="Only of this event, e.g. approved.")
@click.option("--account", help="Only what touches this account.")
@click.option("--owner", help="Only what touches an account of this owner.")
@click.option("--amount", type=AmountParam(), help="Only with a posting of so much, minor units: 125000INR.")
@click.option("--metadata", type=PairParam(), multiple=True, help="Only with this pair; may come again.")
@click.option("--effective-from", type=_DAY, help="Only what counts from this day (UTC) or later.")
@click.option("--effective-to", type=_DAY, help="Only what counts from this day (UTC) or earlier.")
@click.option("--recorded-from", type=InstantParam(), help="Only what was recorded then or later.")
@click.option("--recorded-to", type=InstantParam(), help="Only what was recorded then or earlier.")
@click.option("--before", type=int, default=None, help="Begin before this journal number.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, help="Journals at most.")
@book_option
@json_option
def journals(
    owner: str | None,
    amount: Amount | None,
    metadata: tuple[tuple[str, str], ...],
    effective_from: datetime | None,
    effective_to: datetime | None,
    before: int | None,
    limit: int,
    book: str | None,
    as_json: bool,
    **same: Any,
) -> None:
    """Journals that fit everything given, the newest first.

    Example: `khata books journals --kind capture --metadata payment_id=pay_01kb… --effective-from 2026-11-01`
    """
    query = Query(
        amount=amount,
        metadata=dict(metadata),
        effective_from=effective_from and effective_from.date(),
        effective_to=effective_to and effective_to.date(),
        **same,
    )

    async def work(database: Database) -> tuple[JournalView, ...]:
        async with reading(database, book) as (conn, book_id):
            return (await search(conn, book_id, query, before_seq=before, limit=limit, owner=owner)).journals

    found = with_database(work)
    print_json(found) if as_json else console.print(_table(found))


def _table(found: tuple[JournalView, ...]) -> Table:
    table = Table(
        *(Column("seq", justify="right"), "date", "kind", "debit", "credit"),
        *(Column("amount", justify="right"), "currency", "layer"),
    )
    for j in found:
        for n, p in enumerate(j.postings):
            head = (str(j.seq), f"{j.effective_at:%Y-%m-%d}", j.kind) if n == 0 else ("", "", "")
            table.add_row(*head, p.debit, p.credit, major(p.amount, p.currency), p.currency, p.layer)
    return table
