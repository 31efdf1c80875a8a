"""Transfers between books on the parts that a gateway stands on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from psycopg import AsyncConnection

from gateway.core import Gateway, driver
from ledger.transfers import Transfers


def between_books(gw: Gateway) -> Transfers:
    return Transfers(gw.writers, partial(_session, gw), gw.ids, gw.clock)


@asynccontextmanager
async def _session(gw: Gateway) -> AsyncGenerator[AsyncConnection[Any]]:
    async with gw.engine.begin() as conn:
        yield await driver(conn)
