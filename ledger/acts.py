"""What people did to the books, one act after the other: the audit log (migrations, ``ledger.record_act``).

The database records an act in the transaction that does the deed; nothing here writes one. A person is an opaque
text: the id of an OAuth client, the name of who is logged in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from ledger.errors import InvalidEntry

_PERSON = re.compile(r"[!-~]{1,64}")
LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Act:
    """``subject``: what it was done to, a path, an id or a day. ``detail``: what else the deed says of itself."""

    act: int
    recorded_at: datetime
    person: str
    action: str
    subject: str
    reason: str
    detail: Mapping[str, Any]
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class By:
    """Who does something to the books, why and when. Raises ``InvalidEntry``."""

    person: str
    reason: str
    now: datetime

    def __post_init__(self) -> None:
        check_person(self.person)
        if not self.reason.strip():
            raise InvalidEntry("reason", "say why")
        if len(self.reason) > LONGEST_REASON or not self.reason.isprintable():
            raise InvalidEntry("reason", f"at most {LONGEST_REASON} printable characters")


def check_person(person: str) -> None:
    """Raise ``InvalidEntry`` unless it is 1 to 64 printable ASCII characters without spaces."""
    if not _PERSON.fullmatch(person):
        raise InvalidEntry("person", "1 to 64 printable ASCII characters without spaces")


_ACTS = """
SELECT act, recorded_at, person, action, subject, reason, detail, leaf_hash FROM ledger.act
 WHERE book_id = %(book)s AND act < coalesce(%(before)s, 9223372036854775807)"""


async def acts(
    conn: AsyncConnection[Any],
    book_id: int,
    *,
    before: int | None = None,
    limit: int = 100,
    person: str | None = None,
    subject: str | None = None,
) -> list[Act]:
    """The newest acts first, numbered below ``before``; only ``person``'s, only those about ``subject``."""
    given = {"book": book_id, "before": before, "limit": limit, "person": person, "subject": subject}
    sql = _ACTS + "".join(
        f" AND {name} = %({name})s" for name in ("person", "subject") if given[name] is not None
    )
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute((sql + " ORDER BY act DESC LIMIT %(limit)s").encode(), given)
        return [Act(**{**row, "detail": orjson.loads(row["detail"])}) for row in await cursor.fetchall()]
