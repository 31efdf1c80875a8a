"""The worker shows a log's checkpoints to a witness, and what it adds is served with them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from khata.config import Witness as Known
from khata.cosigning import Cosigning
from khata.witness.judge import Witness
from khata.witness.memory import opened
from khata.witness.server import WitnessApp
from ledger import model as m
from ledger.log.note import Note, Verifier
from tests.api.conftest import Api, api, serving

__all__ = ["api"]
NAME = "witness.test/w1"


async def witnessed(stack: AsyncExitStack, folder: Path, key: Verifier) -> Known:
    """A witness of that log on a socket, for as long as the stack stands."""
    cosigner, memory = stack.enter_context(opened(folder, NAME, lambda n: b"w" * n))
    app = WitnessApp(Witness(cosigner, memory, [key], lambda: datetime.now(UTC)))
    return Known(vkey=cosigner.verifier.vkey, url=await stack.enter_async_context(serving(app)))


async def grow(api: Api, *names: str) -> None:
    await api.open(*(m.NewAccount(f"Assets:{name}", "INR") for name in names))
    await api.seal()


async def signed_by(api: Api, *keys: Verifier) -> list[str]:
    note: Any = (await api.http.get("/v1/log/checkpoint")).content
    return [key.name for key in Note.parse(note).signed_by(keys)]


async def test_each_checkpoint_is_cosigned_also_after_an_answer_was_lost(api: Api, tmp_path: Path) -> None:
    await grow(api, "Cash", "Bank")
    listed = (await api.http.get("/v1/log/keys")).json()["data"]
    log_key = Verifier.parse(listed[0]["vkey"])
    async with AsyncExitStack() as stack:
        known = await witnessed(stack, tmp_path, log_key)
        cosigning = Cosigning.of(api.deps.gateway, [known])
        assert await signed_by(api, log_key, known.verifier) == [log_key.name]
        assert await cosigning.show_all() == 1
        assert await signed_by(api, log_key, known.verifier) == [log_key.name, NAME]
        await grow(api, "Safe", "Till", "Drawer")
        assert await cosigning.show_all() == 1
        assert await signed_by(api, log_key, known.verifier) == [log_key.name, NAME]
        # The log forgets what it was told, as if the answers had been lost: it asks again, and learns the size.
        async with await psycopg.AsyncConnection.connect(api.database.admin_dsn) as admin:
            await admin.execute("SET session_replication_role = replica")
            await admin.execute("DELETE FROM ledger.cosignature")
        await grow(api, "Vault")
        assert await cosigning.show_all() >= 1
        assert await signed_by(api, log_key, known.verifier) == [log_key.name, NAME]
