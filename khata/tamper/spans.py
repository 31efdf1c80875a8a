"""Rollups of a small book: their spans are made small, so that it has several levels of them."""

from __future__ import annotations

from typing import LiteralString

from psycopg import AsyncConnection

_RETURN: LiteralString = "() RETURNS integer LANGUAGE sql IMMUTABLE RETURN "


async def small_spans(owner_dsn: str) -> None:
    """In this database, which must have no rollup yet: 2 journals a span, 3 spans to one of the next level."""
    async with await AsyncConnection.connect(owner_dsn) as owner:
        await owner.execute("CREATE OR REPLACE FUNCTION ledger.span_journals" + _RETURN + "2")
        await owner.execute("CREATE OR REPLACE FUNCTION ledger.span_fan" + _RETURN + "3")
