"""Who uses a command on the books stands in the access log, as who calls the API does."""

from __future__ import annotations

import getpass
import re

import rich_click as click
from click.core import ParameterSource
from psycopg import AsyncConnection

from api.access import Access, write
from khata.clock import utc_now
from khata.database import Database
from ledger.ids import Ids

_new_id = Ids(utc_now)
_PERSON = re.compile(r"[!-~]{1,64}")
_LOCAL = "local"


async def record_use(database: Database, *, book: str | None = None, subject: str = "") -> None:
    """Write down, before anything is shown, that the user of the operating system runs this command."""
    route, asked = _command()
    entry = Access(
        entry_id=_new_id(),
        at=utc_now(),
        person=_user(),
        address=_LOCAL,
        method="CLI",
        route=route,
        outcome="admitted",
        subject=subject,
        asked=asked,
        book=book,
    )
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        await write(conn, [entry])


def _command() -> tuple[str, list[str]]:
    """The command's name, and which of its options were given."""
    context = click.get_current_context(silent=True)
    asked = [
        name
        for name in (context.params if context else ())
        if context and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    names: list[str] = []
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name or "")
        context = context.parent
    return " ".join(("khata", *names)), sorted(asked)


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    return name if _PERSON.fullmatch(name) else "unknown"
