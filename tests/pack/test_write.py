"""What a pack holds, and that none is made of a book that somebody changed behind the ledger's back."""

from __future__ import annotations

import asyncio
import io
import itertools
import zipfile
from collections.abc import AsyncIterator
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from khata.database import Database
from khata.tamper.schema import defenceless, tables
from khata.tamper.tampering import Forger, Tampering, plan
from ledger.errors import InvalidEntry
from ledger.export.pack import (
    BookAltered,
    NothingSealed,
    Written,
    in_directory,
    in_zip,
    write_pack,
    zip_comment,
)
from ledger.log.merkle import Frontier, leaf_hash
from ledger.log.note import Note
from ledger.read import trial_balance
from tests.ledger.random_books import RandomBook
from tests.pack.words import ORIGIN, SIGNER, pack_of, read, rows, sealed_book, snapshot


@pytest.fixture(scope="module")
def book(shared_database: Database) -> RandomBook:
    """A sealed book of several days. Its connection is closed."""

    async def make() -> RandomBook:
        async with await AsyncConnection.connect(shared_database.app_dsn) as conn:
            made = await sealed_book(conn, 21, batches=14)
            made.now += timedelta(days=1)
            return made

    return asyncio.run(make())


async def day_ends(database: Database, book: RandomBook) -> list[date]:
    async with snapshot(database) as conn:
        sql = "SELECT covers_before FROM ledger.day_end WHERE book_id = %s AND size > 0 ORDER BY size"
        return [at.date() for (at,) in await (await conn.execute(sql, [book.book_id])).fetchall()]


def root_of(pack: bytes) -> bytes:
    """The root over the lines of a pack, in the order of its runs, upon its frontier."""
    [frontier] = rows(pack, "log/frontier.json")
    tree = Frontier(frontier["size"], [bytes.fromhex(part) for part in frontier["hashes"]])
    files = {"account": "accounts.jsonl", "act": "acts.jsonl", "journal": "journal.jsonl"}
    lines = {source: iter(read(pack, name).splitlines()) for source, name in files.items()}
    for run in rows(pack, "log/runs.jsonl"):
        assert run["first_index"] == tree.size
        for _ in range(run["count"]):
            tree.append(leaf_hash(next(lines[run["source"]])))
    assert all(next(left, None) is None for left in lines.values())
    return tree.root()


async def test_the_lines_of_a_pack_give_its_checkpoints_root(
    shared_database: Database, book: RandomBook
) -> None:
    pack, written = await pack_of(shared_database, book.book_id, now=book.now)
    [manifest] = rows(pack, "manifest.json")
    text = Note.parse(read(pack, "log/checkpoint"))
    assert text.signed_by([SIGNER.verifier])
    assert root_of(pack) == written.root == bytes.fromhex(manifest["root"])
    assert text.text.splitlines()[:2] == [ORIGIN, str(manifest["to_index"])]
    assert (manifest["from_index"], manifest["from"], manifest["to"]) == (0, None, None)


async def test_the_manifest_counts_every_file_and_is_signed(
    shared_database: Database, book: RandomBook
) -> None:
    pack, _ = await pack_of(shared_database, book.book_id, now=book.now, formats=("csv", "hledger"))
    [manifest] = rows(pack, "manifest.json")
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        names = set(archive.namelist()) - {"manifest.json", "manifest.sig"}
        assert [file["name"] for file in manifest["files"]] == sorted(names)
        for file in manifest["files"]:
            data = archive.read(file["name"])
            said = (file["bytes"], file["lines"], file["sha256"])
            assert said == (len(data), data.count(b"\n"), sha256(data).hexdigest()), file["name"]
        signed = Note.parse(archive.read("manifest.sig"))
        assert signed.text == f"khata pack\n{ORIGIN}\n{sha256(archive.read('manifest.json')).hexdigest()}\n"
        assert signed.signed_by([SIGNER.verifier])
        comment = Note.parse(archive.comment)
        before = sha256(pack[: -len(archive.comment)]).hexdigest()
        assert comment.text == f"khata zip\n{ORIGIN}\n{before}\n"
        assert comment.signed_by([SIGNER.verifier])


async def test_the_same_book_at_the_same_time_is_the_same_bytes(
    shared_database: Database, book: RandomBook
) -> None:
    one, _ = await pack_of(shared_database, book.book_id, now=book.now, formats=("csv",))
    other, _ = await pack_of(shared_database, book.book_id, now=book.now, formats=("csv",))
    assert one == other


async def test_packs_of_periods_begin_where_the_ones_before_end(
    shared_database: Database, book: RandomBook
) -> None:
    whole, _ = await pack_of(shared_database, book.book_id, now=book.now)
    ends = [None, *await day_ends(shared_database, book), None]
    assert len(ends) >= 4, "the book is of too few days to show anything"
    journals, before = b"", None
    for first, until in itertools.pairwise(ends):
        pack, _ = await pack_of(shared_database, book.book_id, now=book.now, first=first, until=until)
        journals += read(pack, "journal.jsonl")
        [manifest] = rows(pack, "manifest.json")
        assert root_of(pack).hex() == manifest["root"]
        if before is not None:
            assert rows(pack, "opening.jsonl") == rows(before, "trial_balance.jsonl")
            assert rows(pack, "opening_holds.jsonl") == rows(before, "holds.jsonl")
            assert read(pack, "log/prior") == read(before, "log/checkpoint")
        before = pack
    assert before is not None
    assert journals == read(whole, "journal.jsonl")
    assert rows(before, "trial_balance.jsonl") == rows(whole, "trial_balance.jsonl")
    assert rows(before, "holds.jsonl") == rows(whole, "holds.jsonl")


async def test_a_later_whole_pack_has_the_earlier_ones_journals_as_a_prefix(
    shared_database: Database, book: RandomBook
) -> None:
    until = (await day_ends(shared_database, book))[-1]
    earlier, _ = await pack_of(shared_database, book.book_id, now=book.now, until=until)
    later, _ = await pack_of(shared_database, book.book_id, now=book.now)
    assert read(later, "journal.jsonl").startswith(read(earlier, "journal.jsonl"))
    assert len(read(earlier, "journal.jsonl")) < len(read(later, "journal.jsonl"))


async def test_the_trial_balance_is_the_ledgers(shared_database: Database, book: RandomBook) -> None:
    pack, _ = await pack_of(shared_database, book.book_id, now=book.now)
    net = {
        (row["account"], row["currency"]): int(row["posted_debits"]) - int(row["posted_credits"])
        for row in rows(pack, "trial_balance.jsonl")
    }
    async with snapshot(shared_database) as conn:
        for row in await trial_balance(conn, book.book_id):
            assert net[row.path, row.currency] == row.debit - row.credit
    assert sum(net.values()) == 0


async def test_a_directory_holds_what_a_zip_does(
    shared_database: Database, book: RandomBook, tmp_path: Path
) -> None:
    pack, _ = await pack_of(shared_database, book.book_id, now=book.now, formats=("ledger",))
    async with snapshot(shared_database) as conn:
        folder = in_directory(tmp_path)
        await write_pack(conn, book.book_id, folder, [SIGNER], now=book.now, formats=("ledger",))
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        files = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        assert files == {name: archive.read(name) for name in archive.namelist()}


async def test_days_that_are_no_period_or_not_over_are_refused(
    shared_database: Database, book: RandomBook
) -> None:
    day = book.now.date()
    for first, until in ((day, day), (day, day - timedelta(days=1)), (None, day + timedelta(days=1))):
        with pytest.raises(InvalidEntry):
            await pack_of(shared_database, book.book_id, now=book.now, first=first, until=until)
    with pytest.raises(NothingSealed):
        await pack_of(shared_database, book.book_id, now=book.now, until=day - timedelta(days=100))


# ---------------------------------------------------------------- behind the ledger's back

CHANGES = {
    "a journal's line": (
        "UPDATE ledger.journal SET canonical = replace(canonical, '50000', '50001') WHERE seq = 2",
        r"^journal 2: is a line of leaf hash \w+, must be \w+$",
    ),
    "a journal's line with its leaf hash": (
        "UPDATE ledger.journal SET canonical = c, leaf_hash = sha256('\\x00'::bytea || convert_to(c, 'UTF8'))"
        " FROM (SELECT replace(canonical, '50000', '50001') AS c FROM ledger.journal WHERE seq = 2) AS x WHERE seq = 2",
        r"^the log up to |^journal 2: is a line of leaf hash",
    ),
    "a posting's amount": (
        "UPDATE ledger.posting SET amount = amount + 1 WHERE journal_seq = 3",
        r"^journal 3, line 1, amount: is 50001, must be 50000$",
    ),
    "a posting's account": (
        "UPDATE ledger.posting SET credit_account = credit_account + 1 WHERE journal_seq = 3",
        r"^journal 3, line 1, credit: is \S+, must be \S+$",
    ),
    "a balance after a line": (
        "UPDATE ledger.posting SET debit_available = debit_available - 1 WHERE journal_seq = 3",
        r"^journal 3, line 1, debit_available: is 149999, must be 150000$",
    ),
    "a journal's effective day": (
        "UPDATE ledger.journal SET effective_at = effective_at - interval '1 day' WHERE seq = 4",
        r"^journal 4, effective_at: is ",
    ),
    "a balance": (
        "UPDATE ledger.balance SET posted_credits = posted_credits + 1 WHERE account_id = 2",
        r"^balance of account 2, posted",
    ),
    "a hold": (
        "UPDATE ledger.hold SET released = released + 1"
        " WHERE hold_id = (SELECT min(hold_id::text)::uuid FROM ledger.hold)",
        r"^hold \S+, released: is ",
    ),
    "an account's owner": (
        "UPDATE ledger.account SET owner = 'mallory' WHERE account_id = 1",
        r"^account 1|^the log up to ",
    ),
    "what somebody said was the reason": (
        "UPDATE ledger.act SET reason = 'another' WHERE act = 1",
        r"^act 1: is a line of leaf hash",
    ),
    "a journal that is gone": ("DELETE FROM ledger.journal WHERE seq = 5", "."),
    "a checkpoint's note": (
        "UPDATE ledger.checkpoint SET note = replace(note, 'khata.test/main', 'khata.test/mine')",
        "^checkpoint [0-9]+: is no known key signed the note, must be signed by the log's key$",
    ),
    "a balance's status": (
        "UPDATE ledger.balance SET status = 'frozen' WHERE account_id = 1",
        r"^balance of account 1, status: is frozen, must be open$",
    ),
    "a balance's floor": (
        "UPDATE ledger.balance SET floor = -7777777 WHERE account_id = 1",
        r"^balance of account 1, floor: is -7777777, must be ",
    ),
    "the status that an account was opened with": (
        "UPDATE ledger.account_fact SET status = 'frozen' WHERE account_id = 1 AND fact = 1",
        r"^account 1, fact 1, status: is frozen, must be open$",
    ),
    "the status that somebody set": (
        "UPDATE ledger.account_fact SET status = 'open' WHERE status = 'closed'",
        r"^account \d+, fact 2, status: is open, must be closed$",
    ),
    "the floor that somebody set": (
        "UPDATE ledger.account_fact SET floor = -7777777 WHERE fact = 2 AND status = 'frozen'",
        r"^account \d+, fact 2, floor: is -7777777, must be 0$|floor: is -7777777, must be None$",
    ),
    "the leaf hash kept for an account": (
        "UPDATE ledger.account_leaf SET leaf_hash = sha256(leaf_hash) WHERE account_id = 2",
        r"^account 2, leaf_hash: is \w{64}, must be \w{64}$",
    ),
    "a tile's hashes": (
        "UPDATE ledger.log_tile SET hashes = set_byte(hashes, 96, get_byte(hashes, 96) # 1)"
        " WHERE level = 0 AND tile = 0",
        r"^tile 0/0, hashes, place 3: is \w{64}, must be \w{64}$",
    ),
    "a tile's root": (
        "UPDATE ledger.log_tile SET root = sha256(root) WHERE level = 0 AND tile = 0",
        r"^tile 0/0, root: is \w{64}, must be \w{64}$",
    ),
    "an older checkpoint's root": (
        "UPDATE ledger.checkpoint SET root = sha256(root) WHERE size = (SELECT min(size) FROM ledger.checkpoint)",
        r"^checkpoint \d+, root: is \w{64}, must be \w{64}$",
    ),
    "the newest checkpoint's key id": (
        "UPDATE ledger.checkpoint SET note = regexp_replace(note, '(— \\S+ )(\\S)', '\\1z')"
        " WHERE size = (SELECT max(size) FROM ledger.checkpoint)",
        r"^checkpoint \d+: is no known key signed the note",
    ),
    "a signature under the log's name by nobody's key": (
        "UPDATE ledger.checkpoint SET note = note ||"
        " regexp_replace(split_part(note, E'\\n\\n', 2), '(— \\S+ )(\\S)', '\\1z')"
        " WHERE size = (SELECT max(size) FROM ledger.checkpoint)",
        r"^checkpoint \d+, note: is signed by a key \w{8} of the log's name",
    ),
    "a key": (
        "UPDATE ledger.log_key SET public = set_byte(public, 0, get_byte(public, 0) # 1)",
        "^checkpoint [0-9]+: is ",
    ),
}  # fmt: skip


@pytest.fixture
async def owner(shared_database: Database) -> AsyncIterator[AsyncConnection[Any]]:
    """A transaction in which nothing guards the tables; rolled back."""
    async with await AsyncConnection.connect(shared_database.owner_dsn) as conn, defenceless(conn):
        yield conn


class _Nowhere:
    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None: ...


async def written_by(conn: AsyncConnection[Any], book: RandomBook) -> Written:
    with in_zip(_Nowhere(), zip_comment([SIGNER])) as container:
        return await write_pack(conn, book.book_id, container, [SIGNER], now=book.now, formats=())


@pytest.mark.parametrize("what", list(CHANGES))
async def test_a_silent_change_by_a_superuser_is_named_and_no_pack_is_made(
    owner: AsyncConnection[Any], book: RandomBook, what: str
) -> None:
    statement, names = CHANGES[what]
    await written_by(owner, book)
    assert (await owner.execute(statement.encode())).rowcount > 0
    with pytest.raises(BookAltered, match=names):
        await written_by(owner, book)


# But for checkpoints: which of them a pack carries tells nothing about the book, and each is signed.
PACKED = {
    *("account", "account_fact", "act", "balance", "hold", "journal", "limit_fact", "log_run", "log_tile"),
    *("posting", "proposal"),
}


async def test_whatever_is_tampered_with_the_pack_is_refused_or_says_what_it_said(
    shared_database: Database, owner: AsyncConnection[Any], book: RandomBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row of these tables can be changed, lost, doubled or exchanged so that another pack comes of it."""
    monkeypatch.setattr("khata.tamper.tampering.ROWS_A_FIELD", 1)
    before = (await written_by(owner, book)).files
    forger = Forger(owner, book.book_id)
    missed: list[str] = []
    tried = 0
    async with snapshot(shared_database) as conn:
        packed = [table for table in await tables(conn) if table.name in PACKED]
    for table in packed:
        async for tampering in plan(forger, [table]):
            tried += 1
            if await _passes(owner, book, tampering) not in (None, before):
                missed.append(f"{tampering.kind} {tampering.table.name}.{tampering.field}")
    assert tried > 100
    assert sorted(set(missed)) == [], "\n".join(sorted(set(missed)))


async def _passes(
    conn: AsyncConnection[Any], book: RandomBook, tampering: Tampering
) -> tuple[Any, ...] | None:
    async with conn.transaction(force_rollback=True):
        for statement, values in tampering.statements:
            await conn.execute(statement, values)
        try:
            return (await written_by(conn, book)).files
        except BookAltered:
            return None
