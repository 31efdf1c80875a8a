"""Shows the logs' checkpoints to witnesses (c2sp.org/tlog-witness) and keeps what they sign.

Nothing is held in the database while a witness thinks: what to show is read in one transaction, what came back is
written in another.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import structlog
from psycopg import AsyncConnection

from gateway.core import Gateway, driver
from khata.config import Witness
from khata.errors import KhataError
from ledger.log import proofs
from ledger.log.note import Note, NoteMalformed, parse_lines

log = structlog.get_logger()

MOST_CHECKPOINTS = 20  # shown to one witness at a time, the last ones of a book
TIMEOUT_S = 5.0
PAUSE = timedelta(seconds=30)  # for a witness that failed
_MOST_ANSWER_BYTES = 100_000

_PENDING = """
SELECT pending.size, note, last.size FROM (
  SELECT c.size, c.note FROM ledger.checkpoint c
   WHERE c.book_id = %(book)s AND c.size > coalesce((
         SELECT max(size) FROM ledger.cosignature WHERE book_id = %(book)s AND witness = %(witness)s), 0)
   ORDER BY c.size DESC LIMIT %(most)s) AS pending,
  LATERAL (SELECT coalesce(max(size), 0) AS size FROM ledger.cosignature
            WHERE book_id = %(book)s AND witness = %(witness)s) AS last
 ORDER BY pending.size"""
_BOOKS = "SELECT book_id FROM ledger.book ORDER BY book_id"


class WitnessRefused(KhataError):
    """A witness did not sign; ``size``: of the last checkpoint it knows, if that is why."""

    code = "witness_refused"

    def __init__(self, status: int, words: str, size: int | None = None) -> None:
        super().__init__(f"{status}: {words}")
        self.size = size


Connect = Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]


@dataclass
class Cosigning:
    """Remembers which witnesses are to be left alone for a while."""

    connect: Connect
    witnesses: Sequence[Witness]
    clock: Callable[[], datetime]
    paused: dict[str, datetime] = field(default_factory=dict[str, datetime])

    @classmethod
    def of(cls, gw: Gateway, witnesses: Sequence[Witness]) -> Cosigning:
        @asynccontextmanager
        async def connect() -> AsyncGenerator[AsyncConnection[Any]]:
            async with gw.engine.begin() as conn:
                yield await driver(conn)

        return cls(connect, witnesses, gw.clock)

    async def show_all(self) -> int:
        """Show every witness what it has not signed, of every book; how many cosignatures came back."""
        if not self.witnesses:
            return 0
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            return sum(await asyncio.gather(*(self._show_books(http, each) for each in self.witnesses)))

    async def _show_books(self, http: aiohttp.ClientSession, witness: Witness) -> int:
        now = self.clock()
        if now < self.paused.get(witness.vkey, now):
            return 0
        async with self.connect() as conn:
            books = [book_id for (book_id,) in await (await conn.execute(_BOOKS)).fetchall()]
        signed = 0
        for book_id in books:
            try:
                signed += await self._show_book(http, witness, book_id)
            except (aiohttp.ClientError, TimeoutError, NoteMalformed) as error:
                # Nobody there: its other books would wait for it as long.
                self.paused[witness.vkey] = now + PAUSE
                log.warning("witness_away", witness=witness.url, error=str(error) or type(error).__name__)
                break
            except WitnessRefused as error:
                self.paused[witness.vkey] = now + PAUSE
                log.error("witness_refused", witness=witness.url, book=book_id, error=str(error))
        return signed

    async def _show_book(self, http: aiohttp.ClientSession, witness: Witness, book_id: int) -> int:
        given = {"book": book_id, "witness": witness.vkey, "most": MOST_CHECKPOINTS}
        async with self.connect() as conn:
            pending = await (await conn.execute(_PENDING, given)).fetchall()
        signed = 0
        old = pending[0][2] if pending else 0
        for size, note, _ in pending:
            if size < old:
                continue
            try:
                await self._show(http, witness, book_id, old, size, note)
            except WitnessRefused as error:
                # Its answers did not reach us, or somebody else showed it a later one: one of ours, though.
                if error.size is None or not old < error.size <= pending[-1][0]:
                    raise
                old = error.size
                if size < old:
                    continue
                await self._show(http, witness, book_id, old, size, note)
            old = size
            signed += 1
        return signed

    async def _show(
        self, http: aiohttp.ClientSession, witness: Witness, book_id: int, old: int, size: int, note: str
    ) -> None:
        async with self.connect() as conn:
            proof = await proofs.consistency(conn, book_id, old, size)
        line = await add_checkpoint(http, witness, old, proof, note)
        async with self.connect() as conn:
            await conn.execute(
                "SELECT ledger.add_cosignature(%s, %s, %s, %s)", [book_id, size, witness.vkey, line]
            )


async def add_checkpoint(
    http: aiohttp.ClientSession, witness: Witness, old: int, proof: Sequence[bytes], note: str
) -> str:
    """The witness's signature line for a signed note, verified, without its newline.

    Raises ``WitnessRefused``, ``NoteMalformed``, ``aiohttp.ClientError`` and ``TimeoutError``.
    """
    hashes = "".join(f"{base64.b64encode(each).decode()}\n" for each in proof)
    request = http.post(
        f"{witness.url.rstrip('/')}/add-checkpoint", data=f"old {old}\n{hashes}\n{note}".encode()
    )
    async with request as answer:
        body = (await answer.content.read(_MOST_ANSWER_BYTES)).decode(errors="replace")
        if answer.status == 409 and body.strip().isdecimal():
            raise WitnessRefused(409, f"it knows size {body.strip()}, not {old}", int(body))
        if answer.status != 200:
            raise WitnessRefused(answer.status, body[:200])
    verifier, text = witness.verifier, Note.parse(note).text
    for line, signature in zip(body.splitlines(), parse_lines(body), strict=True):
        if (signature.name, signature.key_id) == (verifier.name, verifier.key_id):
            if not verifier.verifies(text, signature.value):
                raise WitnessRefused(200, "its signature does not fit")
            return line
    raise WitnessRefused(200, "it signed with another key")
