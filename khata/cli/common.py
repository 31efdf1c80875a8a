"""What the commands share: the console, JSON output, a database to talk to."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

import orjson
import psycopg
import rich_click as click
from psycopg import AsyncConnection
from rich.console import Console

from api.errors import ApiError
from banks.errors import BanksError
from gateway.errors import GatewayError
from khata.bootstrap import open_database
from khata.cli.access import record_use
from khata.config import Settings
from khata.database import Database
from khata.errors import DatabaseUnavailable, KhataError, SystemRefused, ValueRefused
from ledger.books import find_book
from ledger.errors import InvalidEntry, LedgerError

T = TypeVar("T")

# psycopg.Error: also what the database says to numbers, days and names that no column of it holds.
EXPECTED = (KhataError, LedgerError, BanksError, GatewayError, ApiError, psycopg.Error, OSError)

# Account paths look like emoji codes to rich (`:Bank:`); what is piped into a file is not cut to 80 columns.
WIDTH = None if sys.stdout.isatty() else 160
console = Console(emoji=False, highlight=False, width=WIDTH)
stderr = Console(stderr=True, emoji=False, highlight=False)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
book_option = click.option("--book", default=None, help="The book's name (default: KHATA_BOOK, else main).")


class BookMissing(KhataError):
    """There is no book of that name."""

    code = "book_missing"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no book {name!r}; `khata up` makes the default one, `khata books open NAME` any other"
        )


def explain(error: BaseException) -> None:
    """One line: the stable code, then what is wrong."""
    error = typed(error)
    code = getattr(error, "code", type(error).__name__)
    stderr.print(f"[bold red]error[/] [bold]{code}[/]: ", end="")
    said = str(error).strip().removeprefix(f"{code}: ")  # a refusal's own words begin with its code
    stderr.print(said, markup=False, highlight=False)


def typed(error: BaseException) -> BaseException:
    """What the driver or the operating system raised, as an error of ours, with a code; others as they are."""
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return DatabaseUnavailable("; ".join(str(error).strip().splitlines()))
    if isinstance(error, psycopg.Error):
        return ValueRefused(error.sqlstate, error.diag.message_primary or str(error).strip())
    return SystemRefused(str(error)) if isinstance(error, OSError) else error


def check_book_name(name: str) -> str:
    """The name, as the database takes it. Raises ``InvalidEntry``."""
    if not re.fullmatch("[a-z][a-z0-9-]{0,39}", name):
        words = "a book's name is a lower-case letter, then at most 39 lower-case letters, digits and dashes"
        raise InvalidEntry("book", f"{name!r}: {words}, as in main or shop-2")
    return name


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine."""
    return asyncio.run(main)


def print_json(value: Any) -> None:
    """One JSON document on standard output; dataclasses become objects, bytes become hex."""
    sys.stdout.buffer.write(orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(type(value).__name__)


def with_database(use: Callable[[Database], Awaitable[T]]) -> T:
    """Run ``use`` with the prepared database; the embedded server is started (and stopped) when none runs."""
    with open_database(Settings()) as (database, _):
        return asyncio.run(_await(use(database)))


async def _await(waiting: Awaitable[T]) -> T:
    return await waiting


@asynccontextmanager
async def reading(database: Database, book: str | None) -> AsyncGenerator[tuple[AsyncConnection[Any], int]]:
    """A read-only connection as ``khata_audit`` and the id of the book. Raises ``BookMissing``.

    That the command is used stands in the access log before.
    """
    name = book or Settings().book
    await record_use(database, book=name)
    async with await AsyncConnection.connect(database.audit_dsn) as conn:
        await conn.set_read_only(True)
        book_id = await find_book(conn, name)
        if book_id is None:
            raise BookMissing(name)
        yield conn, book_id
