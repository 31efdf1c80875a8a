"""One tampering after the other with a book: made, audited, undone. Each must be found, and its row named."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar

from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from khata.errors import KhataError
from khata.tamper.schema import Column, Table
from ledger.audit import Finding, examine
from ledger.audit.protection import LOSABLE, PROVABLE_ROWS, UNPROVABLE, WRONG

Row = dict[str, Any]
Statement = tuple[sql.Composed, list[Any]]

KINDS = ("changed", "lost", "doubled", "exchanged")
ROWS_A_FIELD = 2  # with a value, and as many without
LOST_ROWS, DOUBLED_ROWS, EXCHANGED_PAIRS = 3, 2, 2

# One unit off, and one bit off, by type. What is null gets a value.
_WHOLE = ("coalesce({c} + 1, 1)", "coalesce({c} # 4::{t}, 1)")
_TEXT = ("coalesce(left({c}, -1) || CASE right({c}, 1) WHEN 'x' THEN 'y' ELSE 'x' END, 'x')",)
CHANGES: dict[str, tuple[str, ...]] = {
    "smallint": _WHOLE,
    "integer": _WHOLE,
    "bigint": _WHOLE,
    "boolean": ("coalesce(NOT {c}, true)",),
    "text": _TEXT,
    "uuid": (
        "coalesce(overlay({c}::text placing CASE right({c}::text, 1) WHEN '1' THEN '2' ELSE '1' END from 36)::uuid,"
        " '00000000-0000-7000-8000-000000000000')",
    ),
    "timestamp with time zone": ("coalesce({c} + interval '1 microsecond', '2026-11-22')",),
    "date": ("coalesce({c} + 1, '2026-11-21')",),
    "bytea": ("coalesce(set_byte({c}, 0, get_byte({c}, 0) # 1), '\\x00')",),
}


class NoSuchRow(KhataError):
    """The book has no row to tamper with in this way: the tampering cannot be tried, so nothing is proved by it."""

    code: ClassVar[str] = "no_such_row"


@dataclass(frozen=True, slots=True)
class Tampering:
    """``field``: the column changed, or those exchanged; ``rows`` as they are before ``statements`` run."""

    kind: str
    table: Table
    field: str
    rows: tuple[Row, ...]
    statements: tuple[Statement, ...]

    def __str__(self) -> str:
        keys = " and ".join(", ".join(self.table.key_of(row)) for row in self.rows)
        return f"{self.kind} {self.table.name}{'.' if self.field else ''}{self.field} of {keys}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """``missed``: keys of rows that no finding names; the tampering is caught when there is none."""

    tampering: Tampering
    missed: tuple[tuple[str, ...], ...]
    findings: int

    @property
    def caught(self) -> bool:
        return not self.missed


def names(findings: Sequence[Finding], table: Table, *keys: tuple[str, ...]) -> bool:
    """Whether a finding names the row, by one of the keys it has had."""
    return any(
        f.table == table.name and tuple(str(f.key.get(n)) for n in table.key) in keys for f in findings
    )


@dataclass(frozen=True, slots=True)
class Forger:
    """A transaction that no rule of the schema watches (``schema.defenceless``), and the book in it."""

    conn: AsyncConnection[Any]
    book_id: int
    seed: str = ""

    async def run(self, statement: sql.Composed, values: Sequence[Any] = ()) -> list[Row]:
        cursor = await self.conn.cursor(row_factory=dict_row).execute(statement, values)
        return await cursor.fetchall() if cursor.description else []

    async def pick(self, table: Table, where: str, limit: int, why: str) -> list[Row]:
        """Random rows of the book, always the same ones for one seed, their place (ctid) among their columns."""
        select = sql.SQL("SELECT ctid, * FROM {} WHERE book_id = %s AND ({})")
        rows = await self.run(select.format(table.identifier, _sql(where)), [self.book_id])

        def lot(row: Row) -> bytes:
            return sha256(f"{self.seed} {table.name} {why} {table.key_of(row)}".encode()).digest()

        return sorted(rows, key=lot)[:limit]

    async def findings(self) -> list[Finding]:
        return [f for result in await examine(self.conn, self.book_id) for f in result.findings]

    async def attempt(self, tampering: Tampering) -> Outcome:
        """Tamper, audit, undo."""
        async with self.conn.transaction(force_rollback=True):
            keys = [{tampering.table.key_of(row)} for row in tampering.rows]
            for known, (statement, values) in zip(keys, tampering.statements, strict=True):
                for after in await self.run(statement, values):
                    known.add(tampering.table.key_of(after))
            found = await self.findings()
        missed = tuple(min(known) for known in keys if not names(found, tampering.table, *known))
        return Outcome(tampering, missed, len(found))


async def plan(forger: Forger, tables: Sequence[Table]) -> AsyncGenerator[Tampering]:
    """Every tampering with these tables. Raises ``NoSuchRow`` where the book has nothing to tamper with."""
    for table in tables:
        for column in table.columns:
            if (table.name, column.name) not in UNPROVABLE:
                for tampering in await changes(forger, table, column):
                    yield tampering
        lost = [] if table.name in LOSABLE else await forger.pick(table, "true", LOST_ROWS, "lost")
        for row in lost:
            delete = sql.SQL("DELETE FROM {} WHERE ctid = %s").format(table.identifier)
            yield Tampering("lost", table, "", (row,), ((delete, [row["ctid"]]),))
        for row in await forger.pick(table, "true", DOUBLED_ROWS, "doubled"):
            double = sql.SQL("INSERT INTO {0} SELECT * FROM {0} WHERE ctid = %s").format(table.identifier)
            yield Tampering("doubled", table, "", (row,), ((double, [row["ctid"]]),))
        for tampering in await exchanges(forger, table):
            yield tampering


async def changes(forger: Forger, table: Table, column: Column) -> list[Tampering]:
    """One value of one row, for a few rows that have one and a few that have none."""
    field = (table.name, column.name)
    provable, _ = PROVABLE_ROWS.get(field, ("true", ""))
    wrong = (WRONG[field],) if field in WRONG else CHANGES[column.type]
    found: list[Tampering] = []
    for filled in ("IS NOT NULL", "IS NULL"):
        rows = await forger.pick(table, f"{column.name} {filled} AND {provable}", ROWS_A_FIELD, column.name)
        for number, row in enumerate(rows):
            value = _sql(wrong[number % len(wrong)].format(c=column.name, t=column.type))
            found.append(_updated("changed", table, column.name, row, [(column.name, value)]))
    if not found:
        raise NoSuchRow(f"no row to change {table.name}.{column.name} in")
    return found


async def exchanges(forger: Forger, table: Table) -> list[Tampering]:
    """Two rows that change places: each gets the other's key, or another number that places it."""
    found: list[Tampering] = []
    for columns in (table.key, *_NUMBERS.get(table.name, ())):
        told = [c.name for c in table.columns if c.name not in columns and _tells(table, c)]
        provable = " AND ".join(
            f"({rule})" for (name, _), (rule, _) in PROVABLE_ROWS.items() if name == table.name
        )
        rows = await forger.pick(table, provable or "true", 1000, f"exchanged {columns}")
        pairs = zip(rows[0::2], rows[1::2], strict=False)
        distinct = [(a, b) for a, b in pairs if _differ(a, b, columns) and _differ(a, b, told)]
        for one, other in distinct[:EXCHANGED_PAIRS]:
            found.append(_exchanged(table, columns, one, other))
    return found


# Numbers of rows beside their key.
_NUMBERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "posting": (("debit_seq",), ("credit_seq",), ("journal_seq",), ("line",)),
}


def _differ(one: Row, other: Row, columns: Sequence[str]) -> bool:
    return any(one[name] != other[name] for name in columns)


def _tells(table: Table, column: Column) -> bool:
    return (table.name, column.name) not in UNPROVABLE


def _exchanged(table: Table, columns: tuple[str, ...], one: Row, other: Row) -> Tampering:
    def moved(row: Row, by: Row) -> Statement:
        values = [(name, sql.Literal(by[name])) for name in columns]
        return _updated("", table, "", row, values).statements[0]

    statements = (moved(one, other), moved(other, one))
    return Tampering("exchanged", table, ", ".join(columns), (one, other), statements)


def _updated(
    kind: str, table: Table, field: str, row: Row, values: Sequence[tuple[str, sql.Composable]]
) -> Tampering:
    sets = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in values
    )
    update = sql.SQL("UPDATE {} SET {} WHERE ctid = %s RETURNING *").format(table.identifier, sets)
    return Tampering(kind, table, field, (row,), ((update, [row["ctid"]]),))


def _sql(words: str) -> sql.Composed:
    """Conditions and expressions of this package and of ``ledger.audit.protection``: nothing from outside."""
    return sql.Composed([sql.SQL(words)])  # pyright: ignore[reportArgumentType]
