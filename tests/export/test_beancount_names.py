"""Account names for beancount: taken by it, different for different paths, and undone."""

from __future__ import annotations

import pytest
from beancount.core.account import is_valid
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.export.beancount import account_name, path_of, pending_name

ROOTS = st.sampled_from(["Assets", "Liabilities", "Equity", "Income", "Expenses"])
WORDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)
# Words of few letters meet each other, and the marks that the mapping itself makes.
MARKED = st.text("Xxu_-P", min_size=1, max_size=6).filter(lambda word: word[0] not in "_-")
PATHS = st.tuples(ROOTS, st.lists(WORDS | MARKED, min_size=1, max_size=7)).map(
    lambda p: ":".join([p[0], *p[1]])
)


@settings(deadline=None)
@given(PATHS)
def test_every_path_has_a_name_that_beancount_takes_and_the_name_leads_back(path: str) -> None:
    for name in (account_name(path), pending_name(path)):
        assert is_valid(name)
    assert path_of(account_name(path)) == path


@settings(deadline=None)
@given(PATHS, PATHS)
def test_no_account_has_the_name_of_anothers_pending_lines(one: str, other: str) -> None:
    assert account_name(one) != pending_name(other)
    assert (account_name(one) == account_name(other)) == (one == other)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Assets:Bank:Escrow", "Assets:Bank:Escrow"),
        ("Income:Fees:card", "Income:Fees:X-card"),
        ("Liabilities:Merchant:m_a-b:Pending", "Liabilities:Merchant:X-m-ua--b:Pending"),
        ("Equity:X-Pending", "Equity:X-X--Pending"),
        ("Assets:9-Lives", "Assets:9-Lives"),
    ],
)
def test_names_as_documented(path: str, name: str) -> None:
    assert account_name(path) == name
