"""What every answer carries, and what the log never does."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import structlog
from litestar import Litestar, get

from api.edge import Edge
from api.policy import Scope, public
from api.streams import ClosingStream
from ledger.ids import Ids
from tests.api.conftest import Api, Clock, serving

PAN = "4111111111111111"


async def test_every_answer_carries_the_security_headers(api: Api) -> None:
    caller = await api.caller(None)
    for answer in (
        await api.http.get("/health/live"),
        await api.http.get("/nowhere"),
        await caller.get("/v1/accounts"),
        await api.http.get("/v1/accounts"),
        await api.http.get("/docs"),
        await api.http.get("/static/docs/start.js"),
    ):
        headers = answer.headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["strict-transport-security"].startswith("max-age=31536000")
        assert len(headers.get_list("x-request-id")) == len(headers.get_list("cache-control")) == 1
    assert (await caller.get("/v1/accounts")).headers["cache-control"] == "no-store"


async def test_request_ids_are_ours_and_differ(api: Api) -> None:
    answers = [await api.http.get("/health/live", headers={"X-Request-Id": "evil\tvalue"}) for _ in range(2)]
    assert answers[0].headers["x-request-id"] != answers[1].headers["x-request-id"]
    assert "evil" not in answers[0].headers["x-request-id"]


async def test_the_log_carries_no_secret_and_no_body(api: Api) -> None:
    merchant = await api.merchant()
    with structlog.testing.capture_logs() as said:
        caller = await api.caller(merchant)
        card = {"number": PAN, "expiry_month": 12, "expiry_year": 2030, "cvv": "987"}
        body = {"amount": 5, "currency": "INR", "card": card, "reference": "canary-reference"}
        answer = await caller.post("/v1/payments", body, key="canary-key")
        await caller.post(f"/v1/payments/{PAN}/capture", {"amount": "canary"}, key="k")
        await api.http.get(f"/pay/{PAN}", params={"card": PAN})
    assert answer.status_code == 503  # no bank is connected here
    text = repr(said)
    assert {entry["event"] for entry in said} >= {"request"}
    canaries = [PAN, "'987'", "canary", caller.secret, caller.token, caller.token.split(".")[1]]
    canaries += [PAN.encode().hex(), base64.b64encode(PAN.encode()).decode().rstrip("=")]
    for canary in canaries:
        assert canary not in text
        assert canary not in answer.text


async def test_an_unexpected_error_is_logged_without_its_message_and_answered_as_500() -> None:
    @get("/broken", sync_to_thread=False, **public())
    def broken() -> None:
        raise RuntimeError(f"row ({PAN})")

    app = Litestar([broken], openapi_config=None, logging_config=None)
    app.asgi_handler = Edge(raising, Ids(Clock()), https=False)
    with structlog.testing.capture_logs() as said:
        async with serving(app) as url, httpx.AsyncClient() as http:
            answer = await http.get(f"{url}/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert PAN not in answer.text + repr(said)
    assert "strict-transport-security" not in answer.headers
    (failed,) = [entry for entry in said if entry["event"] == "request_failed"]
    assert failed["error"] == "RuntimeError"
    assert any("raising" in frame for frame in failed["frames"])


async def test_an_answer_that_is_not_read_is_given_up_closed_and_logged_as_the_callers_end() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"x" * 2**20
        finally:
            closed.set()

    @get("/endless", **public())
    async def answer() -> ClosingStream:
        return ClosingStream(endless(), media_type="text/plain", headers={})

    app = Litestar([answer], openapi_config=None, logging_config=None)
    app.asgi_handler = Edge(app.asgi_handler, Ids(Clock()), https=False, send_s=0.01)
    with structlog.testing.capture_logs() as said:
        async with serving(app) as url:
            with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as caller:
                caller.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
                await asyncio.wait_for(closed.wait(), 60)
    assert [(entry["log_level"], entry["event"], entry["status"]) for entry in said] == [
        ("info", "request", 499)
    ]


async def test_an_error_after_the_caller_hung_up_is_no_failure_of_ours() -> None:
    gone = asyncio.Event()

    async def cut(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()
        raise RuntimeError("a connection in the middle of a query")

    app = Litestar([], openapi_config=None, logging_config=None)
    app.asgi_handler = Edge(cut, Ids(Clock()), https=False)
    with structlog.testing.capture_logs() as said:
        async with serving(app) as url:
            with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as caller:
                caller.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.wait_for(gone.wait(), 60)
    assert [(entry["log_level"], entry["event"], entry["status"]) for entry in said] == [
        ("info", "request", 499)
    ]


async def raising(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError(f"row ({PAN})")


async def test_a_scope_that_is_missing_is_named(api: Api) -> None:
    caller = await api.caller(None, frozenset({Scope.HOLDS_READ}))
    answer = await caller.get("/v1/accounts")
    assert 'scope="accounts:read"' in answer.headers["www-authenticate"]
