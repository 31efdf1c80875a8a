"""khata books freeze, unfreeze, close-account, floor, limit, history: what an account may do, and who said so."""

from __future__ import annotations

from typing import Any

import psycopg
import rich_click as click
from rich.table import Table
from rich.text import Text

from khata.cli.common import book_option, console, json_option, print_json, reading, with_database
from khata.cli.people import act_on, as_option, reason_option
from khata.clock import utc_now
from khata.database import Database
from ledger.acts import By
from ledger.books import AccountFact, account_history, change_account
from ledger.errors import AccountUnknown
from ledger.limits import (
    MAX_LIMIT,
    LimitFact,
    LimitTerms,
    LimitUse,
    Measure,
    Side,
    Window,
    limit_history,
    limits_in_force,
    set_limit,
)
from ledger.model import AccountStatus

History = tuple[list[AccountFact], list[LimitFact], list[LimitUse]]
path_argument = click.argument("path")
currency_argument = click.argument("currency")


def _change(path: str, currency: str, book: str | None, person: str | None, reason: str, **what: Any) -> None:
    async def act(conn: psycopg.AsyncConnection[Any], book_id: int, by: By) -> None:
        await change_account(
            conn, book_id, path, currency, now=by.now, reason=by.reason, person=by.person, **what
        )

    act_on(book, person, reason, act)


def _status_command(name: str, status: AccountStatus, words: str) -> click.Command:
    @click.command(name, help=words)
    @path_argument
    @currency_argument
    @reason_option
    @as_option
    @book_option
    def run(path: str, currency: str, reason: str, person: str | None, book: str | None) -> None:
        _change(path, currency, book, person, reason, status=status)
        console.print(f"{status}: [bold]{path}[/] {currency}")

    return run


freeze = _status_command(
    "freeze",
    AccountStatus.FROZEN,
    "Freeze an account: nothing moves on it but holds that are given back.\n\n"
    "Example: `khata books freeze Liabilities:Customer:c1:Wallet INR --reason 'court order 17'`",
)
unfreeze = _status_command("unfreeze", AccountStatus.OPEN, "Open a frozen account again.")
close_account = _status_command("close-account", AccountStatus.CLOSED, "Close an empty account, for good.")


@click.command("floor")
@path_argument
@currency_argument
@click.argument("floor")
@reason_option
@as_option
@book_option
def floor(path: str, currency: str, floor: str, reason: str, person: str | None, book: str | None) -> None:
    """Set the lowest available, in minor units; `none`: no floor. For a credit line of 500.00: `-- -50000`.

    Example: `khata books floor --reason 'credit line' Liabilities:Customer:c1:Wallet INR -- -50000`
    """
    try:
        value = None if floor == "none" else int(floor)
    except ValueError:
        raise click.BadParameter(f"{floor} is neither an integer nor none", param_hint="FLOOR") from None
    _change(path, currency, book, person, reason, floor=value)
    console.print(f"floor {floor}: [bold]{path}[/] {currency}")


@click.command("limit")
@path_argument
@currency_argument
@click.argument("name")
@click.option("--side", type=click.Choice([s.value for s in Side]), required=True)
@click.option("--measure", type=click.Choice([x.value for x in Measure]), default="sum", show_default=True)
@click.option("--window", type=click.Choice([w.value for w in Window]), default="day", show_default=True)
@click.option("--maximum", type=click.IntRange(0, MAX_LIMIT), required=True, help="Minor units, or lines.")
@click.option("--off", is_flag=True, help="Switch it off: it neither bounds nor counts.")
@reason_option
@as_option
@book_option
def limit(
    path: str,
    currency: str,
    name: str,
    side: str,
    measure: str,
    window: str,
    maximum: int,
    off: bool,
    reason: str,
    person: str | None,
    book: str | None,
) -> None:
    """Bound the posted debits or credits of an account within each calendar window (UTC).

    Example: `khata books limit Liabilities:Customer:c1:Wallet INR daily --side debit --maximum 1000000 --reason KYC`
    """
    terms = LimitTerms(name, Side(side), Measure(measure), maximum, Window(window), active=not off)

    async def act(conn: psycopg.AsyncConnection[Any], book_id: int, by: By) -> None:
        await set_limit(conn, book_id, path, currency, terms, now=by.now, reason=by.reason, person=by.person)

    act_on(book, person, reason, act)
    state = "off" if off else f"at most {maximum} a {window}"
    console.print(f"limit {name} ({measure} of {side}s): {state}: [bold]{path}[/] {currency}")


@click.command("history")
@path_argument
@currency_argument
@book_option
@json_option
def history(path: str, currency: str, book: str | None, as_json: bool) -> None:
    """Floors, statuses and velocity limits of an account: what, who, why, from which journal on; and what is used."""

    async def work(database: Database) -> History:
        async with reading(database, book) as (conn, book_id):
            facts = await account_history(conn, book_id, path, currency)
            limits = await limit_history(conn, book_id, path, currency)
            used = await limits_in_force(conn, book_id, path, currency, now=utc_now())
            if facts is None or limits is None or used is None:
                raise AccountUnknown(path, currency)
            return facts, limits, used

    facts, limits, used = with_database(work)
    if as_json:
        print_json({"changes": facts, "limits": limits, "in_force": used})
        return
    console.print(_facts_table(facts))
    if limits:
        console.print(_limits_table(limits))
        console.print(_use_table(used))


def _facts_table(facts: list[AccountFact]) -> Table:
    table = Table("after", "floor", "status", "person", "reason", "recorded at")
    for f in facts:
        said = ("none" if f.floor is None else str(f.floor), f.status, Text(f.person or ""), Text(f.reason))
        table.add_row(str(f.after_seq), *said, str(f.recorded_at))
    return table


def _limits_table(limits: list[LimitFact]) -> Table:
    table = Table("limit", "after", "at most", "of", "person", "reason", "recorded at")
    for x in limits:
        bound = str(x.maximum) if x.active else "off"
        of = f"{x.measure} of {x.side}s a {x.window}"
        table.add_row(x.name, str(x.after_seq), bound, of, Text(x.person), Text(x.reason), str(x.recorded_at))
    return table


def _use_table(used: list[LimitUse]) -> Table:
    table = Table("limit", "window from", "used", "left")
    for x in used:
        table.add_row(x.name, str(x.window_start), str(x.used), str(x.left))
    return table


COMMANDS = (freeze, unfreeze, close_account, floor, limit, history)
