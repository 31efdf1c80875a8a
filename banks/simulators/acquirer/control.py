"""The control port: HTTP on this machine only, for tests, demos and people with curl."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from typing import Any

from aiohttp import web

from banks.simulators.acquirer.book import Book, Entry
from banks.simulators.acquirer.server import Acquirer
from banks.simulators.acquirer.settlement import Cut, Settlement


class Control:
    """The routes; each says in its docstring what it takes and gives."""

    def __init__(self, acquirer: Acquirer, book: Book, settlement: Settlement) -> None:
        self._acquirer, self._book, self._settlement = acquirer, book, settlement

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024)
        app.router.add_get("/health", self.health)
        app.router.add_get("/book", self.book)
        app.router.add_post("/settings", self.change_settings)
        app.router.add_post("/drop-connections", self.drop_connections)
        app.router.add_post("/settlement", self.cut)
        app.router.add_get("/settlement/{file_id}", self.file)
        return app

    async def health(self, request: web.Request) -> web.Response:
        """Connections, settings and the size of the book."""
        facts = {
            "connections": self._acquirer.connections,
            "entries": len(self._book.entries),
            "settings": asdict(self._acquirer.settings),
        }
        return web.json_response(facts)

    async def book(self, request: web.Request) -> web.Response:
        """Every entry, the authorizations that are open, and the files that were cut."""
        facts = {
            "entries": [asdict(entry) for entry in self._book.entries],
            "open": [self._open(entry) for entry in self._book.open_authorizations()],
            "files": [asdict(batch) for batch in self._book.batches.values()],
        }
        return web.json_response(facts)

    async def change_settings(self, request: web.Request) -> web.Response:
        """Takes a JSON object of settings to change; gives all of them."""
        try:
            values = json.loads(await request.text())
            self._acquirer.settings = self._acquirer.settings.changed(**values)
        except (ValueError, TypeError) as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        return web.json_response(asdict(self._acquirer.settings))

    async def drop_connections(self, request: web.Request) -> web.Response:
        """Resets every client's connection; gives their number."""
        return web.json_response({"dropped": self._acquirer.drop_connections()})

    async def cut(self, request: web.Request) -> web.Response:
        """Takes ``?date=YYYY-MM-DD`` (default today); gives the files of that date, cut now if need be."""
        now = self._acquirer.clock()
        try:
            on = date.fromisoformat(request.query.get("date", now.date().isoformat()))
        except ValueError:
            raise web.HTTPBadRequest(text="date: not a date such as 2026-11-22\n") from None
        return web.json_response({"files": [_shown(cut) for cut in self._settlement.cut(on, now)]})

    async def file(self, request: web.Request) -> web.Response:
        """A settlement file's bytes."""
        file_id = request.match_info["file_id"]
        if file_id not in self._book.batches:
            raise web.HTTPNotFound(text=f"no file {file_id!r} has been cut\n")
        return web.Response(body=self._settlement.path(file_id).read_bytes(), content_type="text/plain")

    def _open(self, entry: Entry) -> dict[str, Any]:
        standing = self._book.standing[entry.number]
        return {"number": entry.number, "rrn": entry.rrn, "currency": entry.currency, "left": standing.left}


def _shown(cut: Cut) -> dict[str, Any]:
    return {"file_id": cut.file_id, "path": str(cut.path), "currency": cut.currency, "lines": cut.lines}
