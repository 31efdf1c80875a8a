"""Every route of the API and the pages, driven on a large book: what it reads is found by index, and little of it.

The plans are those the statements really ran by, with the parameters they ran with. A route without a call here
fails the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

import httpx
import psycopg
import pytest
from litestar import Litestar

from api.app import create_app
from api.dependencies import AppDependencies
from api.pages import sessions
from api.pages.plugin import Pages
from api.policy import MERCHANT_SCOPES, routes_of
from gateway import ids
from khata.database import Database
from tests.api.conftest import PLATFORM_SCOPES, Api, Clock, gateway_on, serving
from tests.reads.large import ESCROW, JOURNALS, OTHER_ACCOUNTS, SECRETS, WALLETS, Large, large_book
from tests.reads.plans import Plan, explain_all, listening

PER_ROW = 15  # rows read for each row shown: a journal is found by each condition, then read
PER_LOG = 20  # look-ups by halving, the ends of ranges, the tail; and the caller's own rows
PER_READ = 6  # pages for each row read: the way down an index, and the row
GROWING = 500  # rows from which a table is one that grows; below, reading all of it is the quickest way

NO_DATABASE = {
    "/.well-known/jwks.json": "from memory",
    "/.well-known/oauth-authorization-server": "from memory",
    "/docs": "a file",
    "/health/live": "says that the process is there",
    "/merchant/sign-in": "a form",
    "/openapi.json": "from memory",
    "/static/{file_path}": "a file",
}
# Tables that one route reads whole, on purpose.
WHOLE = {
    ("/v1/exports/journal", "hold"): "an export for a judge declares every account that ever held money",
    ("/v1/reports/consolidated-trial-balance", "account"): "every account of every book",
    ("/v1/log/proof/inclusion", "act"): "up to 255 of the 600 acts here are at the log's right edge",
    ("/v1/log/proof/consistency", "act"): "as above",
    ("/v1/books/{book}/log/proof/inclusion", "act"): "as above",
    ("/v1/books/{book}/log/proof/consistency", "act"): "as above",
    ("/v1/journals/{journal_id}/receipt", "act"): "as above",
}


@dataclass(frozen=True, slots=True)
class Call:
    """``shown``: how many rows the answer is made of. ``status``: 404 where what is asked for is not there."""

    route: str
    url: str
    who: str = "platform"
    shown: int = 1
    status: int = 200

    def __str__(self) -> str:
        return f"{self.who} {self.url[:110]}"


def calls(large: Large) -> list[Call]:
    payment, merchant = large.payment.public_id, large.merchant
    pending = f"Liabilities:Merchant:{merchant.owner}:Pending"
    refund, own = ids.public(ids.REFUND, large.refund), f"/merchant/accounts/INR/{pending}"
    return [
        Call("/health/ready", "/health/ready", "nobody"),
        *_journal_calls(merchant.owner),
        Call("/v1/journals/{journal_id}", f"/v1/journals/{large.journal}", shown=2),
        Call("/v1/journals/{journal_id}", f"/v1/journals/{large.journal}", "merchant", 2),
        *_export_calls(),
        Call("/v1/holds/{hold_id}", f"/v1/holds/{large.hold}"),
        *_account_calls(),
        *_statement_calls(pending),
        *_report_calls(),
        *_people_calls(large),
        *_log_calls(large),
        Call("/v1/payments/{payment_id}/receipts", f"/v1/payments/{payment}/receipts", "merchant", 4),
        Call("/v1/payments", "/v1/payments?limit=20", "merchant", 20),
        Call("/v1/payments", f"/v1/payments?limit=20&merchant={merchant.owner}", shown=20),
        *(
            call
            for who in ("merchant", "platform")
            for call in (
                Call("/v1/payments/{payment_id}", f"/v1/payments/{payment}", who, 4),
                Call("/v1/refunds/{refund_id}", f"/v1/refunds/{refund}", who, 4),
            )
        ),
        Call("/v1/payments/{payment_id}/receipts", f"/v1/payments/{payment}/receipts", shown=4),
        Call("/v1/balance", f"/v1/balance?merchant={merchant.owner}", shown=ACCOUNTS),
        Call("/pay/{token}", f"/pay/{large.link}", "nobody", 5, 410),  # its time has passed
        Call("/merchant", "/merchant", "browser", ACCOUNTS + 8),
        Call("/merchant/payments", "/merchant/payments", "browser", 26),
        Call("/merchant/payments/{payment_id}", f"/merchant/payments/{payment}", "browser", 5),
        Call(PAGE, own, "browser", 50),
        Call(PAGE + "/statement", f"{own}/statement?format=csv{DAYS}", "browser", LINES_OF_DAYS),
        Call("/merchant/journals", "/merchant/journals", "browser", 21),
        Call("/merchant/journals", f"/merchant/journals?before={JOURNALS // 2}", "browser", 21),
        Call("/merchant/journals/{journal_id}", f"/merchant/journals/{large.hold}", "browser", 2),
        *(Call(path, path.replace("{file_path}", "docs/index.html"), "nobody", 0) for path in NO_DATABASE),
    ]


def _journal_calls(owner: str) -> list[Call]:
    asked = {
        "": 20,
        f"&before={JOURNALS // 3}": 20,
        "&kind=capture": 20,
        "&kind=rare": 20,
        "&kind=nothing": 1,
        "&source_type=operation&source_event=approved": 20,
        f"&source_id=op_{JOURNALS // 2}": 1,
        f"&account={WALLETS[3]}": 20,
        f"&account={ESCROW}": 20,
        "&account=Income:Fees:card&kind=rare": 20,
        "&amount=77&currency=INR": 20,
        f"&metadata[payment_id]=pay_{JOURNALS // 4}": 1,
        "&effective_from=2025-12-05&effective_to=2026-05-10": 20,
        "&effective_to=2025-08-20": 20,
        "&recorded_from=2025-11-01T00:00:00Z&recorded_to=2025-11-02T00:00:00Z": 20,
        "&recorded_to=2026-01-01T00:00:00Z&kind=rare": 20,
        f"&kind=hold&account={WALLETS[10]}&effective_from=2026-01-01": 20,
        # Conditions that hardly ever meet: no more look-ups than the rarer one has journals.
        f"&kind=rare&account={WALLETS[0]}": JOURNALS // 1000,
    }
    return [
        Call("/v1/journals", f"/v1/journals?limit=20{query}", who, shown)
        for query, shown in asked.items()
        for who in ("platform", "merchant")
    ]


def _export_calls() -> list[Call]:
    route = "/v1/exports/journal"
    url = f"{route}?after={JOURNALS // 2}&through={JOURNALS // 2 + 100}&format="
    return [
        *(Call(route, url + name, shown=100) for name in ("jsonl", "csv")),
        *(
            Call(route, url + name, shown=100 + JOURNALS // 10 + ACCOUNTS)
            for name in ("hledger", "ledger", "beancount")
        ),
        # The first pages: an account's journals are found by its own index.
        *(
            Call(route, f"{route}?through={JOURNALS // 10}&account={WALLETS[3]}&format={name}", shown=shown)
            for name, shown in (("jsonl", JOURNALS // 10 // len(WALLETS)), ("hledger", JOURNALS // 10))
        ),
    ]


def _statement_calls(pending: str) -> list[Call]:
    route, url = "/v1/accounts/{account}/statement", f"/v1/accounts/{pending}/statement?currency=INR&limit=50"
    return [
        *(Call(route, url + asked, "merchant", 50) for asked in ("", f"&after={JOURNALS // 2}.1", DAYS)),
        Call(route, f"{url}{DAYS}&known_as_of={JOURNALS // 2}", shown=50),
        *(
            Call(route, f"{url}{DAYS}&format={name}", shown=LINES_OF_DAYS)
            for name in ("csv", "camt.053", "html")
        ),
    ]


def _account_calls() -> list[Call]:
    account, past = f"/v1/accounts/{WALLETS[1]}", f"effective_as_of=2026-03-01&known_as_of={JOURNALS // 2}"
    late = "effective_as_of=2026-03-01&then=2026-03-02T00:00:00Z&limit=20"
    return [
        Call("/v1/balance", "/v1/balance", "merchant", ACCOUNTS),
        Call("/v1/balance", f"/v1/balance?{past}", "merchant", ACCOUNTS),
        Call("/v1/accounts", "/v1/accounts", shown=ACCOUNTS),
        Call("/v1/accounts", f"/v1/accounts?{past}", "merchant", ACCOUNTS),
        Call("/v1/accounts", "/v1/accounts?prefix=Liabilities:Merchant", shown=ACCOUNTS),
        Call("/v1/accounts", "/v1/accounts?book=2&limit=20", shown=20),
        Call("/v1/totals", f"/v1/totals?prefix=Liabilities:Customer&{past}", shown=ACCOUNTS),
        Call("/v1/totals", "/v1/totals?prefix=Liabilities:Customer", "merchant", ACCOUNTS),
        Call("/v1/restatements", f"/v1/restatements?{late}", shown=ACCOUNTS + LATE),
        Call("/v1/accounts/{account}/changes", f"{account}/changes?currency=INR"),
        Call("/v1/accounts/{account}/limits", f"{account}/limits?currency=INR"),
        Call("/v1/book-transfers", "/v1/book-transfers?limit=20", shown=20),
        Call("/v1/book-transfers/{transfer_id}", f"/v1/book-transfers/{UUID(int=7)}", status=404),
    ]


def _report_calls() -> list[Call]:
    known = f"known_as_of={JOURNALS // 2}"
    asked = {
        "trial-balance": ["", f"?effective_as_of=2026-03-01&{known}", "?format=csv"],
        "balance-sheet": ["", f"?effective_as_of=2026-03-01&{known}"],
        "income-statement": ["?from=2026-01-05&to=2026-05-09", f"?from=2026-01-05&to=2026-05-09&{known}"],
        "ageing": ["", f"?effective_as_of=2026-03-01&{known}"],
    }
    every = "/v1/reports/consolidated-trial-balance"
    return [
        Call(every, every, shown=ACCOUNTS + OTHER_ACCOUNTS),
        *(
            # An income statement is the difference of two sums of each account.
            Call(
                f"/v1/reports/{name}", f"/v1/reports/{name}{query}", shown=ACCOUNTS * (1 + ("from" in query))
            )
            for name, queries in asked.items()
            for query in queries
        ),
    ]


def _people_calls(large: Large) -> list[Call]:
    return [
        Call("/v1/adjustments", "/v1/adjustments?limit=20", shown=20),
        Call("/v1/adjustments", "/v1/adjustments?limit=20&status=all&before=300", shown=20),
        Call("/v1/adjustments/{proposal_id}", f"/v1/adjustments/{large.proposal}"),
        Call("/v1/periods", "/v1/periods?limit=20", shown=20),
        Call("/v1/periods/reopenings", "/v1/periods/reopenings?limit=20", shown=20),
        Call("/v1/acts", "/v1/acts?limit=20", shown=20),
        Call("/v1/acts", "/v1/acts?limit=20&person=asha&before=300", shown=20),
        Call("/v1/acts", f"/v1/acts?limit=20&subject={large.proposal}"),
    ]


def _log_calls(large: Large) -> list[Call]:
    """A proof reads a tile a level, and at the right edge the entries that fill none yet."""
    asked = {
        "checkpoint": [""],
        "keys": [""],
        "proof/inclusion": ["?index=77", f"?index=77&size={JOURNALS // 2}", f"?journal={large.journal}"],
        "proof/consistency": ["?from=300", f"?from=300&to={JOURNALS // 2}"],
    }
    found: list[Call] = []
    for log in ("/v1/log", "/v1/books/{book}/log"):
        url = log.replace("{book}", "main")
        for name, queries in asked.items():
            found += [Call(f"{log}/{name}", f"{url}/{name}{query}", "nobody", EDGE) for query in queries]
        found += [
            Call(f"{log}/tile/{{level}}/{{tile}}", f"{url}/tile/0/012", "nobody"),
            Call(f"{log}/tile/{{level}}/{{tile}}", f"{url}/tile/1/000.p/20", "nobody", 20),
            Call(f"{log}/tile/entries/{{tile}}", f"{url}/tile/entries/012", shown=256),
        ]
    return [
        *found,
        Call("/v1/journals/{journal_id}/receipt", f"/v1/journals/{large.journal}/receipt", shown=EDGE),
        Call("/v1/journals/{journal_id}/receipt", f"/v1/journals/{large.journal}/receipt", "merchant", EDGE),
        Call("/v1/access-log", "/v1/access-log?limit=20", shown=20),
        Call("/v1/access-log", "/v1/access-log?limit=20&person=asha", shown=20),
        Call("/v1/access-log", "/v1/access-log?limit=20&outcome=denied", shown=20),
    ]


ACCOUNTS = len(WALLETS) + 20  # of the book: what lists them all reads them all
EDGE = 256 * 2 // PER_ROW  # what a log has at its right edge, on two levels
PAGE, DAYS = "/merchant/accounts/{currency}/{account}", "&from=2026-01-05&to=2026-01-09"
# Late journals, and the spans (ledger/rollups.py) that hold one are looked through: twice.
LATE = JOURNALS // 4 // 50 + 3 * JOURNALS // 4 // PER_ROW
LINES_OF_DAYS = JOURNALS // 10 * 5 // 400 + 50  # of the merchant's account in five of 400 days


# ---------------------------------------------------------------- the application, listened to

Clients = dict[str, httpx.AsyncClient]


@pytest.fixture(scope="module")
def large_database(shared_database: Database) -> tuple[Database, Large]:
    async def build() -> Large:
        async with large_book(shared_database) as large:
            return large

    return shared_database, asyncio.run(build())


@contextlib.asynccontextmanager
async def application(database: Database, large: Large) -> AsyncGenerator[tuple[Litestar, Clients]]:
    """The whole application, and clients of it by who calls."""
    clock = Clock()
    async with contextlib.AsyncExitStack() as stack:
        gateway, pool, book_id = await stack.enter_async_context(gateway_on(database, clock))
        deps = AppDependencies(
            gateway=gateway,
            pool=pool,
            secrets=SECRETS,
            issuer="http://127.0.0.1",
            base_url="http://127.0.0.1",
            book_id=book_id,
            clock=clock,
        )
        app = create_app(deps, plugins=[Pages()])
        url = await stack.enter_async_context(serving(app))
        nobody = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=600))
        api = Api(nobody, deps, database, clock, url)
        clients = {"nobody": nobody}
        for who, merchant, scopes in (
            ("platform", None, PLATFORM_SCOPES),
            ("merchant", large.merchant, MERCHANT_SCOPES),
        ):
            caller = await api.caller(merchant, scopes)
            clients[who] = await stack.enter_async_context(
                httpx.AsyncClient(base_url=url, headers=caller.headers, timeout=600)
            )
        token = sessions.new_token(gateway.random)
        async with pool.connection() as conn:
            await sessions.start(conn, token, caller.client_id, now=clock())
        clients["browser"] = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, cookies={"khata": token}, timeout=600)
        )
        yield app, clients


def growing(database: Database) -> set[str]:
    with psycopg.connect(database.owner_dsn) as conn:
        rows = conn.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples >= %s", [GROWING])
        return {name for (name,) in rows}


def faults(call: Call, plans: list[Plan], large_tables: set[str]) -> list[str]:
    """What is wrong with how a call was answered."""
    rows, pages = sum(plan.rows for plan in plans), sum(plan.pages for plan in plans)
    most = PER_ROW * call.shown + PER_LOG * math.log2(JOURNALS)
    found = [
        f"{call}: {scan}\n  {plan}"
        for plan in plans
        for scan in plan.scans
        if scan.node == "Seq Scan" and scan.table in large_tables and (call.route, scan.table) not in WHOLE
    ]
    if rows > most:
        costly = sorted(plans, key=lambda plan: plan.rows, reverse=True)[:3]
        found.append(f"{call}: {rows:g} rows read, at most {most:.0f}\n  " + "\n  ".join(map(str, costly)))
    if pages > PER_READ * most:
        costly = sorted(plans, key=lambda plan: plan.pages, reverse=True)[:3]
        found.append(f"{call}: {pages} pages looked at\n  " + "\n  ".join(map(str, costly)))
    return found


async def answer_to(call: Call, clients: Clients) -> str:
    """The status and the first words of the answer."""
    try:
        answer = await clients[call.who].get(call.url)
    except httpx.HTTPError as error:  # a stream that broke off
        return repr(error)
    return f"{answer.status_code} {answer.text[:300]}"


@pytest.mark.timeout(3600)  # with JOURNALS=1000000
@pytest.mark.parametrize("generic", [False, True], ids=["planned for the values", "planned for any values"])
async def test_every_read_uses_an_index_and_touches_what_it_shows(
    large_database: tuple[Database, Large], monkeypatch: pytest.MonkeyPatch, *, generic: bool
) -> None:
    database, large = large_database
    explain_all(database, generic=generic)
    large_tables, wrong = growing(database), list[str]()
    assert {"journal", "posting", "term", "hold", "payment", "account"} <= large_tables
    with listening(monkeypatch, generic=generic) as plans:
        async with application(database, large) as (app, clients):
            # What a POST looks up on its way it finds by the same functions, or by those of the posting path.
            routes = {path for method, path, _ in routes_of(app) if method == "GET"}
            if other := routes ^ {call.route for call in calls(large)}:
                wrong.append(f"called here or routed, not both: {sorted(other)}")
            for call in calls(large):
                plans.clear()
                said = await answer_to(call, clients)
                if not said.startswith(str(call.status)) or bool(plans) == (call.route in NO_DATABASE):
                    wrong.append(f"{call}: {len(plans)} statements, {said}")
                wrong += faults(call, plans, large_tables)
                rows, pages = sum(p.rows for p in plans), sum(p.pages for p in plans)
                print(f"{rows:8.0f} rows {pages:8} pages {len(plans):5} statements  {call}")
    assert not wrong, "\n\n".join(wrong)
