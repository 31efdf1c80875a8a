"""Fixtures every test may use: ``server``, ``database`` (fresh, per test), ``shared_database`` (per module).

Under pytest-xdist the controlling process runs the one server and hands its address to the workers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from khata.database import Database
from tests.server import Server, session_server

SERVER = pytest.StashKey[Server]()
CLOSERS = pytest.StashKey[contextlib.ExitStack]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist, in the controller, before each worker starts."""
    node.workerinput["server"] = asdict(_server(node.config))


def pytest_unconfigure(config: pytest.Config) -> None:
    if CLOSERS in config.stash:
        config.stash[CLOSERS].close()


def _server(config: pytest.Config) -> Server:
    """This session's server; started when first asked for."""
    if SERVER not in config.stash:
        config.stash[CLOSERS] = contextlib.ExitStack()
        config.stash[SERVER] = config.stash[CLOSERS].enter_context(session_server())
    return config.stash[SERVER]


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> Server:
    given: dict[str, Any] | None = getattr(pytestconfig, "workerinput", None)
    return Server(**given["server"]) if given else _server(pytestconfig)


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """A fresh database of this test's own."""
    with server.fresh_database() as fresh:
        yield fresh


@pytest.fixture(scope="module")
def shared_database(server: Server) -> Iterator[Database]:
    """A fresh database that the tests of one module share."""
    with server.fresh_database() as fresh:
        yield fresh
