"""Every refusal is a problem document, and nothing of ours shows in it."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import httpx
import psycopg
import pytest
import sqlalchemy.exc
from psycopg_pool import PoolTimeout

import api as api_package
import banks
import gateway
import ledger
from api.errors import ApiError, DatabaseUnavailable
from api.problems import MEDIA_TYPE, PROBLEMS, classified, document
from banks.errors import BanksError
from gateway.errors import GatewayError
from ledger.errors import LedgerError
from tests.api.conftest import Api

ROOTS = (ApiError, GatewayError, BanksError, LedgerError)


def every_error() -> list[type[Exception]]:
    """All error classes of the four packages, after importing every module of theirs."""
    for package in (api_package, gateway, banks, ledger):
        import_all(package)
    found: list[type[Exception]] = []
    waiting: list[type[Exception]] = list(ROOTS)
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting += kind.__subclasses__()
    # The bank's simulator is another process; what it raises never gets here.
    return [k for k in found if not k.__module__.startswith("banks.simulators")]


def import_all(package: ModuleType) -> None:
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_every_error_class_has_an_http_row() -> None:
    missing = [k for k in every_error() if k not in PROBLEMS and not k.__name__.startswith("_")]
    assert not missing


def test_no_row_is_for_an_error_that_does_not_exist() -> None:
    assert set(PROBLEMS) <= set(every_error())


def test_codes_are_unique_words() -> None:
    codes = [k.__dict__["code"] for k in every_error() if "code" in k.__dict__]
    assert len(codes) == len(set(codes))
    assert all(c.replace("_", "").isalpha() and c.islower() for c in codes)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("connection to 10.0.0.7 failed"),
        psycopg.errors.AdminShutdown("terminating"),
        PoolTimeout("no connection"),
        sqlalchemy.exc.OperationalError("SELECT secret", {}, Exception("x")),
        sqlalchemy.exc.TimeoutError(),
        ConnectionRefusedError(),
    ],
)
def test_a_database_that_is_away_is_503_with_retry_after(error: Exception) -> None:
    assert isinstance(classified(error), DatabaseUnavailable)
    status, body, headers = document(error, "r")
    assert (status, headers["Retry-After"]) == (503, "2")
    assert b"10.0.0.7" not in body
    assert b"SELECT" not in body


def test_an_error_nobody_thought_of_tells_nothing() -> None:
    status, body, _ = document(RuntimeError("password=hunter2"), "019ab3e8-6f5a-7c21-9d04-3b7c55d1e0aa")
    assert status == 500
    assert b"hunter2" not in body
    assert b"internal_error" in body


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    body = answer.json()
    assert {"type", "title", "status", "detail", "code", "instance"} <= set(body)
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:khata:problem:{code}")
    assert body["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "route_unknown"),
        ("GET", "/v1/", 404, "route_unknown"),
        ("GET", "/static/../app.py", 404, "route_unknown"),
        ("GET", "/static/%2e%2e/app.py", 404, "route_unknown"),
        ("DELETE", "/v1/payments", 405, "method_not_allowed"),
        ("GET", "/oauth/token", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_a_problem(
    api: Api, method: str, path: str, status: int, code: str
) -> None:
    answer = await api.http.request(method, path)
    assert_problem(answer, status, code)
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_request"),
        (b"", "application/json", 400, "malformed_request"),
        (b"\xff\xfe", "application/json", 400, "malformed_request"),
        (b"[" * 50_000, "application/json", 400, "malformed_request"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "application/json", 400, "malformed_request"),
        (b"[]", "application/json", 422, "validation_failed"),
        (b"null", "application/json", 422, "validation_failed"),
        (b'{"amount": NaN}', "application/json", 422, "validation_failed"),
        (b'{"amount": 1e400}', "application/json", 422, "validation_failed"),
        (b'{"amount": ' + b"9" * 5_000 + b"}", "application/json", 400, "malformed_request"),
        (b"{}", "text/plain", 415, "media_type_unsupported"),
        (b"amount=1", "application/x-www-form-urlencoded", 415, "media_type_unsupported"),
        (b" " * 70_000, "application/json", 413, "body_too_large"),
    ],
)
async def test_a_body_that_cannot_be_read(
    api: Api, content: bytes, kind: str, status: int, code: str
) -> None:
    caller = await api.caller(None)
    headers = caller.headers | {"Content-Type": kind, "Idempotency-Key": "k"}
    assert_problem(await api.http.post("/v1/holds", content=content, headers=headers), status, code)


async def test_a_body_without_a_length_is_cut_off_at_the_limit(api: Api) -> None:
    caller = await api.caller(None)

    async def endless():
        for _ in range(100):
            yield b" " * 4096

    headers = caller.headers | {"Content-Type": "application/json", "Idempotency-Key": "k"}
    answer = await api.http.post("/v1/holds", content=endless(), headers=headers)
    assert_problem(answer, 413, "body_too_large")


async def test_a_client_that_asks_too_often_is_told_when_to_come_back(api: Api) -> None:
    from api.limits import RateLimit

    caller = await api.caller(None)
    api.deps.rate.__dict__.update(RateLimit(per_second=0.5, burst=3, clock=api.clock).__dict__)
    answers = [await caller.get("/v1/accounts") for _ in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert_problem(answers[-1], 429, "rate_limited")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 2


async def test_a_database_that_goes_away_is_503_and_comes_back(api: Api) -> None:
    caller = await api.caller(None)
    with psycopg.connect(api.database.admin_dsn, autocommit=True) as admin:
        name = admin.info.dbname
        elsewhere = api.database.admin_dsn.replace(f"/{name}", "/postgres")
    with psycopg.connect(elsewhere, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        assert_problem(await api.http.get("/health/ready"), 503, "database_unavailable")
        assert (await api.http.get("/health/live")).status_code == 200
        assert int((await caller.get("/v1/accounts")).headers["retry-after"]) >= 1
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    for _ in range(50):
        answer = await api.http.get("/health/ready")
        if answer.status_code == 200:
            break
    assert answer.status_code == 200
