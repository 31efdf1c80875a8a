"""Showing checkpoints to a witness that answers badly or not at all (a good one: tests/witness)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg import AsyncConnection
from pydantic import ValidationError

from khata.config import Witness
from khata.cosigning import MOST_CHECKPOINTS, PAUSE, Cosigning
from ledger.log.note import Note, Type, Verifier, cosigned, signature_line
from tests.ledger.words import NOW, WALLET, Book, fund
from tests.log.conftest import SIGNER, seal_all

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
KEY = Verifier("witness.test/w", PRIVATE.public_key().public_bytes_raw(), Type.COSIGNATURE)
AT = 1_800_000_000

Answer = Callable[[str], tuple[int, str]]


def line(body: str, *, name: str = KEY.name, text: str | None = None) -> str:
    """The witness's signature of the checkpoint in a request, or of another text."""
    note = Note.parse(body.split("\n\n", 1)[1])
    signature = AT.to_bytes(8) + PRIVATE.sign(cosigned(text or note.text, AT))
    return signature_line(name, KEY.key_id, signature)


class Scene:
    """A witness that answers as it is told, and the worker's view of it."""

    def __init__(self, book: Book, url: str, asked: list[str], script: list[Answer]) -> None:
        self.book, self.asked, self.script = book, asked, script
        self.now = NOW

        @asynccontextmanager
        async def connect() -> AsyncGenerator[AsyncConnection[Any]]:
            async with await AsyncConnection.connect(book.database.app_dsn) as conn:
                yield conn

        def clock() -> datetime:
            return self.now

        self.worker = Cosigning(connect, [Witness(vkey=KEY.vkey, url=url)], clock)

    async def kept(self) -> list[int]:
        cursor = await self.book.conn.execute("SELECT size FROM ledger.cosignature ORDER BY size")
        found = [size for (size,) in await cursor.fetchall()]
        await self.book.conn.rollback()
        return found

    async def grow(self) -> None:
        await self.book.ok(fund(WALLET, 5))
        await seal_all(self.book)


@pytest.fixture
async def scene(book: Book) -> AsyncGenerator[Scene]:
    asked: list[str] = []
    script: list[Answer] = []

    async def add(request: web.Request) -> web.Response:
        asked.append(await request.text())
        status, body = (script.pop(0) if script else good)(asked[-1])
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_post("/add-checkpoint", add)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    await seal_all(book)
    try:
        yield Scene(book, f"http://127.0.0.1:{runner.addresses[0][1]}/", asked, script)
    finally:
        await runner.cleanup()


def good(body: str) -> tuple[int, str]:
    return 200, line(body)


def says(status: int, words: str) -> Answer:
    def answer(body: str) -> tuple[int, str]:
        del body
        return status, words

    return answer


def as_somebody_else(body: str) -> tuple[int, str]:
    return 200, line(body, name="somebody.else/w")


def of_another_log(body: str) -> tuple[int, str]:
    return 200, line(body, text="other.log\n10\nAAAA\n")


async def test_each_checkpoint_is_shown_in_order_with_its_proof(scene: Scene) -> None:
    await scene.grow()
    await scene.grow()
    assert await scene.worker.show_all() == 3
    assert await scene.kept() == [10, 11, 12]
    assert [body.split("\n", 1)[0] for body in scene.asked] == ["old 0", "old 10", "old 11"]
    assert scene.asked[0].startswith(f"old 0\n\n{SIGNER.name}\n10\n")
    assert await scene.worker.show_all() == 0
    cursor = await scene.book.conn.execute("SELECT witness, line FROM ledger.cosignature WHERE size = 12")
    assert await cursor.fetchall() == [(KEY.vkey, line(scene.asked[2]).rstrip("\n"))]


async def test_a_witness_that_is_new_sees_the_last_checkpoints_only(scene: Scene) -> None:
    for _ in range(MOST_CHECKPOINTS + 3):
        await scene.grow()
    assert await scene.worker.show_all() == MOST_CHECKPOINTS
    assert len(await scene.kept()) == MOST_CHECKPOINTS


@pytest.mark.parametrize(
    "answer",
    [
        says(404, "unknown log"),
        says(403, "not signed"),
        says(422, "no proof"),
        says(409, "9999\n"),  # it signed a tree that we do not have
        says(409, "words"),
        says(500, ""),
        says(200, ""),
        says(200, "no signature line\n"),
        as_somebody_else,
        of_another_log,
    ],
)
async def test_what_is_no_cosignature_is_not_kept_and_asked_for_again_after_a_pause(
    scene: Scene, answer: Answer
) -> None:
    scene.script.append(answer)
    assert await scene.worker.show_all() == 0
    assert await scene.kept() == []
    asked = len(scene.asked)
    assert await scene.worker.show_all() == 0  # left alone for a while
    assert len(scene.asked) == asked
    scene.now += PAUSE + timedelta(seconds=1)
    assert await scene.worker.show_all() == 1
    assert await scene.kept() == [10]


async def test_who_knows_a_later_checkpoint_of_ours_is_asked_from_there(scene: Scene) -> None:
    await scene.grow()
    await scene.grow()
    await scene.grow()
    scene.script += [says(409, "12\n")]
    assert await scene.worker.show_all() == 2
    assert await scene.kept() == [12, 13]
    assert [body.split("\n", 1)[0] for body in scene.asked] == ["old 0", "old 12", "old 12"]


async def test_nobody_there_is_no_failure_of_the_worker(scene: Scene) -> None:
    scene.worker.witnesses = [Witness(vkey=KEY.vkey, url="http://127.0.0.1:1/")]
    assert await scene.worker.show_all() == 0
    assert scene.worker.paused == {KEY.vkey: NOW + PAUSE}
    scene.worker.witnesses = []
    assert await scene.worker.show_all() == 0


def test_only_keys_of_witnesses_are_taken() -> None:
    for vkey in ("words", SIGNER.verifier.vkey):
        with pytest.raises(ValidationError):
            Witness(vkey=vkey, url="http://127.0.0.1:1/")
