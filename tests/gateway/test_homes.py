"""Home books: the same for one merchant everywhere, spread over the books, and nobody moves between old ones."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from gateway.homes import home_of

BOOKS = st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True), min_size=1, max_size=6, unique=True)


@given(st.uuids(), BOOKS, st.randoms())
def test_the_order_of_the_books_does_not_matter(merchant: UUID, books: list[str], random: object) -> None:
    assert home_of(merchant, books) == home_of(merchant, books[::-1])
    assert home_of(merchant, books) in books


@given(st.uuids(), BOOKS)
def test_a_book_that_is_added_wins_merchants_for_itself_only(merchant: UUID, books: list[str]) -> None:
    assert home_of(merchant, [*books, "a-new-one--"]) in (home_of(merchant, books), "a-new-one--")


def test_merchants_spread_over_the_books() -> None:
    books = ("main", "second", "third")
    shares = Counter(home_of(UUID(int=n), books) for n in range(3000))
    assert set(shares) == set(books)
    assert all(850 < share < 1150 for share in shares.values()), shares
