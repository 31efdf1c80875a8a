"""Two books compared item by item."""

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from banks.reconcile import Item, compare, load_acquirer_book

items = st.builds(
    Item,
    st.just("card"),
    st.sampled_from(["A", "B", "C"]),
    st.sampled_from(["capture", "refund"]),
    st.integers(1, 3),
    st.sampled_from(["INR", "JPY"]),
)


@given(st.lists(items), st.lists(items))
def test_leftovers_are_what_one_side_has_more_often(bank: list[Item], books: list[Item]) -> None:
    left = compare(bank, books)
    assert Counter(bank) + Counter(left.in_books) == Counter(books) + Counter(left.at_bank)
    assert not set(left.at_bank) & set(left.in_books)
    assert left.none == (Counter(bank) == Counter(books))


def test_an_item_with_another_amount_stands_on_both_sides() -> None:
    one, other = (Item("card", "A", "capture", amount, "INR") for amount in (100, 101))
    left = compare([one], [other])
    assert (left.at_bank, left.in_books) == ((one,), (other,))


def test_only_approved_captures_and_refunds_of_the_banks_book_count(tmp_path: Path) -> None:
    book = tmp_path / "book.jsonl"
    common = '"amount":5,"currency":"INR"'
    book.write_text(
        f'{{"kind":"authorization","rrn":"A","code":"00",{common}}}\n'
        f'{{"kind":"capture","rrn":"B","code":"00",{common}}}\n'
        f'{{"kind":"capture","rrn":"C","code":"61",{common}}}\n'
        f'{{"kind":"refund","rrn":"D","code":"00",{common}}}\n'
        '{"kind":"batch","file_id":"x"}\n'
        '{"kind":"capture","rrn":"E","co'
    )
    assert [item.reference for item in load_acquirer_book(book)] == ["B", "D"]
