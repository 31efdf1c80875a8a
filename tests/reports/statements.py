"""Made-up statements that add up, drawn by Hypothesis: heads, pages of lines, in currencies of 0, 2 and 3 decimals."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st

from ledger.model import MAX_AMOUNT
from ledger.reports.statement import StatementEntry, StatementHead, StatementWriter

CURRENCIES = ("INR", "JPY", "KWD")
FIRST, LAST = date(2026, 11, 1), date(2026, 11, 30)
NOW = datetime(2026, 12, 1, 6, 30, tzinfo=UTC)
PATHS = (
    "Assets:Bank:Meridian:Escrow",
    "Liabilities:Customer:c42:Wallet",
    "Liabilities:Merchant:m_01kb0n7d1ve2p9a4x8m3q6s5tz:Available",
    "Expenses:" + ":".join(["x" * 64] * 7),
)
# What a description may hold at worst: markup, formulas, other scripts, a character no font here has.
DESCRIPTIONS = st.sampled_from(
    [
        "",
        "order 17",
        "<b>&amp;]]>",
        '=HYPERLINK("http://x")',
        "दिवाली ₹ 1,000",
        "\U0001f600",
        " a  b ",
        "x" * 200,
    ]
) | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], include_characters=" "), max_size=200)
AMOUNTS = st.integers(1, 10**7) | st.sampled_from([1, MAX_AMOUNT])


@st.composite
def entries(draw: st.DrawFn, number: int, balance: int) -> StatementEntry:
    amount = draw(AMOUNTS) * draw(st.sampled_from([1, -1]))
    effective_at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=draw(st.integers(0, 29)))
    return StatementEntry(
        number=number,
        journal_id=UUID(int=draw(st.integers(1, 2**128 - 1))),
        journal_seq=number,
        kind=draw(st.sampled_from(["capture", "k" * 40])),
        description=draw(DESCRIPTIONS),
        counter_account=draw(st.sampled_from(PATHS)),
        effective_at=effective_at,
        recorded_at=effective_at + timedelta(microseconds=draw(st.integers(0, 10**12))),
        amount=amount,
        balance=balance + amount,
    )


@st.composite
def statements(draw: st.DrawFn, most: int = 8) -> tuple[StatementHead, list[list[StatementEntry]]]:
    opening = draw(st.integers(-(10**9), 10**9) | st.just(0))
    lines = list[StatementEntry]()
    for number in range(1, draw(st.integers(0, most)) + 1):
        lines.append(draw(entries(number, lines[-1].balance if lines else opening)))
    closing = lines[-1].balance if lines else opening
    head = StatementHead(
        book_id=1,
        book="main",
        path=draw(st.sampled_from(PATHS)),
        currency=draw(st.sampled_from(CURRENCIES)),
        first=FIRST,
        last=LAST,
        known=draw(st.integers(0, 10**9)),
        opening=opening,
        closing=closing,
        available=closing - draw(st.sampled_from([0, 700])),
        raised=sum(line.amount for line in lines if line.amount > 0),
        lowered=-sum(line.amount for line in lines if line.amount < 0),
        made_at=NOW,
    )
    cut = draw(st.integers(0, len(lines)))
    return head, [page for page in (lines[:cut], lines[cut:]) if page]


def file_of(writer: StatementWriter, pages: list[list[StatementEntry]]) -> bytes:
    return b"".join((writer.begin(), *(writer.entries(page) for page in pages), writer.end()))
