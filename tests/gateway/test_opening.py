"""Payments begin together and stand or fall alone; what they were made by is checked where they are written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import psycopg
import pytest

from banks.card.rail import CardRail
from banks.references import Numbers
from gateway import idempotency, payments, store
from gateway.errors import CardInvalid, CurrencyUnknown, IdempotencyInFlight, IdempotencyMismatch
from gateway.gathered import Gathered
from gateway.idempotency import Answer, Idem
from gateway.model import CaptureMethod, Payment
from gateway.opening import Opening
from gateway.payments import NewPayment
from gateway.states import PaymentStatus
from gateway.store import hexed
from gateway.terms import terms_of
from tests.gateway.test_recovery import Died, recover
from tests.gateway.world import GOOD, Clock, World, card, idem

NEW = NewPayment(100_000, "INR")
CARDS_EXPIRE_DAYS = 24 * 366


async def create(world: World, request: Idem, new: NewPayment = NEW, number: str = GOOD) -> Answer:
    gw, m = world.gw, world.merchant.id
    return await idempotency.answered(
        gw, m, request, lambda: payments.create(gw, m, new, request, card=card(number)), claims_first=True
    )


async def as_owner(world: World, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(world.database.owner_dsn) as conn:
        await conn.execute(statement)  # type: ignore[arg-type]


async def test_payments_begun_at_once_all_stand_and_share_transactions(world: World) -> None:
    made = await asyncio.gather(
        *(payments.create(world.gw, world.merchant.id, NEW, card=card()) for _ in range(24))
    )
    assert {p.status for p in made} == {PaymentStatus.SUCCEEDED}
    rows = await world.rows("SELECT count(DISTINCT xmin::text) AS n FROM gateway.vault_card")
    assert rows[0][0] < 24
    await world.check()


async def test_a_key_that_is_taken_keeps_nobody_else_out(world: World) -> None:
    first = await create(world, idem("taken"))
    answers = await asyncio.gather(
        create(world, idem("taken")), *(create(world, idem(f"k{n}")) for n in range(8))
    )
    assert [a.replayed for a in answers] == [True] + [False] * 8
    assert answers[0].body == first.body
    assert len(await world.rows("SELECT FROM gateway.payment")) == 9
    assert len(await world.rows("SELECT FROM gateway.vault_card")) == 9
    assert len(await world.rows("SELECT FROM gateway.event WHERE type = 'payment.created'")) == 9


async def test_two_requests_under_one_key_in_one_batch_make_one_payment(world: World) -> None:
    answers = await asyncio.gather(*(create(world, idem("k")) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(a, Answer) for a in answers) >= 1
    assert all(isinstance(a, Answer | IdempotencyInFlight) for a in answers), answers
    assert len(await world.rows("SELECT FROM gateway.payment")) == 1


async def test_the_same_key_with_another_body_is_refused_also_when_it_is_claimed_first(world: World) -> None:
    await create(world, idem("k"))
    with pytest.raises(IdempotencyMismatch):
        await create(world, idem("k", b"other"), replace(NEW, amount=5))
    assert len(await world.rows("SELECT FROM gateway.payment")) == 1


async def test_a_request_that_would_be_refused_today_gets_the_answer_it_had(world: World) -> None:
    """The card has expired since: the same request was answered before, and its answer stays."""
    first = await create(world, idem("k"))
    world.clock.forward(days=CARDS_EXPIRE_DAYS)
    with pytest.raises(CardInvalid):
        await create(world, idem("another"))
    again = await create(world, idem("k"))
    assert (again.body, again.replayed) == (first.body, True)


async def test_a_request_refused_before_it_claims_leaves_its_key_free(world: World) -> None:
    with pytest.raises(CurrencyUnknown):
        await create(world, idem("k"), replace(NEW, currency="USD"))
    assert not (await create(world, idem("k"))).replayed


async def test_after_a_crash_a_key_that_is_claimed_first_answers_with_what_became_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object, **__: object) -> object:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(CardRail, "authorize", dies)
        with pytest.raises(Died):
            await create(world, idem("k"))
    with pytest.raises(IdempotencyInFlight):
        await create(world, idem("k"))
    await recover(world)
    world.clock.forward(seconds=60)
    answer = await create(world, idem("k"))
    assert b'"status":"requires_payment_method"' in answer.body
    assert (await create(world, idem("k"))).body == answer.body
    assert len(await world.rows("SELECT FROM gateway.payment")) == 1


async def test_without_a_card_the_answer_is_stored_with_the_claim(world: World) -> None:
    gw, m, request = world.gw, world.merchant.id, idem("k")
    made = await payments.create(gw, m, NEW, request)
    stored = await idempotency.replay(gw, m, request)
    assert stored is not None
    assert (stored.status, stored.body) == request.render(made)


async def test_terms_that_have_changed_are_read_again_before_anything_is_written(world: World) -> None:
    gw, m = world.gw, world.merchant.id
    before = await payments.create(gw, m, NEW)
    await as_owner(world, "UPDATE gateway.fee_plan SET bps = 777 WHERE currency = 'INR'")
    await as_owner(world, "UPDATE gateway.merchant SET terminal_id = 'K9999999'")
    assert (await terms_of(gw, m, "INR")).plan.bps == before.plan.bps  # what this process remembers
    after = await payments.create(gw, m, NEW, card=card())
    assert (before.plan.bps, after.plan.bps) == (200, 777)
    assert await world.rows("SELECT fee_bps FROM gateway.payment WHERE id = %s", after.id) == [(777,)]
    assert (await terms_of(gw, m, "INR")).merchant.terminal_id == "K9999999"


async def test_stale_terms_claim_no_key(world: World) -> None:
    await create(world, idem("before"))
    await as_owner(world, "UPDATE gateway.fee_plan SET bps = 777")
    assert not (await create(world, idem("k"))).replayed
    assert len(await world.rows("SELECT FROM gateway.idempotency")) == 2


async def test_one_that_cannot_be_written_falls_alone(world: World) -> None:
    """Two payments of one id: the second is against the table's key, and its neighbours stand."""
    gw, m = world.gw, world.merchant.id
    taken = await payments.create(gw, m, NEW)
    given, real = iter([taken.id]), gw.ids
    clumsy = replace(gw, ids=lambda: next(given, None) or real())
    results = await asyncio.gather(
        payments.create(clumsy, m, NEW),
        *(payments.create(gw, m, NEW) for _ in range(5)),
        return_exceptions=True,
    )
    assert isinstance(results[0], psycopg.errors.UniqueViolation)
    assert all(isinstance(r, Payment) for r in results[1:]), results
    assert len(await world.rows("SELECT FROM gateway.payment")) == 6


async def test_what_cannot_be_said_in_json_is_its_own_callers_error(world: World) -> None:
    gw, m = world.gw, world.merchant.id
    results = await asyncio.gather(
        payments.create(gw, m, replace(NEW, metadata={"note": "\ud800"})),
        *(payments.create(gw, m, NEW) for _ in range(3)),
        return_exceptions=True,
    )
    assert isinstance(results[0], TypeError)
    assert all(isinstance(r, Payment) for r in results[1:]), results


async def test_a_connection_that_was_lost_meanwhile_is_replaced(world: World) -> None:
    gw, m = world.gw, world.merchant.id
    await payments.create(gw, m, NEW)
    async with await psycopg.AsyncConnection.connect(world.database.admin_dsn, autocommit=True) as admin:
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%open_payments%' AND pid <> pg_backend_pid()"
        )
    made = await payments.create(gw, m, NEW, card=card())
    assert made.status is PaymentStatus.SUCCEEDED


async def test_what_is_read_to_write_a_payment_does_not_grow_with_the_tables(world: World) -> None:
    """Plans made while the tables are empty go by key all the same, and are kept."""
    gw, m = world.gw, world.merchant.id
    made = await payments.create(gw, m, NEW, idem("first"), card=card())
    terms = await terms_of(gw, m, "INR")
    event: dict[str, Any] = {"merchant_id": m, "type": "payment.created", "object_id": "pay_1", "payload": {}}

    async def read_by_writing(conn: psycopg.AsyncConnection[Any]) -> int:
        """Rows of the gateway's tables that one opening and one change look at; rolled back."""
        new = made.altered(id=gw.ids(), attempts=(), operations=(), funds=())
        event["id"], event["created_at"] = gw.ids(), gw.clock()
        opening = Opening(new, terms.version, (event,)).as_asked()
        query = "SELECT * FROM gateway.open_payments(%s::jsonb)"
        cursor = await conn.execute(query, [orjson.dumps([opening]).decode()], prepare=True)
        assert await cursor.fetchall() == [(new.id, True)]
        last = made.operations[-1]
        key = {"merchant_id": m, "route": "", "key": "first", "status": 200, "body": hexed(b"")}
        rows = store.changes(made, made, now=gw.clock()) | {
            "attempt": ({"id": made.attempts[0].id, "was_state": "captured", "state": "captured"},),
            "operation": (store.operation_state(last) | {"id": last.id, "was_state": last.state},),
            "answer": (key,),
        }
        cursor = await conn.execute(store.CHANGE, {"rows": orjson.dumps([rows]).decode()}, prepare=True)
        assert cursor.rowcount == 3
        read = await conn.execute(
            "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int FROM pg_stat_xact_user_tables"
            " WHERE schemaname = 'gateway'"
        )
        (count,) = await read.fetchone() or (0,)
        await conn.rollback()
        return count

    async with world.psycopg() as conn:
        young = [await read_by_writing(conn) for _ in range(8)][-1]
        await as_owner(
            world,
            "INSERT INTO gateway.merchant SELECT (m.x).* FROM gateway.merchant o, generate_series(1, 300) AS n,"
            " LATERAL (SELECT jsonb_populate_record(o, jsonb_build_object('id', gen_random_uuid(), 'owner',"
            " 'mer_' || lpad(n::text, 26, '0'), 'acceptor_id', 'A' || n, 'terminal_id', 'T' || n)) AS x) AS m",
        )
        await as_owner(
            world,
            "INSERT INTO gateway.fee_plan SELECT id, 'card', 'INR', 1, 0, 0 FROM gateway.merchant"
            " WHERE acceptor_id LIKE 'A%'",
        )
        await asyncio.gather(*(payments.create(gw, m, NEW, idem(f"g{n}"), card=card()) for n in range(100)))
        grown = await read_by_writing(conn)
    assert 0 < grown < young + 40, (young, grown)  # dead rows cost a look each


async def test_an_operation_that_recovery_is_claiming_is_waited_for(world: World) -> None:
    """A claim moves ``next_check_at`` only and does not lock the payment: the change behind it must still stand."""
    made = await payments.create(world.gw, world.merchant.id, NEW, card=card())
    last = made.operations[-1]
    row = store.operation_state(last) | {"id": last.id, "was_state": last.state, "tries": 2}
    rows = store.changes(made, made, now=world.clock()) | {"operation": (row,)}
    async with world.psycopg() as claiming, world.psycopg() as changing:
        await claiming.execute("UPDATE gateway.operation SET review = true WHERE id = %s", [last.id])
        change = asyncio.create_task(
            changing.execute(store.CHANGE.encode(), {"rows": orjson.dumps([rows]).decode()})
        )
        await asyncio.sleep(0.2)
        assert not change.done()
        await claiming.commit()
        assert (await change).rowcount == 2
        await changing.commit()
    assert (await world.get(made)).operations[-1].tries == 2


async def test_a_payment_that_somebody_else_has_changed_is_not_changed(world: World) -> None:
    made = await payments.create(world.gw, world.merchant.id, NEW, card=card())
    rows = store.changes(made, made, now=world.clock())
    async with world.psycopg() as first, world.psycopg() as second:
        params = {"rows": orjson.dumps([rows]).decode()}
        assert (await first.execute(store.CHANGE.encode(), params)).rowcount == 1
        change = asyncio.create_task(second.execute(store.CHANGE.encode(), params))
        await asyncio.sleep(0.2)
        assert not change.done()
        await first.commit()
        assert (await change).rowcount == 0


async def test_an_automatic_payment_is_written_three_times(world: World) -> None:
    """Before the bank is asked, after it has authorized, and after it has captured."""
    made = await payments.create(
        world.gw, world.merchant.id, replace(NEW, capture_method=CaptureMethod.AUTOMATIC), card=card()
    )
    assert await world.rows("SELECT version FROM gateway.payment WHERE id = %s", made.id) == [(2,)]


async def doubled(items: Sequence[int]) -> list[int]:
    if 13 in items:
        raise ValueError(13)
    await asyncio.sleep(0)
    return [2 * item for item in items]


async def test_callers_share_runs_and_an_error_reaches_the_one_it_is_about() -> None:
    runs: list[int] = []

    async def work(items: Sequence[int]) -> list[int]:
        runs.append(len(items))
        return await doubled(items)

    gathered: Gathered[int, int] = Gathered(work, about_one=(ValueError,), most=8)
    results = await asyncio.gather(*(gathered(n) for n in range(20)), return_exceptions=True)
    assert [r for r in results if isinstance(r, int)] == [2 * n for n in range(20) if n != 13]
    assert isinstance(results[13], ValueError)
    assert max(runs) == 8
    assert await gathered(21) == 42


async def test_an_error_about_nobody_reaches_all_at_once() -> None:
    runs: list[int] = []

    async def work(items: Sequence[int]) -> list[int]:
        runs.append(len(items))
        await asyncio.sleep(0)
        raise OSError

    gathered: Gathered[int, int] = Gathered(work, about_one=(ValueError,))
    results = await asyncio.gather(*(gathered(n) for n in range(20)), return_exceptions=True)
    assert all(isinstance(r, OSError) for r in results)
    assert sum(runs) == 20


async def test_who_stops_waiting_stops_nobody() -> None:
    done: list[int] = []

    async def work(items: Sequence[int]) -> list[int]:
        await asyncio.sleep(0.01)
        done.extend(items)
        return list(items)

    gathered: Gathered[int, int] = Gathered(work)
    gone = asyncio.create_task(gathered(1))
    others = asyncio.gather(gathered(2), gathered(3))
    await asyncio.sleep(0)
    gone.cancel()
    assert await others == [2, 3]
    await gathered.ended()
    assert sorted(done) == [1, 2, 3]


async def test_references_are_drawn_ahead_but_not_kept() -> None:
    drawn: list[int] = []

    async def draw(count: int) -> list[int]:
        drawn.append(count)
        first = sum(drawn[:-1])
        await asyncio.sleep(0)
        return list(range(first, first + count))

    numbers, clock = Numbers(), Clock()
    refs = await asyncio.gather(*(numbers.reference(draw, now=clock()) for _ in range(300)))
    assert len({ref.rrn for ref in refs}) == 300
    assert len(drawn) == 2
    clock.forward(seconds=6)
    await numbers.reference(draw, now=clock())
    assert len(drawn) == 3
