"""The access log: each call of a platform client and each denied attempt has one entry, and no secret is in it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from api.access import Access, read
from api.policy import AUDITOR_SCOPES, MERCHANT_SCOPES, Scope
from tests.api.conftest import Api, Caller
from tests.api.test_authorization import ask, operations, world_of


async def entries(api: Api, **only: Any) -> list[Access]:
    async with api.deps.pool.connection() as conn:
        return await read(conn, limit=1000, **only)


async def auditor(api: Api) -> Caller:
    return await api.caller(None, AUDITOR_SCOPES)


async def test_an_auditor_may_read_everything_and_change_nothing(api: Api) -> None:
    assert {scope for scope in Scope if scope.value.endswith(":write")}.isdisjoint(AUDITOR_SCOPES)
    assert len(AUDITOR_SCOPES) * 2 > len(Scope)
    world, caller = await world_of(api), await auditor(api)
    for method, path, policy in operations(api):
        answer = await ask(world, caller, method, path, "own")
        if method != "GET":
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path
        else:
            assert policy.audience != "merchant", path
            assert answer.status_code not in (401, 403), (path, answer.text)


async def test_each_call_of_a_platform_client_has_one_entry_that_names_its_request(api: Api) -> None:
    world, caller = await world_of(api), await api.caller(None)
    before = {entry.entry_id for entry in await entries(api)}
    asked = [(m, p, await ask(world, caller, m, p, "own")) for m, p, _ in operations(api)]
    written = [entry for entry in await entries(api) if entry.entry_id not in before]
    by_request = {str(entry.request_id): entry for entry in written}
    assert len(by_request) == len(written) == len(asked)
    for method, path, answer in asked:
        entry = by_request[answer.headers["x-request-id"]]
        assert (entry.person, entry.method) == (caller.client_id, method)
        assert entry.route.replace(":str", "") == path
        assert entry.outcome == ("denied" if answer.status_code == 403 else "admitted"), (path, answer.text)


async def test_an_entry_names_the_merchant_that_was_looked_at(api: Api) -> None:
    world, caller = await world_of(api), await auditor(api)
    merchant = world.mine.public_id
    await caller.get("/v1/balance", merchant=merchant)
    assert (await entries(api))[0].subject == merchant
    await caller.get("/v1/balance", merchant="mer_sesame")
    assert (await entries(api))[0].subject == ""
    # or the log could name one, and the other be looked at
    for second in ("merchant", "%6Derchant", "merchant[x]"):
        both = f"/v1/balance?merchant={merchant}&{second}={world.other.public_id}"
        answer = await api.http.get(both, headers=caller.headers)
        assert (answer.status_code, answer.json()["detail"]) == (400, "A query parameter is given twice")


async def test_what_a_merchant_does_with_its_own_is_not_written_down(api: Api) -> None:
    world = await world_of(api)
    caller = await api.caller(world.mine)
    before = len(await entries(api))
    for path in ("/v1/payments", "/v1/accounts", "/v1/journals", "/v1/balance"):
        assert (await caller.get(path)).status_code == 200
    assert len(await entries(api)) == before


async def test_another_merchants_object_is_a_denied_attempt(api: Api) -> None:
    world = await world_of(api)
    caller = await api.caller(world.mine)
    answer = await caller.get(f"/v1/payments/{world.paths['other']['payment_id']}")
    assert answer.status_code == 404
    entry = (await entries(api, denied=True))[0]
    assert (entry.person, entry.subject, entry.code) == (
        caller.client_id,
        world.paths["other"]["payment_id"],
        "payment_not_found",
    )


@pytest.mark.parametrize(
    ("headers", "code"),
    [({}, "token_missing"), ({"Authorization": "Bearer sesame-open"}, "token_invalid")],
)
async def test_a_stranger_is_denied_without_a_name(api: Api, headers: dict[str, str], code: str) -> None:
    assert (await api.http.get("/v1/accounts", headers=headers)).status_code == 401
    (entry,) = await entries(api)
    assert (entry.person, entry.outcome, entry.code, entry.address) == (None, "denied", code, "127.0.0.1")


async def test_a_missing_scope_a_wrong_secret_and_a_locked_client_are_denied_attempts(api: Api) -> None:
    merchant = await api.merchant()
    caller = await api.caller(merchant, frozenset({Scope.PAYMENTS_READ.value}))
    await caller.get("/v1/journals")
    form = {"grant_type": "client_credentials"}
    for _ in range(11):
        await api.http.post("/oauth/token", data=form, auth=(caller.client_id, "wrong-secret"))
    found = await entries(api, denied=True)
    assert {entry.subject for entry in found if entry.route == "/oauth/token"} == {caller.client_id}
    codes = [entry.code for entry in found]
    assert codes == ["client_locked", *["invalid_client"] * 10, "scope_missing"]


async def test_a_stranger_cannot_fill_the_log_faster_than_its_rate(api: Api) -> None:
    api.deps.stranger_rate.__dict__["_burst"] = 2.0
    api.deps.stranger_rate.__dict__["_per_second"] = 1e-6
    answers = [(await api.http.get("/v1/accounts")).status_code for _ in range(5)]
    assert answers == [401, 401, 429, 429, 429]
    assert len(await entries(api)) == 2


async def test_no_secret_and_no_value_of_a_query_is_in_the_log(api: Api) -> None:
    caller = await auditor(api)
    secrets = ("sesame-1", "sesame-2", "sesame-3", caller.secret, caller.token)
    await caller.get("/v1/journals", **{"metadata[card]": "sesame-1", "source_id": "sesame-2", "book": "1"})
    await caller.get("/v1/journals", **{"sesame-3": "1"})
    await api.http.get("/v1/accounts", headers={"Authorization": "Bearer sesame-1"})
    await api.http.post(
        "/oauth/token", data={"grant_type": "client_credentials"}, auth=("sesame-1", "sesame-2")
    )
    found = await entries(api)
    assert len(found) == 5  # the auditor's token, its two calls, the two strangers
    assert [secret for secret in secrets if secret in str(found)] == []
    assert found[-2].asked == ["book", "metadata", "source_id"]
    assert found[-2].book == "1"


async def test_a_call_that_cannot_be_written_down_is_not_carried_out(api: Api) -> None:
    caller = await auditor(api)
    with psycopg.connect(api.database.owner_dsn) as owner:
        owner.execute("REVOKE INSERT ON api.access_entry FROM khata_app")
    assert (await caller.get("/v1/journals")).status_code in (500, 503)
    # A denial that cannot be written down is a denial still.
    assert (await api.http.get("/v1/journals")).status_code == 401


@pytest.mark.parametrize(
    "change", ["UPDATE api.access_entry SET subject = ''", "DELETE FROM api.access_entry"]
)
async def test_no_role_changes_what_stands_there(api: Api, change: str) -> None:
    await auditor(api)
    urls = (api.database.app_dsn, api.database.audit_dsn, api.database.merchant_dsn, api.database.owner_dsn)
    for dsn in urls:
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            with pytest.raises(psycopg.Error) as refusal:
                await conn.execute(change)  # type: ignore[arg-type]
            assert refusal.value.sqlstate == ("KA001" if dsn is api.database.owner_dsn else "42501")
    assert await entries(api)


async def test_the_log_is_read_in_pages_by_whom_the_platform_lets(api: Api) -> None:
    caller, other = await auditor(api), await api.caller(None, frozenset({Scope.JOURNALS_READ.value}))
    for _ in range(4):
        await caller.get("/v1/journals")
    await other.get("/v1/journals")
    assert (await other.get("/v1/access-log")).status_code == 403
    first = (await caller.get("/v1/access-log", limit=3, person=caller.client_id)).json()
    rest = (await caller.get("/v1/access-log", before=first["next"], person=caller.client_id)).json()
    routes = [entry["route"] for entry in first["data"] + rest["data"]]
    assert routes == ["/v1/access-log", *["/v1/journals"] * 4, "/oauth/token"]
    assert rest["next"] is None
    denied = (await caller.get("/v1/access-log", outcome="denied")).json()["data"]
    assert [(entry["person"], entry["code"]) for entry in denied] == [(other.client_id, "scope_missing")]
    assert MERCHANT_SCOPES.isdisjoint({Scope.ACCESS_READ})
