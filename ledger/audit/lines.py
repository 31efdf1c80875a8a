"""The canonical line of a journal, rebuilt from its rows: equal bytes prove the form and every field at once.

RFC 8785 (JCS) restricted to what a journal holds: objects with ASCII keys, strings, integers below 2^53, booleans
and null; for these, compact JSON with sorted keys and minimal escapes is JCS. Nothing here shares code with what
wrote the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from ledger.audit.accounts import Account
from ledger.audit.rows import JournalRow, PostingRow

_LAYERS = {0: "posted", 1: "pending"}
_ACTIONS = dict(enumerate(("place", "increase", "capture", "release", "expire")))
_PLACE, _INCREASE, _CAPTURE, _RELEASE = range(4)
_COLUMN_BY_FIELD = {"debit": "debit_account", "credit": "credit_account", "hold": "hold_action"}

Fields = dict[str, Any]


class Difference(NamedTuple):
    """``stored`` is what the row says, ``said`` what the canonical line says.

    ``line``: number of the posting, None where it is the journal's own field; ``posting``: its row, if there is one.
    """

    field: str
    stored: object
    said: object
    line: int | None = None
    posting: PostingRow | None = None


def leaf_hash(canonical: bytes) -> bytes:
    """RFC 9162 section 2.1.1."""
    return sha256(b"\x00" + canonical).digest()


def parse(canonical: bytes) -> Fields | None:
    """The line's fields; None if it is no JSON object."""
    try:
        fields = orjson.loads(canonical)
    except orjson.JSONDecodeError:
        return None
    return fields if isinstance(fields, dict) else None


def rebuild(
    book: str,
    journal: JournalRow,
    postings: Sequence[PostingRow],
    accounts: Mapping[int, Account],
    said: Fields,
) -> Fields:
    """The fields as the rows have them; ``said`` gives only what no column holds: description, metadata, hold terms
    and what was asked of a posting that books as much as is available."""
    asked = _asked_of(said.get("postings"), len(postings))
    fields: Fields = {
        "book": book,
        "description": _text(said.get("description")),
        "effective_at": journal.effective_at,
        "id": journal.id,
        "kind": journal.kind,
        "metadata": _texts(said.get("metadata")),
        "postings": [_posting(p, accounts, up_to) for p, up_to in zip(postings, asked, strict=True)],
        "recorded_at": journal.recorded_at,
        "seq": journal.seq,
        "source": {"event": journal.source_event, "id": journal.source_id, "type": journal.source_type},
    }
    if journal.reverses is not None:
        fields["reverses"] = journal.reverses
    # Stands in the line alone; that the period was closed is checked against its facts (periods).
    requested = _text(said.get("requested_effective_at"))
    if requested is not None and requested < journal.effective_at:
        fields["requested_effective_at"] = requested
    held = [p for p in postings if p.hold_action is not None]
    if held:
        fields["hold"] = _hold(held, accounts, said.get("hold"))
    return fields


def serialise(fields: Fields) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def _text(value: object) -> str | None:
    return value if type(value) is str else None


def _texts(value: object) -> dict[str, str] | None:
    if isinstance(value, dict) and all(type(v) is str for v in value.values()):
        return value
    return None


def _path(accounts: Mapping[int, Account], account_id: int) -> str | None:
    account = accounts.get(account_id)
    return account.path if account else None


def _asked_of(said: object, count: int) -> list[object]:
    """``up_to`` of each of the first ``count`` lines, None where it says none."""
    said_lines: list[Any] = list(said) if isinstance(said, list) else []
    asked: list[object] = [
        line.get("up_to") if isinstance(line, dict) else None for line in said_lines[:count]
    ]
    return asked + [None] * (count - len(asked))


def _posting(p: PostingRow, accounts: Mapping[int, Account], up_to: object) -> Fields:
    fields: Fields = {
        "amount": str(p.amount),
        "credit": _path(accounts, p.credit_account),
        "currency": p.currency,
        "debit": _path(accounts, p.debit_account),
        "layer": _LAYERS.get(p.layer),
    }
    if p.hold_action is not None:
        fields["hold"] = _ACTIONS.get(p.hold_action)
    elif isinstance(up_to, str):
        # No more was booked than was asked for.
        fields["up_to"] = str(max(p.amount, int(up_to))) if up_to.isdecimal() else None
    return fields


def _hold(held: Sequence[PostingRow], accounts: Mapping[int, Account], said: object) -> Fields:
    """The hold's terms as its postings have them. The expiry, the tolerance and "final" stand in the line alone;
    the first two are checked against the hold's row."""
    asked: Fields = said if isinstance(said, dict) else {}
    first, last = held[0], held[-1]
    action = first.hold_action or 0
    one = all(p.hold_id == first.hold_id for p in held)
    terms: Fields = {"action": _ACTIONS.get(action), "id": first.hold_id if one else None}
    if action in (_PLACE, _INCREASE):
        terms["amount"] = str(first.amount)
    if action == _PLACE:
        pair = _pair(first, accounts)
        terms |= {"credit": pair[1], "currency": first.currency, "debit": pair[0]}
        terms |= {"expires_at": asked.get("expires_at"), "tolerance_bps": asked.get("tolerance_bps")}
    elif action == _CAPTURE:
        # A pair left out means the hold's own.
        own = asked.get("debit") is None and _pair(first, accounts) == _pair(last, accounts)
        pair = (None, None) if own else _pair(last, accounts)
        gives_back = any(p.hold_action == _RELEASE for p in held)
        terms |= {"amount": str(last.amount), "credit": pair[1], "debit": pair[0]}
        terms["final"] = gives_back or asked.get("final") is True
    elif action == _RELEASE:
        terms["amount"] = None if asked.get("amount") is None else str(-first.amount)
    return terms


def _pair(p: PostingRow, accounts: Mapping[int, Account]) -> tuple[str | None, str | None]:
    return _path(accounts, p.debit_account), _path(accounts, p.credit_account)


def differences(rebuilt: Fields, said: Fields, postings: Sequence[PostingRow]) -> Iterator[Difference]:
    """Every field in which rows and line do not agree."""
    for name in sorted(rebuilt.keys() | said.keys()):
        if name == "postings":
            yield from _posting_differences(rebuilt[name], said.get(name), postings)
        elif name == "hold":
            yield from _object_differences(name, rebuilt.get(name), said.get(name))
            yield from _hold_id_differences(said.get(name), postings)
        elif name == "source":
            yield from _object_differences(name, rebuilt.get(name), said.get(name))
        elif not _same(rebuilt.get(name), said.get(name)):
            yield Difference(name, rebuilt.get(name), said.get(name))


def _posting_differences(
    rebuilt: list[Fields], said: object, postings: Sequence[PostingRow]
) -> Iterator[Difference]:
    """By line number, so that one lost row does not make those after it look wrong."""
    rows: dict[int, tuple[Fields, PostingRow]] = {}
    lines: list[Any] = said if isinstance(said, list) else []
    for fields, row in zip(rebuilt, postings, strict=True):
        if row.line in rows or not 0 < row.line <= len(lines):
            yield Difference("row", "there", "missing, or another line", row.line)
        rows.setdefault(row.line, (fields, row))
    for number, line in enumerate(lines, start=1):
        if number not in rows:
            yield Difference("row", "missing", "there", number)
            continue
        fields, row = rows[number]
        parts: Fields = line if isinstance(line, dict) else {}
        for name in sorted(fields.keys() | parts.keys()):
            if not _same(fields.get(name), parts.get(name)):
                column = _COLUMN_BY_FIELD.get(name, name)
                yield Difference(column, fields.get(name), parts.get(name), number, row)


def _object_differences(name: str, rebuilt: Fields | None, said: object) -> Iterator[Difference]:
    if rebuilt is None or not isinstance(said, dict):
        yield Difference(name, rebuilt, said)
        return
    for part in sorted(rebuilt.keys() | said.keys()):
        if not _same(rebuilt.get(part), said.get(part)):
            yield Difference(f"{name}_{part}", rebuilt.get(part), said.get(part))


def _hold_id_differences(said: object, postings: Sequence[PostingRow]) -> Iterator[Difference]:
    hold_id = said.get("id") if isinstance(said, dict) else None
    for p in postings:
        if p.hold_action is not None and p.hold_id != hold_id:
            yield Difference("hold_id", p.hold_id, hold_id, p.line, p)


def _same(a: object, b: object) -> bool:
    return type(a) is type(b) and a == b
