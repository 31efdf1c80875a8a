"""The rows of a batch that stands, as the parameters of ``ledger.append``: binary arrays, one a column.

The canonical lines are what ``ledger.canonical.canonical_line`` writes for the same journals, byte by byte.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice, repeat

import numpy as np
from numpy.typing import NDArray

from ledger.bulk.book import Known
from ledger.bulk.decide import Legs
from ledger.bulk.transfers import Text, Transfers
from ledger.canonical import rfc3339

SQL = f"SELECT ledger.append({', '.join(f'${n}' for n in range(1, 23))})".encode()
_INFERRED = 0
TYPES = (
    *(23, 20, 20, 20, 1184, _INFERRED, 2951, 1185, 1016, 1005, 1009, 1009, 1009, 1009, 1001, 1009),
    *(2951, 1007, 1007, 1007, 1185, 20),
)

_INT2, _INT4, _INT8, _BYTEA, _TEXT, _TIME, _UUID = 21, 23, 20, 17, 25, 1184, 2950
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SLICE = 500  # rows that are encoded before others get their turn
_NULL = -1

# A posting in an array: its length, its number of columns, then each column's type, length and value; as in the table.
_POSTING_COLUMNS = (
    *((name, _INT8) for name in (
        "journal_seq", "amount", "debit_seq", "debit_posted", "debit_available", "debit_incoming",
        "credit_seq", "credit_posted", "credit_available", "credit_incoming")),
    *((name, _INT4) for name in ("book_id", "debit_account", "credit_account")),
    *((name, _INT2) for name in ("line", "layer")),
)  # fmt: skip
_SIZE = {_INT2: 2, _INT4: 4, _INT8: 8}


def _posting_dtype() -> np.dtype[np.void]:
    fields: list[tuple[str, str]] = [("size", ">i4"), ("columns", ">i4")]
    for name, oid in _POSTING_COLUMNS:
        fields += [(f"{name}_type", ">i4"), (f"{name}_length", ">i4"), (name, f">i{_SIZE[oid]}")]
    fields += [("hold_action_type", ">i4"), ("hold_action_length", ">i4")]
    fields += [("currency_type", ">i4"), ("currency_length", ">i4"), ("currency", "S3")]
    fields += [("hold_id_type", ">i4"), ("hold_id_length", ">i4")]
    return np.dtype(fields)


_POSTING = _posting_dtype()


def _posting_template() -> NDArray[np.void]:
    row = np.zeros(1, _POSTING)
    row["size"], row["columns"] = _POSTING.itemsize - 4, len(_POSTING_COLUMNS) + 3
    for name, oid in _POSTING_COLUMNS:
        row[f"{name}_type"], row[f"{name}_length"] = oid, _SIZE[oid]
    row["hold_action_type"], row["hold_action_length"] = _INT2, _NULL
    row["currency_type"], row["currency_length"] = _TEXT, 3
    row["hold_id_type"], row["hold_id_length"] = _UUID, _NULL
    row["line"] = 1
    return row


_TEMPLATE = _posting_template()


async def encode(
    known: Known, transfers: Transfers, legs: Legs, *, version: int, recorded_at: datetime
) -> list[bytes | None]:
    """The parameters for the journals after ``known.head``; the book is at ``version`` then.

    Gives others their turn in between, such as the connection that a batch before this one is under way on.
    """
    n, first = len(transfers), known.head + 1
    lines, hashes = await canonical_lines(known.book, transfers, first, recorded_at)
    effective_at = transfers.effective_at
    none = {oid: _array(oid, 0, b"") for oid in (_TIME, _INT8, _INT2, _INT4, _UUID)}
    return [
        struct.pack(">i", known.book_id),
        struct.pack(">q", known.version),
        struct.pack(">q", version),
        struct.pack(">q", first),
        struct.pack(">q", _micros(recorded_at)),
        _array(known.posting_type, n, _postings(known, transfers, legs, first)),
        _array(_UUID, n, _fixed(transfers.ids)),
        none[_TIME]
        if effective_at is None
        else _array(_TIME, n, struct.pack(">iq", 8, _micros(effective_at)) * n),
        none[_INT8],
        none[_INT2],
        _word(transfers.kind),
        _word(transfers.source_type),
        _array(_TEXT, n, _varying([id_.encode() for id_ in transfers.source_ids])),
        _word(transfers.source_event),
        _array(_BYTEA, n, _fixed(np.frombuffer(b"".join(hashes), np.uint8).reshape(n, 32))),
        _array(_TEXT, n, _varying(lines)),
        *(none[_UUID], none[_INT4], none[_INT4], none[_INT4], none[_TIME]),
        None if known.follows is None else struct.pack(">q", known.follows),
    ]


def _postings(known: Known, transfers: Transfers, legs: Legs, first: int) -> bytes:
    rows = np.repeat(_TEMPLATE, len(transfers))
    rows["journal_seq"] = np.arange(first, first + len(transfers))
    rows["amount"] = transfers.amount
    rows["book_id"] = known.book_id
    rows["currency"] = transfers.currency.encode()
    numbers = known.accounts.id[legs.account]
    for side, name in enumerate(("debit", "credit")):
        rows[f"{name}_account"] = numbers[:, side]
        rows[f"{name}_seq"] = legs.seq[:, side]
        rows[f"{name}_posted"] = legs.posted[:, side]
        rows[f"{name}_available"] = legs.available[:, side]
        rows[f"{name}_incoming"] = legs.incoming[:, side]
    return rows.tobytes()


async def canonical_lines(
    book: str, transfers: Transfers, first: int, recorded_at: datetime
) -> tuple[list[bytes], list[bytes]]:
    """Canonical lines and their leaf hashes."""
    n = len(transfers)
    recorded = rfc3339(recorded_at)
    effective = recorded if transfers.effective_at is None else rfc3339(transfers.effective_at)
    paths = transfers.paths
    # Every value between two constants, in the order of their keys (JCS); the constants in the line below.
    heads = _joined(
        f'{{"book":"{book}","description":"',
        _escaped(transfers.description),
        f'","effective_at":"{effective}","id":"',
    )
    middles = _middles(transfers.kind, transfers.metadata)
    between = f'","currency":"{transfers.currency}","debit":"'
    at_end = f'","layer":"posted"}}],"recorded_at":"{recorded}","seq":'
    event = f',"source":{{"event":"{transfers.source_event}","id":"'
    tail = f'","type":"{transfers.source_type}"}}}}'
    columns = zip(
        heads,
        _uuid_texts(transfers.ids),
        middles,
        transfers.amount.tolist(),
        [paths[place] for place in transfers.credit.tolist()],
        [paths[place] for place in transfers.debit.tolist()],
        range(first, first + n),
        _escaped(transfers.source_ids),
        strict=False,  # what is the same for all rows never ends
    )
    lines: list[bytes] = []
    hashes: list[bytes] = []
    while len(lines) < n:
        part = [
            f'{head}{id_}{middle}{amount}","credit":"{credit}{between}{debit}{at_end}{seq}{event}{source_id}{tail}'.encode()
            for head, id_, middle, amount, credit, debit, seq, source_id in islice(columns, _SLICE)
        ]
        hashes += [sha256(b"\0" + line).digest() for line in part]
        lines += part
        await asyncio.sleep(0)
    return lines, hashes


def _middles(kind: str, metadata: Mapping[str, Text]) -> Iterable[str]:
    before = f'","kind":"{kind}","metadata":{{'
    pieces: list[Text] = []
    for key, value in metadata.items():  # in the order of their keys
        pieces += [f'{before}"{key}":"', _escaped(value)]
        before = '",'
    end = '"},' if metadata else f"{before}}},"
    return _joined(*pieces, f'{end}"postings":[{{"amount":"')


def _joined(*pieces: Text) -> Iterable[str]:
    """The pieces of each row in one."""
    if all(isinstance(piece, str) for piece in pieces):
        return repeat("".join(pieces))  # type: ignore[arg-type]
    return map(
        "".join, zip(*(repeat(piece) if isinstance(piece, str) else piece for piece in pieces), strict=False)
    )


def _escaped(text: Text) -> Text:
    """As it stands within quotes in JSON. What is printable needs no other escapes."""
    if isinstance(text, str):
        return text.replace("\\", "\\\\").replace('"', '\\"')
    together = "".join(text)
    return [str(_escaped(value)) for value in text] if '"' in together or "\\" in together else text


def _uuid_texts(ids: NDArray[np.uint8]) -> list[str]:
    digits = np.frombuffer(ids.tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    texts = np.full((len(ids), 37), ord("-"), np.uint8)
    for at, begin, end in ((0, 0, 8), (9, 8, 12), (14, 12, 16), (19, 16, 20), (24, 20, 32)):
        texts[:, at : at + end - begin] = digits[:, begin:end]
    texts[:, 36] = ord(" ")
    return texts.tobytes().decode().split()


def _array(oid: int, length: int, elements: bytes) -> bytes:
    """One dimension, no nulls, counted from 1; no dimension if it is empty."""
    head = struct.pack(">iiIii", 1, 0, oid, length, 1) if length else struct.pack(">iiI", 0, 0, oid)
    return head + elements


def _word(word: str) -> bytes:
    """One for all journals."""
    return _array(_TEXT, 1, _varying([word.encode()]))


def _fixed(rows: NDArray[np.uint8]) -> bytes:
    """Elements of one size, each after its length."""
    n, size = rows.shape
    out = np.empty(n, [("length", ">i4"), ("value", np.uint8, (size,))])
    out["length"], out["value"] = size, rows
    return out.tobytes()


def _varying(values: Sequence[bytes]) -> bytes:
    parts = [b""] * (2 * len(values))
    lengths = np.array([len(value) for value in values], ">i4").tobytes()
    parts[::2] = [lengths[at : at + 4] for at in range(0, len(lengths), 4)]
    parts[1::2] = values
    return b"".join(parts)


def _micros(at: datetime) -> int:
    """Since 2000-01-01, PostgreSQL's binary timestamptz."""
    return (at - _EPOCH) // _MICROSECOND
