"""Lines and leaf hashes of a batch are, byte by byte, those that the same journals have one by one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ledger import canonical
from ledger.bulk.rows import canonical_lines
from ledger.bulk.transfers import Transfers
from tests.bulk.desk import PATHS, transfers
from tests.ledger.words import ESCROW, NOW

AT = datetime(2026, 11, 22, 9, 0, 0, 123456, UTC)
texts = st.text(
    st.characters(exclude_categories=("C", "Z")) | st.sampled_from(" \"\\'/%{}<₹\U0001f600"), max_size=30
)
times = st.integers(-(10**15), 10**15).map(lambda micros: AT + timedelta(microseconds=micros))
keys = st.from_regex(r"[a-z][a-z0-9_.]{0,5}", fullmatch=True)
source_ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)


@st.composite
def batches(draw: st.DrawFn) -> Transfers:
    n = draw(st.integers(1, 5))

    def text() -> st.SearchStrategy[Any]:
        return texts | st.lists(texts, min_size=n, max_size=n)

    pairs = st.lists(st.sampled_from(list(PATHS)), min_size=2, max_size=2, unique=True)
    return transfers(
        [(*draw(pairs), draw(st.integers(1, 10**15))) for _ in range(n)],
        sources=draw(st.lists(source_ids, min_size=n, max_size=n)),
        description=draw(text()),
        metadata={key: draw(text()) for key in draw(st.lists(keys, max_size=4, unique=True))},
        effective_at=draw(st.none() | times),
    )


@given(batches(), st.integers(1, 2**50))
def test_lines_and_hashes_are_those_of_the_journals(batch: Transfers, first: int) -> None:
    lines, hashes = asyncio.run(canonical_lines("main", batch, first, AT))
    assert lines == [one_by_one(batch, row, first) for row in range(len(batch))]
    assert hashes == [canonical.leaf_hash(line) for line in lines]


def one_by_one(batch: Transfers, row: int, first: int) -> bytes:
    [journal] = batch.unit(row).journals
    [p] = journal.postings
    return canonical.canonical_line(
        journal,
        book="main",
        seq=first + row,
        effective_at=canonical.rfc3339(journal.effective_at or AT),
        recorded_at=canonical.rfc3339(AT),
        lines=[canonical.posting_line(p.debit, p.credit, p.amount, p.currency, p.layer)],
    )


async def test_others_have_their_turn_while_a_large_batch_is_encoded() -> None:
    batch = transfers([(PATHS[1], ESCROW, 5)] * 5000)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    lines, _ = await canonical_lines("main", batch, 1, NOW)
    counting.cancel()
    assert len(lines) == 5000
    assert turns >= 5
