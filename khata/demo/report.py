"""What the story shows at its end: trial balance, balances explained by their journals, what the judges say."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from rich.table import Column, Table

from khata.cli.money import major
from khata.demo import StoryFailed
from ledger import read

PAGE = 500


@dataclass(frozen=True, slots=True)
class Share:
    """What the journals of one kind brought to a balance: how many lines, their sum, the first journals' numbers."""

    kind: str
    lines: int
    amount: int
    journals: tuple[int, ...]


async def explained(
    conn: AsyncConnection[Any], book_id: int, path: str, currency: str
) -> tuple[read.Statement, list[Share]]:
    """An account's whole statement (its last page) and its posted balance by kind of journal."""
    sums, found = defaultdict[str, list[read.StatementLine]](list), None
    after: str | None = None
    while found is None or after is not None:
        found = await read.statement(conn, book_id, path, currency, after=after, limit=PAGE)
        assert found is not None
        for line in found.lines:
            if line.layer == "posted":
                sums[line.kind].append(line)
        after = found.next
    assert found is not None
    return found, [_share(kind, lines) for kind, lines in sums.items()]


def _share(kind: str, lines: list[read.StatementLine]) -> Share:
    numbers = tuple(dict.fromkeys(line.journal_seq for line in lines))
    return Share(kind, len(lines), sum(line.amount for line in lines), numbers[:4])


async def merchant_table(
    conn: AsyncConnection[Any], book_id: int, owner: str, name: str, currency: str
) -> Table:
    """Every account of the merchant: its balance, and the journals it is made of."""
    right = Column("amount", justify="right")
    table = Table("account", "made of", "journals", right, title=f"{name} ({owner}), {currency}")
    for balance in await read.balances(conn, book_id, owner=owner):
        if balance.seq == 0:
            continue
        statement, shares = await explained(conn, book_id, balance.path, balance.currency)
        if statement.closing != balance.posted or sum(s.amount for s in shares) != balance.posted:
            raise StoryFailed(f"{balance.path}: {balance.posted} is not what its journals sum to")
        short = balance.path.rsplit(":", 1)[1] if ":Merchant:" in balance.path else balance.path
        label = "Owed to us" if balance.path.startswith("Assets:") else short
        for n, share in enumerate(shares):
            numbers = ", ".join(f"#{seq}" for seq in share.journals) + (" …" if share.lines > 4 else "")
            text = f"{share.lines} × {share.kind}"
            table.add_row(label if n == 0 else "", text, numbers, major(share.amount, currency))
        table.add_row(
            "", "", "[bold]balance[/]", f"[bold]{major(balance.posted, currency)}[/]", end_section=True
        )
    return table
