"""The log over HTTP: a stranger rebuilds the tree from it, and what he was told once is so for ever."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import Any

import httpx

from api.routes.log import tile_path
from ledger import model as m
from ledger.books import create_book, open_accounts
from ledger.log.checkpoint import Checkpoint
from ledger.log.merkle import includes, leaf_hash, root
from ledger.log.note import Verifier, opened
from tests.api.conftest import Api
from tests.witness.trees import mth, path, proof

CASH, SALES = "Assets:Cash", "Income:Sales"
FOREVER = "max-age=31536000, immutable"


async def open_shop(api: Api) -> None:
    await api.open(m.NewAccount(CASH, "INR"), m.NewAccount(SALES, "INR"))


async def sell(api: Api, count: int) -> list[Any]:
    return await asyncio.gather(*(api.move(CASH, SALES, 1 + n) for n in range(count)))


async def checkpoint_of(api: Api, prefix: str = "/v1/log") -> Checkpoint:
    """The last one, with its signature verified."""
    keys = (await api.http.get(f"{prefix}/keys")).json()["data"]
    note = (await api.http.get(f"{prefix}/checkpoint")).content
    return Checkpoint.opened(note, [Verifier.parse(key["vkey"]) for key in keys])


def unpacked(bundle: bytes) -> list[bytes]:
    """The entries of a bundle (c2sp.org/tlog-tiles)."""
    entries: list[bytes] = []
    while bundle:
        length = int.from_bytes(bundle[:2])
        assert len(bundle) >= 2 + length
        entries.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    return entries


async def all_entries(api: Api, size: int, prefix: str = "/v1/log") -> list[bytes]:
    """Of the log, as a reader of the exports gets them."""
    reader = await api.caller(None, frozenset({"exports:read"}))
    found: list[bytes] = []
    for number in range(-(-size // 256)):
        width = min(256, size - 256 * number)
        answer = await reader.get(
            f"{prefix}/tile/entries/{tile_path(number)}" + (f".p/{width}" if width < 256 else "")
        )
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
        assert answer.headers["cache-control"] == f"private, {FOREVER}"
        found += unpacked(answer.content)
    return found


def hashes(proof: list[str]) -> list[bytes]:
    return [b64decode(each, validate=True) for each in proof]


async def test_before_anything_is_sealed_there_is_nothing(api: Api) -> None:
    await open_shop(api)
    (id_,) = await sell(api, 1)
    for name in (
        "checkpoint",
        "keys",
        "tile/0/000",
        f"proof/inclusion?journal={id_}",
        "proof/inclusion?index=0",
    ):
        answer = await api.http.get(f"/v1/log/{name}")
        assert answer.status_code == 404, name
        assert answer.headers["cache-control"] == "no-store", name
    caller = await api.caller(None)
    receipt = await caller.get(f"/v1/journals/{id_}/receipt")
    assert (receipt.status_code, receipt.json()["code"]) == (503, "log_not_begun")
    assert receipt.headers["retry-after"] == "2"


async def test_a_stranger_rebuilds_the_root_from_tiles_and_a_reader_of_the_exports_from_entries(
    api: Api,
) -> None:
    await open_shop(api)
    await sell(api, 270)
    await api.seal()
    checkpoint = await checkpoint_of(api)
    assert (checkpoint.origin, checkpoint.size) == ("khata.test/main", 272)
    answers = [await api.http.get(f"/v1/log/tile/{tile}") for tile in ("0/000", "0/001.p/16", "1/000.p/1")]
    for answer in answers:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
        assert answer.headers["cache-control"] == f"public, {FOREVER}"
    full, rest, above = [answer.content for answer in answers]
    assert [len(tile) for tile in (full, rest, above)] == [8192, 16 * 32, 32]
    assert root(full) == above
    assert root(full + rest) == checkpoint.root
    entries = await all_entries(api, checkpoint.size)
    assert b"".join(map(leaf_hash, entries)) == full + rest
    assert mth(entries) == checkpoint.root


async def test_what_was_served_for_ever_is_so_when_the_log_has_grown(api: Api) -> None:
    await open_shop(api)
    await sell(api, 10)
    await api.seal()
    names = ("tile/0/000.p/12", "proof/inclusion?index=3&size=12", "proof/consistency?from=5&to=12")
    before = [(await api.http.get(f"/v1/log/{name}")).content for name in names]
    await sell(api, 300)
    await api.seal()
    after = [await api.http.get(f"/v1/log/{name}") for name in names]
    assert [answer.content for answer in after] == before
    assert {answer.headers["cache-control"] for answer in after} == {f"public, {FOREVER}"}
    current = await api.http.get("/v1/log/checkpoint")
    assert current.headers["content-type"] == "text/plain; charset=utf-8"
    assert current.headers["cache-control"] == "public, max-age=2"


NO_TILES = (
    *("0/001", "0/000.p/13", "0/000.p/0", "0/000.p/012", "0/000.p/256", "0/000.p/-1", "0/000/p/1"),
    *("0/x000/000", "0/000/000", "0/0", "0/x00", "0/x001", "0/0000", "00/000", "64/000", "-1/000", "a/000"),
    *("1/000.p/1", "0/000.p/", "0/001.p/1", "0/x999/x999/x999/x999/x999/x999/999", "entries/001.p/1"),
)


async def test_a_tile_that_is_not_there_or_spelled_otherwise_is_404(api: Api) -> None:
    await open_shop(api)
    await sell(api, 10)
    await api.seal()
    caller = await api.caller(None)
    for name in NO_TILES:
        answer = await caller.get(f"/v1/log/tile/{name}")
        assert answer.status_code == 404, (name, answer.text)
        assert answer.headers["cache-control"] == "no-store"


async def test_proofs_are_those_of_the_rfc(api: Api) -> None:
    await open_shop(api)
    ids = await sell(api, 25)
    await api.seal()
    entries = await all_entries(api, 27)
    checkpoint = await checkpoint_of(api)
    for index, size in ((0, 1), (0, 27), (26, 27), (13, 20), (7, 8)):
        found = (await api.http.get("/v1/log/proof/inclusion", params={"index": index, "size": size})).json()
        assert (found["tree_size"], found["leaf_index"]) == (size, index)
        assert hashes(found["inclusion_path"]) == path(index, entries[:size])
    for first, second in ((0, 27), (1, 27), (8, 27), (13, 20), (27, 27), (16, 17)):
        asked = {"from": first, "to": second}
        found = (await api.http.get("/v1/log/proof/consistency", params=asked)).json()
        assert (found["tree_size_1"], found["tree_size_2"]) == (first, second)
        assert hashes(found["consistency_path"]) == proof(first, entries[:second])
    journal = (await api.http.get("/v1/log/proof/inclusion", params={"journal": str(ids[4])})).json()
    leaf = leaf_hash(entries[journal["leaf_index"]])
    shown = hashes(journal["inclusion_path"])
    assert includes(leaf, journal["leaf_index"], journal["tree_size"], shown, checkpoint.root)


UNKNOWN = "01a20393-0862-757d-bf44-c271735de994"
NO_PROOFS = {
    "inclusion": 422,
    f"inclusion?index=1&journal={UNKNOWN}": 422,
    "inclusion?index=-1": 422,
    "inclusion?index=x": 422,
    "inclusion?index=9": 404,
    "inclusion?index=0&size=9": 404,
    "inclusion?index=3&size=3": 404,
    f"inclusion?journal={UNKNOWN}": 404,
    "consistency": 422,
    "consistency?from=3&to=2": 404,
    "consistency?from=1&to=99": 404,
    "consistency?from=99": 404,
}


async def test_a_proof_of_what_is_not_so_is_refused(api: Api) -> None:
    await open_shop(api)
    await sell(api, 3)
    await api.seal()
    found = {query: (await api.http.get(f"/v1/log/proof/{query}")).status_code for query in NO_PROOFS}
    assert found == NO_PROOFS


async def test_each_book_has_its_own_log_under_its_name(api: Api) -> None:
    async with api.deps.pool.connection() as conn:
        second = await create_book(conn, name="second", now=api.clock())
    await open_shop(api)
    await api.seal()
    assert (await api.http.get("/v1/books/second/log/checkpoint")).status_code == 404
    assert (await api.http.get("/v1/books/nowhere/log/checkpoint")).status_code == 404
    main = await checkpoint_of(api, "/v1/books/main/log")
    assert main == await checkpoint_of(api)
    async with api.deps.pool.connection() as conn:
        await open_accounts(conn, second, [m.NewAccount(CASH, "INR")], now=api.clock())
    await api.seal(second)
    other = await checkpoint_of(api, "/v1/books/second/log")
    assert (other.origin, other.size) == ("khata.test/second", 1)
    assert await all_entries(api, 1, "/v1/books/second/log") != await all_entries(api, 1)


async def test_entries_are_for_those_who_may_export(api: Api) -> None:
    await open_shop(api)
    await api.seal()
    merchant = await api.caller(await api.merchant())
    journals = await api.caller(None, frozenset({"journals:read"}))
    name = "/v1/log/tile/entries/000.p/2"
    assert [(await who.get(name)).status_code for who in (api.http, merchant, journals)] == [401, 403, 403]
    assert (await api.http.get("/v1/log/tile/0/000.p/2")).status_code == 200


async def test_an_entry_that_no_bundle_can_hold_is_refused_and_its_hash_is_served(api: Api) -> None:
    long = [f"Assets:{'A' * 60}:{'B' * 60}:{n}" for n in range(2)]
    await api.open(*(m.NewAccount(name, "INR") for name in long))
    postings = tuple(m.Posting(long[0], long[1], n + 1, "INR") for n in range(1000))
    journal = m.Journal(api.deps.gateway.ids(), "transfer", m.Source("test", "long", "done"), postings)
    await api.deps.gateway.writers(api.deps.book_id).submit(m.Unit((journal,)))
    await api.seal()
    caller = await api.caller(None)
    answer = await caller.get("/v1/log/tile/entries/000.p/3")
    assert (answer.status_code, answer.json()["code"]) == (422, "entry_too_long")
    assert (await caller.get("/v1/log/tile/entries/000.p/2")).status_code == 200
    assert (await api.http.get("/v1/log/tile/0/000.p/3")).status_code == 200


async def test_strangers_have_a_rate(api: Api) -> None:
    api.deps.stranger_rate.__dict__["_burst"] = 2.0
    api.deps.stranger_rate.__dict__["_per_second"] = 1e-6
    assert [(await api.http.get("/v1/log/checkpoint")).status_code for _ in range(3)] == [404, 404, 429]


def judged(receipt: dict[str, Any], keys: list[Verifier]) -> bool:
    """Whether it has a proof, which holds then; its statement is signed and says what it says."""
    said = opened(receipt["statement"], keys).split("\n")
    assert said == [
        "khata receipt",
        keys[0].name,
        receipt["journal"],
        str(receipt["seq"]),
        receipt["leaf_hash"],
        "",
    ]
    sealed = receipt["inclusion"]
    if sealed is None:
        return False
    checkpoint = Checkpoint.opened(sealed["checkpoint"], keys)
    assert checkpoint.size == sealed["tree_size"]
    shown = hashes(sealed["inclusion_path"])
    leaf = bytes.fromhex(receipt["leaf_hash"])
    assert includes(leaf, sealed["leaf_index"], checkpoint.size, shown, checkpoint.root)
    return True


async def test_a_receipt_is_a_statement_at_once_and_a_proof_once_it_is_sealed(api: Api) -> None:
    merchant = await api.merchant()
    wallet = await api.wallet(merchant, "c1", 0)
    await api.seal()
    id_ = await api.move("Equity:Opening", wallet, 700)
    caller = await api.caller(merchant)
    listed = (await api.http.get("/v1/log/keys")).json()
    keys = [Verifier.parse(key["vkey"]) for key in listed["data"]]
    assert listed["origin"] == keys[0].name == "khata.test/main"
    first = (await caller.get(f"/v1/journals/{id_}/receipt")).json()
    assert (first["journal"], first["book"]) == (str(id_), "main")
    assert judged(first, keys) is False
    await api.seal()
    second = (await caller.get(f"/v1/journals/{id_}/receipt")).json()
    assert judged(second, keys) is True
    assert {**second, "inclusion": None} == first
    await api.move("Equity:Opening", wallet, 1)
    await api.seal()
    assert (await caller.get(f"/v1/journals/{id_}/receipt")).json() == second


async def test_another_merchants_receipt_is_one_that_is_not_there(api: Api) -> None:
    mine, other = await api.merchant("Chai Point"), await api.merchant("Dosa Corner")
    wallet = await api.wallet(other, "c1", 0)
    await api.seal()
    id_ = await api.move("Equity:Opening", wallet, 700)
    caller = await api.caller(mine)

    async def ask(journal: Any) -> tuple[int, dict[str, Any]]:
        answer: httpx.Response = await caller.get(f"/v1/journals/{journal}/receipt")
        return answer.status_code, {k: v for k, v in answer.json().items() if k != "instance"}

    assert await ask(id_) == await ask(UNKNOWN) == await ask("nonsense")
    assert (await ask(id_))[0] == 404


async def test_head_is_answered_like_get_without_a_body(api: Api) -> None:
    await open_shop(api)
    await sell(api, 3)
    await api.seal()
    reader = await api.caller(None)
    for prefix in ("/v1/log", "/v1/books/main/log"):
        for name in ("checkpoint", "keys", "tile/0/000.p/3", "tile/entries/000.p/3", "tile/0/007", "nothing"):
            got = await reader.get(f"{prefix}/{name}")
            head = await api.http.head(f"{prefix}/{name}", headers=reader.headers)
            assert (head.status_code, head.content) == (got.status_code, b""), name
            for header in ("content-type", "content-length", "cache-control"):
                assert head.headers[header] == got.headers[header], (name, header)
    assert (await api.http.head("/v1/log/tile/entries/000.p/3")).status_code == 401
    assert (await api.http.head("/v1/payments", headers=reader.headers)).status_code == 405
