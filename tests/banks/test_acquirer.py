"""The simulated acquirer as a judge: its book survives, its files are the same byte for byte."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import urllib.error
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banks.outcomes import Approved
from banks.settlement_file import parse
from banks.simulators.acquirer.book import Batch, Book, Entry
from banks.simulators.acquirer.decisions import luhn_valid
from banks.simulators.acquirer.requests import Kind
from banks.simulators.acquirer.settlement import Settlement, render
from banks.simulators.acquirer.storage import BookDamaged, BookInUse, Storage
from banks.simulators.cards import AMOUNTS, CARDS
from tests.banks.acquirer import AcquirerProcess
from tests.banks.conftest import NewReference, Rail
from tests.banks.words import approved, authorize, capture

TODAY = datetime(2026, 11, 22, 12, tzinfo=UTC)


def entry(number: int, kind: Kind, amount: int, *, code: str = "00", currency: str = "INR") -> Entry:
    return Entry(
        number=number,
        at=TODAY.isoformat(),
        kind=kind,
        stan=f"{number:06d}",
        rrn=f"{number:012d}",
        transmission="1122120000",
        amount=amount,
        currency=currency,
        code=code,
    )


def booked(directory: Path, *entries: Entry) -> Book:
    """A book with these entries on disk, reopened."""
    storage = Storage(directory)
    for each in entries:
        storage.append({name: getattr(each, name) for name in Entry.__dataclass_fields__})
    storage.close()
    return Book(Storage(directory))


kinds = st.sampled_from([Kind.CAPTURE, Kind.REFUND])


@given(st.lists(st.tuples(kinds, st.integers(1, 10**10)), min_size=1, max_size=20))
def test_whatever_is_cut_is_read_back_with_the_same_figures(items: list[tuple[Kind, int]]) -> None:
    entries = [entry(n, kind, amount) for n, (kind, amount) in enumerate(items, start=1)]
    batch = Batch("meridian-20261122-inr", "2026-11-22", "INR", tuple(e.number for e in entries), "")
    file = parse(io.BytesIO(render(batch, entries)))
    assert [(line.kind.value, line.rrn, line.amount) for line in file.lines] == [
        (e.kind.value, e.rrn, e.amount) for e in entries
    ]


def test_only_completed_captures_and_refunds_not_yet_settled_are_cut(tmp_path: Path) -> None:
    book = booked(
        tmp_path,
        entry(1, Kind.AUTHORIZATION, 500),
        entry(2, Kind.CAPTURE, 300),
        entry(3, Kind.CAPTURE, 900, code="61"),
        entry(4, Kind.REFUND, 100),
        entry(5, Kind.CAPTURE, 700, currency="JPY"),
    )
    settlement = Settlement(book, tmp_path / "files")
    cuts = settlement.cut(TODAY.date(), TODAY)
    assert [(cut.currency, cut.lines) for cut in cuts] == [("INR", 2), ("JPY", 1)]
    assert settlement.cut(TODAY.date(), TODAY) == cuts
    assert settlement.cut(TODAY.date() + timedelta(days=1), TODAY) == []


def test_nothing_booked_after_the_day_is_in_its_file(tmp_path: Path) -> None:
    settlement = Settlement(booked(tmp_path, entry(1, Kind.CAPTURE, 300)), tmp_path / "files")
    assert settlement.cut(date(2026, 11, 21), TODAY) == []


def test_a_lost_file_is_written_again_byte_for_byte(tmp_path: Path) -> None:
    book = booked(tmp_path, entry(1, Kind.CAPTURE, 300), entry(2, Kind.CAPTURE, 400))
    [cut] = Settlement(book, tmp_path / "files").cut(TODAY.date(), TODAY)
    first = cut.path.read_bytes()
    cut.path.unlink()
    book.storage.close()
    Settlement(Book(Storage(tmp_path)), tmp_path / "files")
    assert cut.path.read_bytes() == first


def test_a_torn_last_line_is_cut_off_and_the_book_goes_on(tmp_path: Path) -> None:
    booked(tmp_path, entry(1, Kind.CAPTURE, 300)).storage.close()
    path = tmp_path / "book.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number":2,"kind":"capt')
    book = Book(Storage(tmp_path))
    assert [e.number for e in book.entries] == [1]
    assert path.read_bytes() == whole


def test_a_damaged_line_before_the_last_is_never_passed_over(tmp_path: Path) -> None:
    booked(tmp_path, entry(1, Kind.CAPTURE, 300), entry(2, Kind.CAPTURE, 400)).storage.close()
    path = tmp_path / "book.jsonl"
    path.write_bytes(b"x" + path.read_bytes())
    with pytest.raises(BookDamaged, match="line 1"):
        Book(Storage(tmp_path))


def test_a_book_has_one_writer(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    with pytest.raises(BookInUse):
        Storage(tmp_path)
    storage.close()


def test_every_magic_card_is_a_valid_number() -> None:
    assert all(luhn_valid(pan) for pan in CARDS)
    assert not luhn_valid("4111111111111112")


def test_help_teaches_with_an_example_and_every_magic_card_and_amount() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "banks.simulators.acquirer", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "curl" in text
    assert all(pan in text for pan in CARDS)
    assert all(f"…666{code:02d}" in text for code in AMOUNTS)


def test_the_documentation_lists_every_magic_card_and_amount() -> None:
    text = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
    assert all(f"| `{pan}` | {magic.name} |" in text for pan, magic in CARDS.items())
    assert all(f"| {code:02d} | {magic.name} |" in text for code, magic in AMOUNTS.items())


def test_the_control_port_refuses_what_is_no_setting(acquirer: AcquirerProcess) -> None:
    for wrong in ({"colour": 1}, {"latency_ms": -1}, {"latency_ms": True}, [1], {"hang": 1}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            acquirer.post("/settings", wrong)
        refused.value.close()
        assert refused.value.code == 400
    with pytest.raises(urllib.error.HTTPError) as refused:
        acquirer.post("/settlement?date=yesterday")
    refused.value.close()


def test_it_stops_cleanly_when_asked(acquirer: AcquirerProcess) -> None:
    assert acquirer.stop() == 0


async def test_all_that_was_answered_survives_a_kill_under_load(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    answered: list[str] = []

    async def keep_paying() -> None:
        while True:
            outcome = await authorize(card_rail, new_ref())
            if not isinstance(outcome, Approved):
                return
            answered.append(outcome.reference.rrn)

    async with rail(ready_timeout_s=0.05) as card_rail:
        while not card_rail.ready:
            await asyncio.sleep(0.01)
        callers = [asyncio.create_task(keep_paying()) for _ in range(16)]
        await asyncio.sleep(0.5)
        acquirer.kill()
        await asyncio.gather(*callers)
    acquirer.start()
    assert len(answered) > 16
    assert set(answered) <= {e["rrn"] for e in acquirer.entries()}


async def test_a_restart_between_capture_and_settlement_changes_no_byte_of_the_file(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    async with rail() as card_rail:
        authorization = await approved(card_rail, new_ref())
        assert isinstance(await capture(card_rail, new_ref(), authorization, 100_000), Approved)
    [cut] = acquirer.post("/settlement")["files"]
    path = acquirer.files / f"{cut['file_id']}.txt"
    before = path.read_bytes()
    acquirer.kill()
    path.unlink()
    acquirer.start()
    assert path.read_bytes() == before
    assert acquirer.post("/settlement")["files"] == [cut]
    lines = (acquirer.book_directory / "book.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["authorization", "capture", "batch"]


@pytest.mark.parametrize(
    "data", [b"\x00\x00", b"\xff\xff", b"\x00\x04abcd", b"\x00\x14" + b"\xff" * 20, b"GET / HTTP/1.1\r\n"]
)
async def test_a_client_that_speaks_nonsense_loses_its_connection_and_nobody_else_does(
    data: bytes, shared_acquirer: AcquirerProcess, shared_rail: Rail, new_ref: NewReference
) -> None:
    async with shared_rail() as card_rail:
        assert isinstance(await authorize(card_rail, new_ref()), Approved)
        reader, writer = await asyncio.open_connection("127.0.0.1", shared_acquirer.port)
        writer.write(data)
        if data.startswith(b"GET"):
            writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert isinstance(await authorize(card_rail, new_ref()), Approved)
        assert card_rail.counters.connections == 1
