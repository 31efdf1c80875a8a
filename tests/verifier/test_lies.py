"""The operator lies properly: the lie is booked, hashed and signed with the real key. The line is named even so."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.verifier import forge
from tests.verifier.conftest import Packs
from tests.verifier.forge import Fields, Files
from tests.verifier.run import refusal, verify

KEY = forge.vkey(forge.OPERATOR)
JOURNALS = "journal.jsonl"
Lie = Callable[[list[Fields]], int]  # changes the lines, and returns which one lies (from 0)


def first(journals: list[Fields], fits: Callable[[Fields], Any]) -> int:
    return next(n for n, journal in enumerate(journals) if fits(journal))


def plain(journal: Fields) -> bool:
    return (
        "hold" not in journal
        and "reverses" not in journal
        and not any("up_to" in p for p in journal["postings"])
    )


def does(action: str) -> Callable[[Fields], bool]:
    return lambda journal: journal.get("hold", {}).get("action") == action


def overdrawn(journals: list[Fields]) -> int:
    at = first(journals, lambda j: plain(j) and "Customer" in j["postings"][0]["debit"])
    journals[at]["postings"][0]["amount"] = "99999999"
    return at


def negative(journals: list[Fields]) -> int:
    at = first(journals, plain)
    journals[at]["postings"][0]["amount"] = "-1"
    return at


def of_two_currencies(journals: list[Fields]) -> int:
    at = first(journals, lambda j: plain(j) and j["postings"][0]["currency"] == "INR")
    journals[at]["postings"][0]["currency"] = "USD"
    return at


def on_an_unknown_account(journals: list[Fields]) -> int:
    at = first(journals, plain)
    journals[at]["postings"][0]["credit"] = "Assets:Nowhere"
    return at


def on_one_account(journals: list[Fields]) -> int:
    at = first(journals, plain)
    journals[at]["postings"][0]["credit"] = journals[at]["postings"][0]["debit"]
    return at


def on_a_closed_account(journals: list[Fields]) -> int:
    at = (
        len(journals)
        - 1
        - first(journals[::-1], lambda j: plain(j) and j["postings"][0]["currency"] == "INR")
    )
    journals[at]["postings"][0]["credit"] = "Liabilities:Customer:closed:Wallet"
    return at


def on_a_frozen_account(journals: list[Fields]) -> int:
    at = (
        len(journals)
        - 1
        - first(journals[::-1], lambda j: plain(j) and j["postings"][0]["currency"] == "INR")
    )
    journals[at]["postings"][0]["credit"] = "Liabilities:Customer:frozen:Wallet"
    return at


def captured_over_its_ceiling(journals: list[Fields]) -> int:
    at = first(journals, does("capture"))
    journals[at]["hold"]["amount"] = journals[at]["postings"][-1]["amount"] = "900000"
    return at


def captured_twice(journals: list[Fields]) -> int:
    """What was taken whole is taken again."""
    at = first(
        journals, lambda j: does("capture")(j) and (j["hold"]["final"] or j["hold"]["amount"] == "1100")
    )
    again = json.loads(json.dumps(journals[at]))
    last = journals[-1]
    again |= {name: last[name] for name in ("effective_at", "recorded_at")} | {"seq": last["seq"] + 1}
    again["id"] = again["id"][:-4] + "0000"
    again["source"]["id"] = "again"
    journals.append(again)
    return len(journals) - 1


def released_more_than_was_left(journals: list[Fields]) -> int:
    at = first(journals, does("release"))
    journals[at]["hold"]["amount"] = "800000"
    journals[at]["postings"][0]["amount"] = "-800000"
    return at


def released_other_than_asked(journals: list[Fields]) -> int:
    at = first(journals, lambda j: does("release")(j) and (j["hold"]["amount"] or "1") != "1")
    journals[at]["postings"][0]["amount"] = "-1"
    return at


def expired_too_early(journals: list[Fields]) -> int:
    at = first(journals, does("release"))
    journals[at]["hold"] = {"action": "expire", "id": journals[at]["hold"]["id"]}
    for posting in journals[at]["postings"]:
        posting["hold"] = "expire"
    return at


def pending_without_a_hold(journals: list[Fields]) -> int:
    at = first(journals, plain)
    journals[at]["postings"][0]["layer"] = "pending"
    return at


def a_hold_never_placed(journals: list[Fields]) -> int:
    at = first(journals, does("capture"))
    journals[at]["hold"]["id"] = "00000000-0000-7000-8000-000000000000"
    return at


def a_hold_placed_twice(journals: list[Fields]) -> int:
    at = first(journals, does("place"))
    again = at + 1 + first(journals[at + 1 :], does("place"))
    journals[again]["hold"]["id"] = journals[at]["hold"]["id"]
    return again


def reversed_by_another_amount(journals: list[Fields]) -> int:
    at = first(journals, lambda j: "reverses" in j and int(j["postings"][0]["amount"]) > 1)
    journals[at]["postings"][0]["amount"] = "1"
    return at


def reversed_the_same_way_round(journals: list[Fields]) -> int:
    at = first(journals, lambda j: "reverses" in j)
    for posting in journals[at]["postings"]:
        posting["debit"], posting["credit"] = posting["credit"], posting["debit"]
    return at


def reversed_twice(journals: list[Fields]) -> int:
    one, *others = [n for n, journal in enumerate(journals) if "reverses" in journal]
    journals[others[-1]]["reverses"] = journals[one]["reverses"]
    return others[-1]


def reversed_before_it_was(journals: list[Fields]) -> int:
    at = first(journals, lambda j: "reverses" in j)
    journals[at]["reverses"] = journals[at]["seq"] + 1
    return at


def one_source_key_twice(journals: list[Fields]) -> int:
    journals[40]["source"] = journals[7]["source"]
    return 40


def one_id_twice(journals: list[Fields]) -> int:
    journals[40]["id"] = journals[7]["id"]
    return 40


def a_number_left_out(journals: list[Fields]) -> int:
    journals[50]["seq"] += 1
    return 50


def back_in_time(journals: list[Fields]) -> int:
    at = first(journals, lambda j: j["recorded_at"] > journals[3]["recorded_at"]) + 1
    journals[at]["recorded_at"] = journals[0]["recorded_at"][:11] + "00:00:00.000000Z"
    return at


def in_a_closed_period(journals: list[Fields]) -> int:
    at = len(journals) - 1
    journals[at]["effective_at"] = "2026-01-01T00:00:00.000000Z"
    return at


def of_another_book(journals: list[Fields]) -> int:
    journals[5]["book"] = "other"
    return 5


def no_postings(journals: list[Fields]) -> int:
    at = first(journals, plain)
    journals[at]["postings"] = []
    return at


def a_number_for_an_amount(journals: list[Fields]) -> int:
    at = first(journals, plain)
    journals[at]["postings"][0]["amount"] = int(journals[at]["postings"][0]["amount"])
    return at


def a_float_for_a_number(journals: list[Fields]) -> int:
    journals[5]["seq"] = float(journals[5]["seq"])
    return 5


def one_word_more(journals: list[Fields]) -> int:
    journals[5]["note"] = "x"
    return 5


LIES: list[Lie] = [
    overdrawn, negative, of_two_currencies, on_an_unknown_account, on_one_account, on_a_closed_account,
    on_a_frozen_account, captured_over_its_ceiling, captured_twice, released_more_than_was_left,
    released_other_than_asked, expired_too_early, pending_without_a_hold, a_hold_never_placed,
    a_hold_placed_twice, reversed_by_another_amount, reversed_the_same_way_round, reversed_twice,
    reversed_before_it_was, one_source_key_twice, one_id_twice, a_number_left_out, back_in_time,
    in_a_closed_period, of_another_book, no_postings,
    a_number_for_an_amount, a_float_for_a_number, one_word_more,
]  # fmt: skip


@pytest.fixture(scope="module")
def honest(packs: Packs) -> Files:
    return forge.unzipped(packs.whole)


def refused(files: Files, to: Path) -> tuple[str, int | None]:
    path = to / "pack.zip"
    path.write_bytes(forge.zipped(files, forge.OPERATOR))
    return refusal(path, "--key", KEY)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lie_in_the_journal_is_named(honest: Files, lie: Lie, tmp_path: Path) -> None:
    line: list[int] = []
    files = forge.forged(honest, lambda journals: line.append(lie(journals) + 1))
    assert refused(files, tmp_path) == (JOURNALS, line[0])


def asked(action: str, **of: object) -> Lie:
    """What the hold is asked says something else than it may; the postings are honest."""

    def lie(journals: list[Fields]) -> int:
        at = first(journals, does(action))
        journals[at]["hold"].update(of)
        return at

    return lie


ASKED = {
    "an amount that is a number": asked("capture", amount=1100),
    "an amount with a fraction": asked("capture", amount=1100.7),
    "an amount with a sign": asked("capture", amount="+1100"),
    "an amount with a space": asked("capture", amount=" 1100"),
    "an amount in other digits": asked("place", amount="١١٠٠"),
    "no amount to place": asked("place", amount=None),
    "neither final nor not": asked("capture", final="no"),
    "a side that is none": asked("capture", debit=False),
    "a tolerance above a hundred percent": asked("place", tolerance_bps=10_001),
    "a time that never comes": asked("place", expires_at="never"),
    "a word more": asked("release", note="x"),
}


@pytest.mark.parametrize("what", ASKED)
def test_what_is_asked_of_a_hold_has_one_form(honest: Files, what: str, tmp_path: Path) -> None:
    lines = forge.rows(honest, JOURNALS)
    at = ASKED[what](lines)
    files = dict(honest)
    forge.put(files, JOURNALS, lines)
    assert refused(forge.logged(files, forge.OPERATOR), tmp_path) == (JOURNALS, at + 1)


def test_no_journal_counts_on_a_day_that_is_none(honest: Files, tmp_path: Path) -> None:
    lines = forge.rows(honest, JOURNALS)
    lines[-1]["effective_at"] = "2027-02-31T00:00:00.000000Z"
    files = dict(honest)
    forge.put(files, JOURNALS, lines)
    assert refused(forge.logged(files, forge.OPERATOR), tmp_path) == (JOURNALS, len(lines))


def test_accounts_are_opened_before_they_are_used(honest: Files, tmp_path: Path) -> None:
    accounts = forge.rows(honest, "accounts.jsonl")
    day = accounts[0]["opened_at"][:10]
    late = [a | {"opened_at": f"{day}T23:59:59.999999Z"} for a in accounts if a["opened_at"][:10] == day]
    files = dict(honest)
    forge.put(files, "accounts.jsonl", late + accounts[len(late) :])
    assert refused(forge.logged(files, forge.OPERATOR), tmp_path) == (JOURNALS, 1)


def test_what_was_proposed_is_approved_and_nothing_else(honest: Files, tmp_path: Path) -> None:
    """An adjustment cannot be approved as the reopening of a closed day."""
    acts = forge.rows(honest, "acts.jsonl")
    at = next(n for n, act in enumerate(acts) if act["action"] == "adjustment_approved")
    acts[at]["action"] = "reopening_approved"
    files = dict(honest)
    forge.put(files, "acts.jsonl", acts)
    assert refused(forge.logged(files, forge.OPERATOR), tmp_path) == ("acts.jsonl", at + 1)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("opening.jsonl", "status", "gone"),
        ("opening.jsonl", "seq", -5),
        ("opening.jsonl", "posted_debits", "-1"),
        ("opening.jsonl", "active_limits", "many"),
        ("opening_holds.jsonl", "captured", "-1000000"),
        ("opening_holds.jsonl", "tolerance_bps", 10**9),
        ("opening_holds.jsonl", "expires_at", "never"),
        ("opening_holds.jsonl", "more", 1),
        ("log/runs.jsonl", "first_number", True),
        ("log/keys.jsonl", "until", 7),
        ("log/checkpoints.jsonl", "more", 1),
        ("log/frontier.json", "hashes", ""),
        ("proposals.jsonl", "more", 1),
        ("trial_balance.jsonl", "active_limits", "many"),
        ("holds.jsonl", "more", 1),
    ],
)
def test_every_line_has_its_form(packs: Packs, tmp_path: Path, name: str, field: str, value: object) -> None:
    files = forge.unzipped(packs.later if name.startswith("opening") else packs.whole)
    lines = forge.rows(files, name)
    lines[0][field] = value
    forge.put(files, name, lines)
    assert refused(forge.listed_in_manifest(files, forge.OPERATOR), tmp_path) == (name, 1)


def forced(act: Fields, fields: dict[str, object]) -> None:
    """Into the act or, what it does not have, its detail."""
    for name, value in fields.items():
        value = value.replace("DAY", act["recorded_at"][:10]) if isinstance(value, str) else value
        (act if name in act else act["detail"])[name] = value


ACTS = {
    "a closed account opened again": ("change_account", {"status": "open"}),
    "a fact left out": ("change_account", {"fact": 7}),
    "an act for an account that is not there": ("change_account", {"account": 4711}),
    "an act said to be of another account": ("change_account", {"account": 1}),
    "an act put after journals to come": ("change_account", {"after": 1 << 40}),
    "an act put back": ("change_account", {"after": 0}),
    "an act after nobody knows what": ("change_account", {"after": None}),
    "a close after nobody knows what": ("period_closed", {"head": "7"}),
    "a day closed before it was over": ("period_closed", {"subject": "2099-12-31"}),
    "a day closed twice": ("period_closed", {"subject": "1999-12-31"}),
    "approved by who proposed it": ("adjustment_approved", {"person": "asha"}),
    "approved what nobody proposed": ("adjustment_approved", {"subject": "0" * 36}),
    "a floor that is a number": ("change_account", {"floor": 0}),
    "a fact that is none": ("change_account", {"fact": None}),
    "an account closed for good and no more": ("change_account", {"status": "gone"}),
    "a day that is none": ("period_closed", {"subject": "2026-01-99"}),
    "a detail that is none": ("set_limit", {"detail": "x"}),
    "a subject that is none": ("adjustment_approved", {"subject": 17}),
    "an act back in time": ("adjustment_approved", {"recorded_at": "DAYT00:00:00.000000Z"}),
    "a number left out": ("set_limit", {"act": 4711}),
    "a limit of another account": ("set_limit", {"account": 1}),
    "a limit of an account that is not there": ("set_limit", {"account": 4711}),
    "a limit of nobody": ("set_limit", {"subject": "nobody"}),
    "a close after nothing at all": ("period_closed", {"head": None}),
    "a day that no calendar has": ("period_closed", {"subject": "2026-02-30"}),
}


@pytest.mark.parametrize("what", ACTS)
def test_a_lie_in_the_acts_is_named(honest: Files, what: str, tmp_path: Path) -> None:
    action, fields = ACTS[what]
    line: list[int] = []

    def lie(acts: list[Fields]) -> None:
        found = [n for n, act in enumerate(acts) if act["action"] == action]
        at = found[-1] if what in ("a day closed twice", "an act put back") else found[0]
        if what == "a closed account opened again":
            closed = next(n for n in found if acts[n]["detail"]["status"] == "closed")
            acts.insert(closed + 1, json.loads(json.dumps(acts[closed])))
            acts[closed + 1]["detail"] |= {"status": "open", "fact": acts[closed]["detail"]["fact"] + 1}
            for number, act in enumerate(acts, 1):
                act["act"] = number
            at = closed + 1
        else:
            forced(acts[at], fields)
        line.append(at + 1)

    files = dict(honest)
    acts = forge.rows(files, "acts.jsonl")
    lie(acts)
    forge.put(files, "acts.jsonl", acts)
    proposals = {act["subject"]: act["act"] for act in acts if act["action"].endswith("_proposed")}
    forge.put(
        files,
        "proposals.jsonl",
        [p | {"act": proposals[p["id"]]} for p in forge.rows(files, "proposals.jsonl")],
    )
    with_closed = forge.logged(files, forge.OPERATOR)  # what is derived stays as it was
    named = refused(with_closed, tmp_path)
    if what == "an act put after journals to come":  # every later act is before it
        assert named[0] == "acts.jsonl"
    else:
        assert named == ("acts.jsonl", line[0])


def day_of(account: Fields, hour: str) -> str:
    return f"{account['opened_at'][:11]}{hour}:00:00.000000Z"


OPENINGS: dict[str, Callable[[list[Fields]], int]] = {
    "an account opened twice": lambda lines: lines[3].update(lines[0] | {"account_id": 4}) or 3,
    "no path": lambda lines: lines[2].update(account="Nothing:x") or 2,
    "a number left out": lambda lines: lines[2].update(account_id=77) or 2,
    "a time that is none": lambda lines: lines[2].update(opened_at=day_of(lines[2], "25")) or 2,
    "back in time": lambda lines: lines[2].update(opened_at=day_of(lines[2], "00")) or 2,
}


@pytest.mark.parametrize("what", OPENINGS)
def test_a_lie_in_the_accounts_is_named(honest: Files, what: str, tmp_path: Path) -> None:
    files, accounts = dict(honest), forge.rows(honest, "accounts.jsonl")
    line = OPENINGS[what](accounts) + 1
    forge.put(files, "accounts.jsonl", accounts)
    assert refused(forge.logged(files, forge.OPERATOR), tmp_path) == ("accounts.jsonl", line)


def test_content_that_was_not_proposed_is_named(honest: Files, tmp_path: Path) -> None:
    files, proposals = dict(honest), forge.rows(honest, "proposals.jsonl")
    proposals[1]["content"]["more"] = "1"
    forge.put(files, "proposals.jsonl", proposals)
    assert refused(forge.logged(files, forge.OPERATOR), tmp_path) == ("proposals.jsonl", 2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), name=st.sampled_from(["lines.csv", "trial_balance.jsonl", "holds.jsonl"]),
       way=st.sampled_from(["number", "drop", "double", "swap"]))  # fmt: skip
def test_a_line_that_does_not_follow_from_the_journal_is_named(
    honest: Files, tmp_path: Path, seed: int, name: str, way: str
) -> None:
    """With everything signed anew by the operator: the first line that is another."""
    random, files = Random(seed), dict(honest)
    lines = files[name].splitlines(keepends=True)
    at = random.randrange(1, len(lines) - 1)
    if way == "number":
        digits = [n for n, char in enumerate(lines[at]) if chr(char).isdigit()]
        place = random.choice(digits)
        other = random.choice([d for d in b"123456789" if d != lines[at][place]])
        lines[at] = lines[at][:place] + bytes([other]) + lines[at][place + 1 :]
    elif way == "drop":
        del lines[at]
    elif way == "double":
        lines.insert(at, lines[at])
    else:
        lines[at], lines[at + 1] = lines[at + 1], lines[at]
    files[name] = b"".join(lines)
    made = honest[name].splitlines(keepends=True)
    first_other = next(n for n, (is_, was) in enumerate(zip(lines, made, strict=False)) if is_ != was) + 1
    forge.listed_in_manifest(files, forge.OPERATOR)
    assert refused(files, tmp_path) == (name, first_other)


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40)
METADATA = st.dictionaries(st.from_regex(r"[a-z][a-z0-9_.]{0,10}", fullmatch=True), WORDS, max_size=5)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(description=WORDS, metadata=METADATA)
def test_whatever_text_a_journal_bears_its_form_is_one(
    honest: Files, tmp_path: Path, description: str, metadata: dict[str, str]
) -> None:
    """An operator may write any text: in canonical form it is right, in any other it is refused."""
    files = forge.forged(
        honest, lambda journals: journals[9].update(description=description, metadata=metadata)
    )
    path = tmp_path / "pack.zip"
    path.write_bytes(forge.zipped(files, forge.OPERATOR))
    code, report = verify(path, "--key", KEY)
    assert (code, report["wrong"]) == (0, None)
    lines = files[JOURNALS].splitlines(keepends=True)
    lines[9] = b'{ "book"' + lines[9].removeprefix(b'{"book"')
    spaced = forge.logged(files | {JOURNALS: b"".join(lines)}, forge.OPERATOR)
    assert refused(spaced, tmp_path) == (JOURNALS, 10)


def test_what_is_booked_is_what_was_hashed(honest: Files) -> None:
    """The forger himself: his trees are those that the log's own code made."""
    manifest = forge.rows(honest, "manifest.json")[0]
    files = forge.logged(dict(honest), forge.OPERATOR)
    leaves = {name: files[name].splitlines() for name, _ in forge.SOURCES.values()}
    assert sum(map(len, leaves.values())) == manifest["to_index"]
    assert sha256(files["manifest.json"]).hexdigest() in files["manifest.sig"].decode()
