"""Lines and leaf hashes of a batch are, byte by byte, those that the same journals have one by one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ledger import canonical
from ledger import model as m
from ledger.bulk import Batch, Captures
from ledger.bulk.rows import canonical_lines
from tests.bulk.desk import PATHS, captures, places, transfers
from tests.ledger.words import ESCROW, NOW

AT = datetime(2026, 11, 22, 9, 0, 0, 123456, UTC)
texts = st.text(
    st.characters(exclude_categories=("C", "Z")) | st.sampled_from(" \"\\'/%{}<₹\U0001f600"), max_size=30
)
times = st.integers(-(10**15), 10**15).map(lambda micros: AT + timedelta(microseconds=micros))
keys = st.from_regex(r"[a-z][a-z0-9_.]{0,5}", fullmatch=True)
source_ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    n = draw(st.integers(1, 5))

    def text() -> st.SearchStrategy[Any]:
        return texts | st.lists(texts, min_size=n, max_size=n)

    pairs = st.lists(st.sampled_from(list(PATHS)), min_size=2, max_size=2, unique=True)
    rows = [(*draw(pairs), draw(st.integers(1, 10**15))) for _ in range(n)]
    said = {
        "sources": draw(st.lists(source_ids, min_size=n, max_size=n)),
        "description": draw(text()),
        "metadata": {key: draw(text()) for key in draw(st.lists(keys, max_size=4, unique=True))},
        "effective_at": draw(st.none() | times),
    }
    if draw(st.booleans()):
        return transfers(rows, **said)
    placed = places(
        rows, **said, expires_at=draw(st.none() | times), tolerance_bps=draw(st.integers(0, 10_000))
    )
    return placed if draw(st.booleans()) else captures(placed, **said)


@given(
    batches(),
    st.lists(st.sampled_from(list(PATHS)), min_size=2, max_size=2, unique=True),
    st.integers(1, 2**50),
)
def test_lines_and_hashes_are_those_of_the_journals(batch: Batch, pair: list[str], first: int) -> None:
    """``pair``: of the holds that are captured, which only the book knows."""
    units = [batch.unit(row).journals[0] for row in range(len(batch))]
    pairs = [(pair[0], pair[1]) if isinstance(batch, Captures) else _pair(journal) for journal in units]
    debit, credit = zip(*pairs, strict=True)
    lines, hashes = asyncio.run(
        canonical_lines("main", batch, debit, credit, "INR", first=first, recorded_at=AT)
    )
    assert lines == [
        canonical.canonical_line(
            journal,
            book="main",
            seq=first + row,
            effective_at=canonical.rfc3339(journal.effective_at or AT),
            recorded_at=canonical.rfc3339(AT),
            lines=[canonical.posting_line(*sides, *line) for line in _lines(journal, int(batch.amount[row]))],
        )
        for row, (journal, sides) in enumerate(zip(units, pairs, strict=True))
    ]
    assert hashes == [canonical.leaf_hash(line) for line in lines]


def _pair(journal: m.Journal) -> tuple[str, str]:
    said = journal.hold if isinstance(journal.hold, m.Place) else journal.postings[0]
    return said.debit, said.credit


def _lines(journal: m.Journal, amount: int) -> list[tuple[int, str, m.Layer, str | None]]:
    match journal.hold:
        case m.Place():
            return [(amount, "INR", m.Layer.PENDING, "place")]
        case m.Capture():
            given_back = (-amount, "INR", m.Layer.PENDING, "capture")
            return [given_back, (amount, "INR", m.Layer.POSTED, "capture")]
        case _:
            return [(amount, "INR", m.Layer.POSTED, None)]


async def test_others_have_their_turn_while_a_large_batch_is_encoded() -> None:
    batch = transfers([(PATHS[1], ESCROW, 5)] * 5000)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    names = [ESCROW] * 5000, [PATHS[1]] * 5000
    lines, _ = await canonical_lines("main", batch, *names, "INR", first=1, recorded_at=NOW)
    counting.cancel()
    assert len(lines) == 5000
    assert turns >= 5
