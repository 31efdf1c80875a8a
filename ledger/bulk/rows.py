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

from ledger.bulk.batches import Batch, Captures, Places, Text
from ledger.bulk.book import Known
from ledger.bulk.decide import CAPTURE, PLACE, Lines
from ledger.canonical import HOLD_ACTIONS, rfc3339, version_after

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


def _posting(*, held: bool) -> NDArray[np.void]:
    """A row as it is sent but for its values; of a hold's or not."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = [("size", ">i4"), ("columns", ">i4")]

    def column(name: str, *value: tuple[str, str] | tuple[str, str, tuple[int]]) -> None:
        fields.extend([(f"{name}_type", ">i4"), (f"{name}_length", ">i4"), *value])

    for name, oid in _POSTING_COLUMNS:
        column(name, (name, f">i{_SIZE[oid]}"))
    column("hold_action", *([("hold_action", ">i2")] if held else []))
    column("currency", ("currency", "S3"))
    column("hold_id", *([("hold_id", "u1", (16,))] if held else []))
    row = np.zeros(1, np.dtype(fields))
    row["size"], row["columns"] = row.itemsize - 4, len(_POSTING_COLUMNS) + 3
    for name, oid in _POSTING_COLUMNS:
        row[f"{name}_type"], row[f"{name}_length"] = oid, _SIZE[oid]
    row["hold_action_type"], row["hold_action_length"] = _INT2, 2 if held else _NULL
    row["currency_type"], row["currency_length"] = _TEXT, 3
    row["hold_id_type"], row["hold_id_length"] = _UUID, 16 if held else _NULL
    return row


_POSTING, _POSTING_OF_HOLD = _posting(held=False), _posting(held=True)


async def encode(
    known: Known, batch: Batch, lines: Lines, *, recorded_at: datetime
) -> tuple[list[bytes | None], int]:
    """The parameters for the journals after ``known.head``, and the version that the book is at then.

    Gives others their turn in between, such as the connection that a batch before this one is under way on.
    """
    n, first = len(batch), known.head + 1
    path = known.accounts.path
    debit, credit = ([path[number] for number in side.tolist()] for side in lines.account[:: lines.per_row].T)
    texts = canonical_lines(
        known.book, batch, debit, credit, lines.currency, first=first, recorded_at=recorded_at
    )
    canonical, hashes = await texts
    effective_at = batch.effective_at
    version = version_after(known.version, hashes)
    params = [
        struct.pack(">i", known.book_id),
        struct.pack(">q", known.version),
        struct.pack(">q", version),
        struct.pack(">q", first),
        struct.pack(">q", _micros(recorded_at)),
        _array(known.posting_type, len(lines.amount), _postings(known, lines, first)),
        _array(_UUID, n, _fixed(batch.ids)),
        _constant(_TIME, n, None if effective_at is None else struct.pack(">q", _micros(effective_at))),
        _array(_INT8, 0),
        _constant(_INT2, n, None if lines.per_row == 1 else struct.pack(">h", lines.per_row)),
        _word(batch.kind),
        _word(batch.source_type),
        _source_ids(batch),
        _word(batch.source_event),
        _array(_BYTEA, n, _fixed(np.frombuffer(b"".join(hashes), np.uint8).reshape(n, 32))),
        _array(_TEXT, n, *_varying(canonical)),
        *_holds(known, batch, lines),
        None if known.follows is None else struct.pack(">q", known.follows),
    ]
    return params, version


def _postings(known: Known, lines: Lines, first: int) -> memoryview:
    count = len(lines.amount)
    rows = np.repeat(_POSTING if lines.action is None else _POSTING_OF_HOLD, count)
    journal, line = np.divmod(np.arange(count), lines.per_row)
    rows["journal_seq"] = journal + first
    rows["line"] = line + 1
    rows["amount"] = lines.amount
    rows["layer"] = lines.layer
    rows["book_id"] = known.book_id
    rows["currency"] = lines.currency.encode()
    if lines.action is not None:
        rows["hold_action"], rows["hold_id"] = lines.action, lines.hold_ids
    ids = known.accounts.id[lines.account]
    for side, name in enumerate(("debit", "credit")):
        rows[f"{name}_account"] = ids[:, side]
        rows[f"{name}_seq"] = lines.seq[:, side]
        rows[f"{name}_posted"] = lines.posted[:, side]
        rows[f"{name}_available"] = lines.available[:, side]
        rows[f"{name}_incoming"] = lines.incoming[:, side]
    return rows.data


def _holds(known: Known, batch: Batch, lines: Lines) -> list[bytes]:
    """Ids, accounts, tolerances and times of expiry of the holds that are placed."""
    if not isinstance(batch, Places):
        return [_array(oid, 0) for oid in (_UUID, _INT4, _INT4, _INT4, _TIME)]
    n = len(batch)
    debit, credit = known.accounts.id[lines.account].T
    at = batch.expires_at
    return [
        _array(_UUID, n, _fixed(batch.hold_ids)),
        _array(_INT4, n, _fixed(debit.astype(">i4").reshape(n, 1).view(np.uint8))),
        _array(_INT4, n, _fixed(credit.astype(">i4").reshape(n, 1).view(np.uint8))),
        _constant(_INT4, n, struct.pack(">i", batch.tolerance_bps)),
        _nulls(_TIME, n) if at is None else _constant(_TIME, n, struct.pack(">q", _micros(at))),
    ]


async def canonical_lines(
    book: str,
    batch: Batch,
    debit: Sequence[str],
    credit: Sequence[str],
    currency: str,
    *,
    first: int,
    recorded_at: datetime,
) -> tuple[list[bytes], list[bytes]]:
    """The lines of journals ``first`` and those after it, and their leaf hashes.

    ``debit``, ``credit``: the paths of each row's pair, in ``currency``.
    """
    n = len(batch)
    recorded = rfc3339(recorded_at)
    effective = recorded if batch.effective_at is None else rfc3339(batch.effective_at)
    amounts = batch.amount.tolist()
    at_end = f'"}}],"recorded_at":"{recorded}","seq":'
    event = f',"source":{{"event":"{batch.source_event}","id":"'
    tail = f'","type":"{batch.source_type}"}}}}'
    columns = zip(
        _joined(
            f'{{"book":"{book}","description":"',
            _escaped(batch.description),
            f'","effective_at":"{effective}"',
        ),
        _terms(batch, amounts, debit, credit, currency),
        _uuid_texts(batch.ids),
        _middles(batch.kind, batch.metadata),
        _postings_texts(batch, amounts, debit, credit, currency),
        range(first, first + n),
        _escaped(batch.source_ids),
        strict=False,  # what is the same for all rows never ends
    )
    lines: list[bytes] = []
    hashes: list[bytes] = []
    while len(lines) < n:
        part = [
            f'{head}{terms},"id":"{id_}{middle}{postings}{at_end}{seq}{event}{source_id}{tail}'.encode()
            for head, terms, id_, middle, postings, seq, source_id in islice(columns, _SLICE)
        ]
        hashes += [sha256(b"\0" + line).digest() for line in part]
        lines += part
        await asyncio.sleep(0)
    return lines, hashes


def _terms(
    batch: Batch, amounts: Sequence[int], debit: Sequence[str], credit: Sequence[str], currency: str
) -> Iterable[str]:
    """What is asked of a hold, ``ledger.canonical.hold_terms``."""
    if isinstance(batch, Places):
        at = "null" if batch.expires_at is None else f'"{rfc3339(batch.expires_at)}"'
        between = f'","currency":"{currency}","debit":"'
        ids = _uuid_texts(batch.hold_ids)
        return (
            f',"hold":{{"action":"place","amount":"{amount}","credit":"{c}{between}{d}","expires_at":{at},'
            f'"id":"{id_}","tolerance_bps":{batch.tolerance_bps}}}'
            for amount, d, c, id_ in zip(amounts, debit, credit, ids, strict=True)
        )
    if isinstance(batch, Captures):
        return (
            f',"hold":{{"action":"capture","amount":"{amount}","credit":null,"debit":null,"final":true,"id":"{id_}"}}'
            for amount, id_ in zip(amounts, _uuid_texts(batch.hold_ids), strict=True)
        )
    return repeat("")


def _postings_texts(
    batch: Batch, amounts: Sequence[int], debit: Sequence[str], credit: Sequence[str], currency: str
) -> Iterable[str]:
    """From the first line's amount to the last one's layer."""
    between = f'","currency":"{currency}","debit":"'
    rows = zip(amounts, debit, credit, strict=True)
    if isinstance(batch, Places):
        at_end = f'","hold":"{HOLD_ACTIONS[PLACE]}","layer":"pending'
        return (f'{amount}","credit":"{c}{between}{d}{at_end}' for amount, d, c in rows)
    if isinstance(batch, Captures):
        action = f'","hold":"{HOLD_ACTIONS[CAPTURE]}","layer":"'
        return (
            f'-{amount}","credit":"{c}{between}{d}{action}pending"}},'
            f'{{"amount":"{amount}","credit":"{c}{between}{d}{action}posted'
            for amount, d, c in rows
        )
    return (f'{amount}","credit":"{c}{between}{d}","layer":"posted' for amount, d, c in rows)


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


def _array(oid: int, length: int, *elements: bytes | memoryview) -> bytes:
    """One dimension, no nulls, counted from 1; no dimension if it is empty."""
    head = struct.pack(">iiIii", 1, 0, oid, length, 1) if length else struct.pack(">iiI", 0, 0, oid)
    return b"".join((head, *elements))


def _constant(oid: int, length: int, value: bytes | None) -> bytes:
    """The same for all; empty if there is none."""
    if value is None:
        return _array(oid, 0)
    return _array(oid, length, (len(value).to_bytes(4, "big") + value) * length)


def _nulls(oid: int, length: int) -> bytes:
    return struct.pack(">iiIii", 1, 1, oid, length, 1) + struct.pack(">i", _NULL) * length


def _word(word: str) -> bytes:
    """One for all journals."""
    return _array(_TEXT, 1, *_varying([word.encode()]))


def _source_ids(batch: Batch) -> bytes:
    n = len(batch)
    lengths = set(map(len, batch.source_ids))
    if len(lengths) > 1:
        return _array(_TEXT, n, *_varying([id_.encode() for id_ in batch.source_ids]))
    together = np.frombuffer("".join(batch.source_ids).encode(), np.uint8)  # ASCII: a byte each
    return _array(_TEXT, n, _fixed(together.reshape(n, *lengths)))


def _fixed(rows: NDArray[np.uint8]) -> memoryview:
    """Elements of one size, each after its length."""
    n, size = rows.shape
    out = np.empty(n, [("length", ">i4"), ("value", np.uint8, (size,))])
    out["length"], out["value"] = size, rows
    return out.data


def _varying(values: Sequence[bytes]) -> list[bytes]:
    parts = [b""] * (2 * len(values))
    lengths = np.array([len(value) for value in values], ">i4").tobytes()
    parts[::2] = [lengths[at : at + 4] for at in range(0, len(lengths), 4)]
    parts[1::2] = values
    return parts


def _micros(at: datetime) -> int:
    """Since 2000-01-01, PostgreSQL's binary timestamptz."""
    return (at - _EPOCH) // _MICROSECOND
