"""References: STAN, RRN and field 7."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banks.errors import BankUnknown
from banks.references import BankReference, new_reference, reference
from khata.database import Database

NOW = datetime(2026, 11, 22, 9, 30, 15, 123456, tzinfo=UTC)
numbers = st.integers(0, 2**30 - 1)
seconds = st.floats(0, 2**30 - 1)
times = seconds.map(lambda since: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=since))


def test_the_stan_wraps_at_999999_and_is_never_zero() -> None:
    stans = [reference(number, NOW).stan for number in (0, 1, 999_997, 999_998, 999_999)]
    assert stans == ["000001", "000002", "999998", "999999", "000001"]


def test_field_7_is_utc_to_the_second() -> None:
    assert reference(1, NOW).transmission == "1122093015"
    assert reference(1, NOW).transmitted_at == NOW.replace(microsecond=0)


@given(st.tuples(numbers, times), st.tuples(numbers, times))
def test_an_rrn_comes_again_only_for_the_same_number_in_the_same_second(
    one: tuple[int, datetime], other: tuple[int, datetime]
) -> None:
    same = one[0] == other[0] and one[1].replace(microsecond=0) == other[1].replace(microsecond=0)
    assert (reference(*one).rrn == reference(*other).rrn) == same


def test_an_rrn_sorts_by_time() -> None:
    assert reference(2**30 - 1, NOW).rrn < reference(0, NOW + timedelta(seconds=1)).rrn


@pytest.mark.parametrize(("stan", "rrn"), [("000000", "A" * 12), ("12345", "A" * 12), ("123456", "a" * 12)])
def test_a_reference_that_fits_no_field_cannot_be_made(stan: str, rrn: str) -> None:
    with pytest.raises(ValueError, match=r"STAN|RRN"):
        BankReference(stan, rrn, NOW)


async def test_references_come_from_the_database_and_only_for_a_bank_that_is_known(
    database: Database,
) -> None:
    async with await psycopg.AsyncConnection.connect(database.app_dsn) as conn:
        first = await new_reference(conn, "meridian", now=NOW)
        second = await new_reference(conn, "meridian", now=NOW)
        assert (first.stan, second.stan) == ("000001", "000002")
        with pytest.raises(BankUnknown):
            await new_reference(conn, "nobody", now=NOW)
