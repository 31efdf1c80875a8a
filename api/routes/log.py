"""The transparency log over HTTP: C2SP tlog-tiles, proofs, keys. Hashes are public and cacheable; entries are not."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from litestar import Response, get
from psycopg import AsyncConnection

from api.answers import JSON, as_answer
from api.errors import EntryTooLong, NotFound
from api.operation import ApiRequest, Operation, RouteArguments, declares
from api.policy import Audience, Policy, Scope
from api.schemas.base import View
from api.schemas.log import (
    ConsistencyProof,
    ConsistencyQuery,
    InclusionProof,
    InclusionQuery,
    LogKeyEntry,
    LogKeyList,
    base64_of,
)
from ledger import read
from ledger.books import find_book
from ledger.log import leaves, proofs, tiles
from ledger.log.keys import load_keys

Conn = AsyncConnection[Any]

_TAG = "Transparency log"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
_LEVEL = re.compile(r"0|[1-9][0-9]?")
_TILE = re.compile(r"/?((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_HIGHEST_LEVEL = 63
_FOREVER = "max-age=31536000, immutable"
_SOON = "public, max-age=2"
# Anybody may verify, from a page of his own, too.
_SHARED = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
LONGEST_ENTRY = 2**16 - 1


def _paths(of: str) -> list[str]:
    return [f"/v1/log/{of}", f"/v1/books/{{book:str}}/log/{of}"]


def _public(summary: str, answer: type[View] | tuple[str, ...], query: Any = None) -> RouteArguments:
    return declares(Policy(None), Operation(summary, _TAG, answer, query=query, problems=(404, 429)))


async def _book(request: ApiRequest, conn: Conn) -> int:
    """The book that the path names, or the platform's own; takes from the caller's rate."""
    name = request.path_params.get("book")
    if request.scope.get("auth") is None:
        request.deps.stranger_rate.take(request.address)
    book_id = request.deps.book_id if name is None else await find_book(conn, str(name))
    if book_id is None:
        raise NotFound
    return book_id


def _view(model: View, *, fixed: bool) -> Response[bytes]:
    """``fixed``: the answer is the same for ever."""
    return as_answer(model.json_bytes(), media_type=JSON, headers=_headers(fixed=fixed))


def _headers(*, fixed: bool) -> dict[str, str]:
    return _SHARED | {"Cache-Control": f"public, {_FOREVER}" if fixed else _SOON}


@get(_paths("checkpoint"), **_public("The last checkpoint", (TEXT,)))
async def get_checkpoint(request: ApiRequest) -> Response[bytes]:
    """A signed note (C2SP tlog-checkpoint) with the cosignatures of witnesses that there are."""
    async with request.deps.pool.connection() as conn:
        book_id = await _book(request, conn)
        last = await proofs.last_checkpoint(conn, book_id)
        if last is None:
            raise NotFound
        note = await proofs.cosigned(conn, book_id, last)
    return as_answer(note.encode(), media_type=TEXT, headers=_headers(fixed=False))


@get(_paths("keys"), **_public("The log's keys", LogKeyList))
async def get_log_keys(request: ApiRequest) -> Response[bytes]:
    """Each was endorsed by the one before it; while their times overlap, all of them sign."""
    async with request.deps.pool.connection() as conn:
        keys = await load_keys(conn, await _book(request, conn))
    if not keys:
        raise NotFound
    entries = [LogKeyEntry.of(key) for key in keys]
    return _view(LogKeyList.model_construct(origin=keys[0].verifier.name, data=entries), fixed=False)


@get(
    _paths("proof/inclusion"), **_public("Prove that an entry is in the log", InclusionProof, InclusionQuery)
)
async def get_inclusion_proof(request: ApiRequest) -> Response[bytes]:
    """RFC 9162 §2.1.3. A journal that is not sealed yet answers 404."""
    asked = request.asked(InclusionQuery)
    async with request.deps.pool.connection() as conn:
        book_id = await _book(request, conn)
        index, size = asked.index, asked.size or await proofs.log_size(conn, book_id)
        if asked.journal is not None:
            journal = await read.journal_by_id(conn, book_id, asked.journal)
            index = journal and await proofs.leaf_index(conn, book_id, "journal", journal.seq)
        if index is None:
            raise NotFound
        path = await proofs.inclusion(conn, book_id, index, size)
    proof = InclusionProof.model_construct(tree_size=size, leaf_index=index, inclusion_path=base64_of(path))
    return _view(proof, fixed=asked.size is not None)


@get(
    _paths("proof/consistency"),
    **_public("Prove that the log has only grown", ConsistencyProof, ConsistencyQuery),
)
async def get_consistency_proof(request: ApiRequest) -> Response[bytes]:
    """RFC 9162 §2.1.4. From an empty tree, and between trees of one size, the path is empty."""
    asked = request.asked(ConsistencyQuery)
    async with request.deps.pool.connection() as conn:
        book_id = await _book(request, conn)
        size = await proofs.log_size(conn, book_id) if asked.second is None else asked.second
        path = await proofs.consistency(conn, book_id, asked.first, size)
    proof = ConsistencyProof.model_construct(
        tree_size_1=asked.first, tree_size_2=size, consistency_path=base64_of(path)
    )
    return _view(proof, fixed=asked.second is not None)


class Tile(NamedTuple):
    number: int
    width: int

    @classmethod
    def parse(cls, text: str) -> Tile:
        """Of ``x001/x234/067`` or ``x001/x234/067.p/8``, in its one spelling. Raises ``NotFound``."""
        found = _TILE.fullmatch(text)
        if found is None:
            raise NotFound
        number = int(found[1].replace("/", "").replace("x", ""))
        width = tiles.WIDTH if found[2] is None else int(found[2])
        if (found[2] is not None and width >= tiles.WIDTH) or tile_path(number) != found[1]:
            raise NotFound
        return cls(number, width)


def tile_path(number: int) -> str:
    """C2SP tlog-tiles: ``x001/x234/067`` for 1234067."""
    parts = [f"{number % 1000:03}"]
    while number := number // 1000:
        parts.insert(0, f"x{number % 1000:03}")
    return "/".join(parts)


async def _tile(request: ApiRequest, conn: Conn, level: int) -> tuple[int, Tile]:
    """The book and the tile that the path names. Raises ``NotFound`` if the log has not so many hashes yet."""
    asked = Tile.parse(str(request.path_params["tile"]))
    book_id = await _book(request, conn)
    if asked.width > tiles.width(await proofs.log_size(conn, book_id), level, asked.number):
        raise NotFound
    return book_id, asked


@get(_paths("tile/{level:str}/{tile:path}"), **_public("A tile of hashes", (BYTES,)))
async def get_tile(request: ApiRequest) -> Response[bytes]:
    """C2SP tlog-tiles: 256 hashes of one level, or with `.p/W` at the end of its path the first W. It never changes."""
    level = str(request.path_params["level"])
    if not _LEVEL.fullmatch(level) or int(level) > _HIGHEST_LEVEL:
        raise NotFound
    async with request.deps.pool.connection() as conn:
        book_id, tile = await _tile(request, conn, int(level))
        hashes = await tiles.read_tile(conn, book_id, int(level), tile.number, tile.width)
    return as_answer(hashes, media_type=BYTES, headers=_headers(fixed=True))


@get(
    _paths("tile/entries/{tile:path}"),
    **declares(
        Policy(Scope.EXPORTS_READ, Audience.PLATFORM),
        Operation("The entries of a tile", _TAG, (BYTES,), problems=(404, 422)),
    ),
)
async def get_entries(request: ApiRequest) -> Response[bytes]:
    """C2SP tlog-tiles: the preimages of the leaf hashes of tile 0/N, each after its length (two bytes, big-endian).
    A bundle with an entry of 64 KiB or more cannot be written so: the export has it."""
    async with request.deps.pool.connection() as conn:
        book_id, tile = await _tile(request, conn, 0)
        begin = tile.number * tiles.WIDTH
        body = b"".join(
            [
                _prefixed(line)
                async for chunk in leaves.chunks(conn, book_id, begin, begin + tile.width)
                for line in chunk.lines
            ]
        )
    return as_answer(body, media_type=BYTES, headers={"Cache-Control": f"private, {_FOREVER}"})


def _prefixed(line: bytes) -> bytes:
    if len(line) > LONGEST_ENTRY:
        raise EntryTooLong(len(line))
    return len(line).to_bytes(2) + line


routes = (
    *(get_checkpoint, get_log_keys, get_inclusion_proof, get_consistency_proof),
    *(get_tile, get_entries),
)
