"""The real ledger beside an independent model: random batches, replays, holds, floors, statuses, closed days and
clocks, compared after every step. A failure prints the steps and the blob that replay it.

``KHATA_HYPOTHESIS=long`` runs many more and longer examples.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import asdict, fields, replace
from datetime import date, timedelta
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from khata.database import Database
from ledger import errors
from ledger import model as m
from ledger.books import change_account, create_book, open_accounts
from ledger.limits import LimitTerms, Measure, Side, Window, set_limit
from ledger.load import load
from ledger.post import post
from ledger.state import State
from tests import strategies as draw
from tests.ledger.model import AccountTerms, LedgerModel, Limit, Outcome
from tests.ledger.recompute import differences
from tests.ledger.words import AUTHORIZATIONS, CREDIT_WALLET, ESCROW, FEES, ISSUERS, NOW, PENDING_A, WALLET

LONG = os.environ.get("KHATA_HYPOTHESIS") == "long"
SETTINGS = settings(
    max_examples=1500 if LONG else 40,
    stateful_step_count=60 if LONG else 20,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
ACCOUNTS = [
    m.NewAccount(ESCROW, "INR"),
    m.NewAccount(WALLET, "INR", floor=0),
    m.NewAccount(CREDIT_WALLET, "INR", floor=-100),
    m.NewAccount(PENDING_A, "INR", floor=0),
    m.NewAccount(FEES, "INR"),
    m.NewAccount(AUTHORIZATIONS, "INR"),
    m.NewAccount(ISSUERS, "INR"),
    m.NewAccount("Assets:Bank:Meridian:Operating", "INR", floor=-50),
    m.NewAccount(ESCROW, "JPY"),
    m.NewAccount(WALLET, "JPY", floor=0),
    m.NewAccount(WALLET, "KWD", floor=10),
    m.NewAccount(ESCROW, "KWD"),
]
# A floor above an empty account's nothing cannot be opened: it is raised once there is money.
OPENED = [replace(account, floor=0) if account.floor == 10 else account for account in ACCOUNTS]
KEYS = [(account.path, account.currency) for account in OPENED]


class Driver:
    """One event loop, one connection as the application and one as the owner, for every example."""

    def __init__(self, database: Database) -> None:
        self.runner = asyncio.Runner()
        self.app = self.run(psycopg.AsyncConnection.connect(database.app_dsn))
        self.owner = self.run(psycopg.AsyncConnection.connect(database.owner_dsn, autocommit=True))

    def run(self, awaitable: Any) -> Any:
        return self.runner.run(awaitable)

    def close(self) -> None:
        self.run(self.app.close())
        self.run(self.owner.close())
        self.runner.close()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        async def fetch() -> list[tuple[Any, ...]]:
            cursor = await self.app.execute(query, values)
            found = await cursor.fetchall()
            await self.app.rollback()
            return found

        return self.run(fetch())


def outcome(result: m.Result) -> Outcome:
    """A real result as the model says it."""
    if isinstance(result, m.Posted):
        return "posted", asdict(result)
    return result.code, {f.name: getattr(result, f.name) for f in fields(result)}


# What the database repeats by itself, and how it says so.
REPEATED = {
    "insufficient_funds": "KH006",
    "account_frozen": "KH007",
    "account_closed": "KH007",
    "period_closed": "KH002",
    "velocity_exceeded": "KH020",
}


async def _blind(*given: Any, **more: Any) -> State:
    state = await load(*given, **more)
    for account in state.accounts.values():
        account.floor, account.status = None, "open"
    state.limits, state.closed_through = {}, None
    return state


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.driver = driver
        self.book_id: int = driver.run(self._open())
        self.model = LedgerModel(NOW, {(a.path, a.currency): AccountTerms(a.floor) for a in OPENED})
        self.words = draw.Words(KEYS, NOW)

    async def _open(self) -> int:
        book_id = await create_book(self.driver.app, name=f"b{secrets.token_hex(8)}", now=NOW)
        await open_accounts(self.driver.app, book_id, OPENED, now=NOW)
        await self.driver.app.commit()
        return book_id

    async def _post(self, units: list[m.Unit], *, keep: bool) -> list[m.Result]:
        results = await post(self.driver.app, self.book_id, units, now=self.words.now)
        await (self.driver.app.commit() if keep else self.driver.app.rollback())
        return results

    @rule(data=st.data(), tick=draw.TICKS)
    def post_a_batch(self, data: st.DataObject, tick: timedelta) -> None:
        self._batch(data, tick)

    @rule(data=st.data())
    def post_another_soon_after(self, data: st.DataObject) -> None:
        self._batch(data, timedelta(seconds=1))

    def _batch(self, data: st.DataObject, tick: timedelta) -> None:
        self.words.now += tick
        units = data.draw(draw.batches(self.words), label="batch")
        real = [outcome(r) for r in self.driver.run(self._post(units, keep=True))]
        assert real == self.model.post(units, self.words.now)
        self.words.said += [unit for unit, (code, _) in zip(units, real, strict=True) if code == "posted"]
        self.words.head = len(self.model.entries)
        self.words.holds = self.model.hold_ids()
        self.words.live = [id_ for id_ in self.words.holds if self.model.fate(id_).left]

    @initialize(amounts=st.lists(st.integers(0, 300), min_size=len(KEYS), max_size=len(KEYS)))
    def fund(self, amounts: list[int]) -> None:
        """Without money nothing interesting happens."""
        postings = [
            m.Posting(*((path, ESCROW) if path.startswith("Assets") else (ESCROW, path)), amount, currency)
            for (path, currency), amount in zip(KEYS, amounts, strict=True)
            if path != ESCROW and amount
        ]
        if postings:
            id_ = self.words.new_id()
            unit = m.Unit((m.Journal(id_, "funding", m.Source("fund", "all", "done"), tuple(postings)),))
            real = [outcome(r) for r in self.driver.run(self._post([unit], keep=True))]
            assert real == self.model.post([unit], self.words.now)
            self.words.head = 1

    @rule(data=st.data())
    def post_and_roll_back(self, data: st.DataObject) -> None:
        """The caller's transaction fails: as if nothing had come."""
        holds, live = list(self.words.holds), list(self.words.live)
        units = data.draw(draw.batches(self.words), label="rolled back")
        self.driver.run(self._post(units, keep=False))
        self.words.holds, self.words.live = holds, live

    @rule(
        key=st.sampled_from(KEYS),
        tick=draw.TICKS,
        floor=st.sampled_from([None, 0, 10, -10, 500, m.MAX_AMOUNT, ...]),
        status=st.sampled_from([None, "open", "open", "frozen", "closed"]).map(
            lambda word: m.AccountStatus(word) if word else None
        ),
    )
    def change_an_account(
        self, key: tuple[str, str], tick: timedelta, floor: Any, status: m.AccountStatus | None
    ) -> None:
        self.words.now += tick
        old = self.model.accounts[key]
        terms = AccountTerms(old.floor if floor is ... else floor, status.value if status else old.status)
        rule_ = self.model.change(*key, self.words.now, terms)
        real = self.driver.run(self._change(key, floor, status))
        assert real == rule_

    async def _change(self, key: tuple[str, str], floor: Any, status: m.AccountStatus | None) -> str | None:
        conn = self.driver.app
        try:
            await change_account(
                conn,
                self.book_id,
                *key,
                now=self.words.now,
                reason="test",
                person="tester",
                floor=floor,
                status=status,
            )
        except errors.FactRefused as refused:
            await conn.rollback()
            return refused.rule
        except errors.AccountClosed:
            await conn.rollback()
            return "closed"
        await conn.commit()
        return None

    @rule(
        key=st.sampled_from([*KEYS, *[(ESCROW, "INR"), (WALLET, "INR"), (PENDING_A, "INR")] * 6]),
        tick=draw.TICKS,
        name=st.sampled_from(["a", "b", "b_2"]),
        kind=draw.LIMIT_KINDS,
        same=st.integers(0, 3),
        maximum=st.sampled_from([0, 1, 20, 60, 300]),
        active=st.sampled_from([True, True, True, False]),
    )
    def set_a_limit(
        self,
        key: tuple[str, str],
        tick: timedelta,
        name: str,
        kind: tuple[str, str, str],
        same: int,
        maximum: int,
        active: bool,
    ) -> None:
        self.words.now += tick
        for old in self.model.limits:
            if (old.path, old.currency, old.name) == (*key, name) and same:
                kind = old.side, old.measure, old.window
        limit = Limit(len(self.model.entries), *key, name, *kind, maximum, active)
        rule_ = self.model.set_limit(limit, self.words.now)
        assert self.driver.run(self._set_limit(limit)) == rule_

    async def _set_limit(self, limit: Limit) -> str | None:
        conn = self.driver.app
        terms = LimitTerms(
            limit.name,
            Side(limit.side),
            Measure(limit.measure),
            limit.maximum,
            Window(limit.window),
            limit.active,
        )
        who = {"now": self.words.now, "reason": "test", "person": "tester"}
        try:
            await set_limit(conn, self.book_id, limit.path, limit.currency, terms, **who)
        except (errors.AccountClosed, errors.LimitFixed) as refused:
            await conn.rollback()
            return "closed" if isinstance(refused, errors.AccountClosed) else refused.code
        await conn.commit()
        return None

    @rule(data=st.data())
    def what_python_would_let_through_the_database_refuses(self, data: st.DataObject) -> None:
        """Posted by a ledger that is blind to floors, limits, statuses and closed days, as the application."""
        holds, live = list(self.words.holds), list(self.words.live)
        unit = data.draw(draw.new_units(self.words), label="blindly")
        self.words.holds, self.words.live = holds, live
        trial = replace(self.model, entries=list(self.model.entries))
        [(code, _)] = trial.post([unit], self.words.now)
        if code not in REPEATED:
            return
        result = self.driver.run(self._post_blindly(unit))
        # A refusal: something else is wrong with it, too.
        assert isinstance(result, errors.Refusal) or result in REPEATED.values()

    async def _post_blindly(self, unit: m.Unit) -> m.Result | str:
        """Never kept; the database's SQLSTATE if it refuses."""
        with patch("ledger.post.load", _blind):
            try:
                [result] = await self._post([unit], keep=False)
            except errors.DatabaseRefused as refused:
                await self.driver.app.rollback()
                return refused.sqlstate
            return result

    @precondition(lambda self: self.model.entries)
    @rule(days=st.sampled_from([-4, -3, -3, -2, -2, -1, 0]))
    def close_a_period(self, days: int) -> None:
        through: date = (self.model.clock + timedelta(days=days)).date()
        if self.model.closed_through is not None and through <= self.model.closed_through:
            return
        if days == 0:  # today closed: everything is refused until the clock has left the day
            self.words.now += timedelta(hours=12)
        self.driver.run(
            self.driver.owner.execute(
                "UPDATE ledger.book SET closed_through = %s WHERE book_id = %s", [through, self.book_id]
            )
        )
        self.model.closed_through = through

    @invariant()
    def balances_and_holds_are_equal(self) -> None:
        found = self.driver.rows(
            "SELECT a.path, a.currency, b.floor, b.status, b.seq, a.debit_normal, posted_debits - posted_credits,"
            " pending_debits, pending_credits FROM ledger.account a JOIN ledger.balance b USING (book_id, account_id)"
            " WHERE book_id = %s",
            self.book_id,
        )
        for path, currency, floor, status, seq, debit_normal, net, debits, credits in found:
            posted, inward, outward = (net, debits, credits) if debit_normal else (-net, credits, debits)
            assert (seq, posted, posted - outward, inward) == self.model.position(path, currency)
            assert AccountTerms(floor, status) == self.model.accounts[path, currency]
        holds = self.driver.rows(
            "SELECT hold_id, held, consumed, captured, released, expired FROM ledger.hold WHERE book_id = %s",
            self.book_id,
        )
        assert {h[0]: tuple(h[1:]) for h in holds} == {
            id_: self.model.fate(id_) for id_ in self.model.hold_ids()
        }
        used = self.driver.rows(
            "SELECT path, currency, name, window_start, used FROM ledger.limit_use"
            " JOIN ledger.account USING (book_id, account_id) WHERE book_id = %s",
            self.book_id,
        )
        assert {tuple(window): amount for *window, amount in used} == self.model.uses()
        [book] = self.driver.rows(
            "SELECT head, recorded_at FROM ledger.book WHERE book_id = %s", self.book_id
        )
        assert book == (len(self.model.entries), self.model.clock)

    def teardown(self) -> None:
        """Every posting's running balances, canonical line and hash; and every line is the model's."""
        self.driver.run(self.driver.app.rollback())
        assert self.driver.run(differences(self.driver.app, self.book_id)) == []
        lines = self.driver.rows(
            "SELECT p.journal_seq, d.path, c.path, p.amount, p.currency, p.layer = 1, p.hold_id,"
            " j.recorded_at, j.effective_at"
            " FROM ledger.posting p"
            " JOIN ledger.account d ON (d.book_id, d.account_id) = (p.book_id, p.debit_account)"
            " JOIN ledger.account c ON (c.book_id, c.account_id) = (p.book_id, p.credit_account)"
            " JOIN ledger.journal j ON (j.book_id, j.seq) = (p.book_id, p.journal_seq)"
            " WHERE p.book_id = %s ORDER BY p.journal_seq, p.line",
            self.book_id,
        )
        assert lines == [
            (seq, *line[:6], entry.recorded_at, entry.effective_at)
            for seq, entry in enumerate(self.model.entries, 1)
            for line in entry.lines
        ]


@pytest.mark.timeout(0 if LONG else 300)
def test_the_ledger_does_what_the_model_does(shared_database: Database) -> None:
    driver = Driver(shared_database)
    try:
        run_state_machine_as_test(lambda: LedgerMachine(driver), settings=SETTINGS)  # type: ignore[arg-type]
    finally:
        driver.close()
