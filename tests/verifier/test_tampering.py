"""Whatever is changed in a pack after it was signed is refused and named; and so is another tree."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.verifier import forge
from tests.verifier.conftest import Packs
from tests.verifier.forge import OPERATOR, THIEF, Files
from tests.verifier.run import refusal, verify

KEY = forge.vkey(OPERATOR)
FLIPS_A_FILE = 12
FLIPS_OF_A_ZIP = 400


@pytest.fixture(scope="module")
def files(packs: Packs) -> Files:
    return forge.unzipped(packs.whole)


@pytest.fixture(scope="module")
def small(files: Files) -> Files:
    """One journal between two accounts: small enough to change every byte."""
    small = {name: b"" for name in files if name.partition("/")[0] not in ("csv", "parquet", "manifest.json")}
    journal = next(j for j in forge.rows(files, "journal.jsonl") if "hold" not in j)
    paths = [(p[side], p["currency"]) for p in journal["postings"] for side in ("debit", "credit")]
    accounts = [a for a in forge.rows(files, "accounts.jsonl") if (a["account"], a["currency"]) in paths]
    forge.put(small, "accounts.jsonl", [a | {"account_id": n} for n, a in enumerate(accounts, 1)])
    forge.put(small, "journal.jsonl", [journal | {"seq": 1}])
    return forge.logged(forge.booked(small), OPERATOR)


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def test_a_flipped_bit_of_any_file_is_refused_and_the_file_named(files: Files, tmp_path: Path) -> None:
    random, root = Random(1), forge.write(files, tmp_path / "pack")
    assert verify(root, "--key", KEY)[0] == 0
    tried = 0
    for name, data in files.items():
        places = (
            {0, len(data) - 1, *(random.randrange(len(data)) for _ in range(FLIPS_A_FILE))} if data else set()
        )
        for at in sorted(places):
            bit = random.randrange(8)
            (root / name).write_bytes(flipped(data, at, bit))
            assert refusal(root, "--key", KEY)[0] == name, (name, at, bit)
            tried += 1
        (root / name).write_bytes(data)
    assert tried > 150


def test_every_byte_of_a_small_pack_counts(small: Files, tmp_path: Path) -> None:
    random, root = Random(2), forge.write(small, tmp_path / "pack")
    assert verify(root, "--key", KEY)[0] == 0
    for name, data in small.items():
        for at in range(len(data)):
            bit = random.randrange(8)
            (root / name).write_bytes(flipped(data, at, bit))
            assert refusal(root, "--key", KEY)[0] == name, (name, at, bit)
        (root / name).write_bytes(data)


def test_a_flipped_bit_of_a_zip_is_refused_and_what_it_hit_named(
    packs: Packs, files: Files, tmp_path: Path
) -> None:
    random, path = Random(3), tmp_path / "pack.zip"
    named = set[str]()
    for _ in range(FLIPS_OF_A_ZIP):
        at, bit = random.randrange(len(packs.whole)), random.randrange(8)
        path.write_bytes(flipped(packs.whole, at, bit))
        name, _ = refusal(path, "--key", KEY)
        assert name == "pack.zip" or name.isprintable(), (at, bit)
        named.add(name)
    assert {"journal.jsonl", "lines.csv"} <= named


def test_no_byte_of_a_small_zip_is_free(small: Files, tmp_path: Path) -> None:
    random, path, pack = Random(4), tmp_path / "pack.zip", forge.zipped(small, OPERATOR)
    path.write_bytes(pack)
    assert verify(path, "--key", KEY)[0] == 0
    for at in range(0, len(pack), 5):
        bit = random.randrange(8)
        path.write_bytes(flipped(pack, at, bit))
        assert verify(path, "--key", KEY)[0] == 1, (at, bit)
    for at in random.sample(range(len(pack)), 40):
        path.write_bytes(pack[:at])
        assert verify(path, "--key", KEY)[0] == 1, at
        path.write_bytes(pack[:at] + b"\0" + pack[at:])
        assert verify(path, "--key", KEY)[0] == 1, at


def drop(lines: list[bytes], at: int) -> None:
    del lines[at]


def double(lines: list[bytes], at: int) -> None:
    lines.insert(at, lines[at])


def swap(lines: list[bytes], at: int) -> None:
    lines[at], lines[at - 1] = lines[at - 1], lines[at]


def add(lines: list[bytes], at: int) -> None:
    lines.insert(at, lines[0].replace(b"1", b"2"))


WAYS: list[Callable[[list[bytes], int], None]] = [drop, double, swap, add]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_lines_lost_added_doubled_and_swapped_are_refused(
    files: Files, tmp_path: Path, way: Callable[[list[bytes], int], None]
) -> None:
    """By a stranger, and by the operator who makes the manifest anew; the other programs' forms are his word alone."""
    random, root = Random(5), forge.write(files, tmp_path / "pack")
    for name, data in files.items():
        lines = data.splitlines(keepends=True)
        if len(lines) < 2 or name.endswith(".parquet"):
            continue
        way(lines, at := random.randrange(1, len(lines)))
        changed = b"".join(lines)
        if changed == data:
            continue
        (root / name).write_bytes(changed)
        assert refusal(root, "--key", KEY)[0] == name, (name, at)
        (root / name).write_bytes(data)
        if not name.startswith(("csv/", "manifest")):
            anew = forge.listed_in_manifest(files | {name: changed}, OPERATOR)
            path = tmp_path / "anew.zip"
            path.write_bytes(forge.zipped(anew, OPERATOR))
            code, report = verify(path, "--key", KEY)
            assert code == 1, (name, at, report)


def test_files_lost_and_added_are_named(files: Files, tmp_path: Path) -> None:
    root = forge.write(files, tmp_path / "pack")
    for name, data in files.items():
        (root / name).unlink()
        assert refusal(root, "--key", KEY)[0] == name
        (root / name).write_bytes(data)
    (root / "more.txt").write_bytes(b"")
    assert refusal(root, "--key", KEY)[0] == "more.txt"
    (root / "more.txt").unlink()
    (root / "link").symlink_to(root / "lines.csv")
    assert refusal(root, "--key", KEY)[0].endswith("link")


def test_a_thief_who_signs_it_all_anew_is_refused_by_the_pinned_key(
    files: Files, packs: Packs, tmp_path: Path
) -> None:
    path, prior = tmp_path / "pack.zip", tmp_path / "earlier.zip"
    path.write_bytes(forge.zipped(forge.logged(dict(files), THIEF), THIEF))
    prior.write_bytes(packs.earlier)
    assert refusal(path, "--key", KEY)[0] == "log/keys.jsonl"
    assert refusal(path, "--prior", str(prior))[0] == "log/keys.jsonl"
    code, report = verify(path)
    assert code == 0
    assert report["vouched_by"].startswith("nobody")
    # With the operator's key in the list, but the thief's signatures.
    posed = forge.logged(dict(files), THIEF) | {"log/keys.jsonl": files["log/keys.jsonl"]}
    path.write_bytes(forge.zipped(forge.listed_in_manifest(posed, THIEF), THIEF))
    assert refusal(path, "--key", KEY)[0] == "manifest.sig"


def test_a_new_key_counts_if_the_old_one_endorsed_it(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "pack.zip"
    new, at = forge.vkey(THIEF), "2026-06-01T00:00:00.000000Z"
    old = forge.rows(forge.logged(dict(files), OPERATOR), "log/keys.jsonl")
    for signer, right in ((OPERATOR, True), (THIEF, False)):
        endorsement = forge.sign(f"khata log key\n{forge.ORIGIN}\n{new}\n", signer)
        made = forge.logged(dict(files), THIEF)
        forge.put(
            made,
            "log/keys.jsonl",
            [*old, {"endorsement": endorsement, "from": at, "until": None, "vkey": new}],
        )
        path.write_bytes(forge.zipped(forge.listed_in_manifest(made, THIEF), THIEF))
        if right:
            assert verify(path, "--key", KEY)[0] == verify(path, "--key", new)[0] == 0
        else:
            assert refusal(path, "--key", KEY) == ("log/keys.jsonl", 2)


def test_another_key_on_one_signature_is_named(files: Files, tmp_path: Path) -> None:
    text = f"khata pack\n{forge.ORIGIN}\n{forge.sha256(files['manifest.json']).hexdigest()}\n"
    root = forge.write(files | {"manifest.sig": forge.sign(text, THIEF).encode()}, tmp_path / "pack")
    assert refusal(root, "--key", KEY)[0] == "manifest.sig"
    leaves = [line for name, _ in forge.SOURCES.values() for line in files[name].splitlines()]
    made = forge.listed_in_manifest(
        files | {"log/checkpoint": forge.checkpoint(leaves, THIEF).encode()}, OPERATOR
    )
    assert refusal(forge.write(made, tmp_path / "other"), "--key", KEY)[0] == "log/checkpoint"
    path = tmp_path / "pack.zip"
    path.write_bytes(forge.zipped(files, THIEF))
    assert refusal(path, "--key", KEY)[0] == "pack.zip"


def test_a_shorter_tree_than_was_seen_is_refused(packs: Packs, tmp_path: Path) -> None:
    """Who kept a pack of the whole book is shown only its first days, signed by the operator."""
    seen, shown = tmp_path / "seen.zip", tmp_path / "shown.zip"
    seen.write_bytes(packs.whole)
    shown.write_bytes(packs.earlier)
    assert refusal(shown, "--key", KEY, "--prior", str(seen)) == ("manifest.json", 1)


def test_an_earlier_pack_that_was_changed_vouches_for_nothing(packs: Packs, tmp_path: Path) -> None:
    seen, shown = tmp_path / "seen.zip", tmp_path / "shown.zip"
    seen.write_bytes(flipped(packs.earlier, len(packs.earlier) // 2, 3))
    shown.write_bytes(packs.later)
    assert refusal(shown, "--prior", str(seen))[0].startswith("seen.zip: ")


def test_a_forked_tree_is_refused(packs: Packs, files: Files, tmp_path: Path) -> None:
    """The operator writes his history anew: every rule is kept, the key is right, but it is not what was seen."""
    seen, shown = tmp_path / "seen.zip", tmp_path / "shown.zip"
    seen.write_bytes(packs.earlier)
    forked = forge.forged(files, lambda journals: journals[3].update(description="another story"))
    shown.write_bytes(forge.zipped(forked, OPERATOR))
    assert verify(shown, "--key", KEY)[0] == 0
    assert refusal(shown, "--prior", str(seen))[0] == "seen.zip"


def test_a_later_pack_that_does_not_begin_where_the_earlier_one_ends_is_refused(
    packs: Packs, tmp_path: Path
) -> None:
    later, earlier = tmp_path / "later.zip", tmp_path / "earlier.zip"
    later.write_bytes(packs.later)
    cut = forge.unzipped(packs.earlier)
    journals = forge.rows(cut, "journal.jsonl")
    day = journals[-1]["recorded_at"][:10]
    for name, at in forge.SOURCES.values():
        forge.put(cut, name, [line for line in forge.rows(cut, name) if line[at][:10] < day])
    made = forge.logged(forge.booked(cut), OPERATOR)
    earlier.write_bytes(forge.zipped(forge.listed_in_manifest(made, OPERATOR, to=None), OPERATOR))
    assert verify(earlier, "--key", KEY)[0] == 0
    assert refusal(later, "--prior", str(earlier)) == ("manifest.json", 1)


@pytest.mark.parametrize("name", ["opening.jsonl", "opening_holds.jsonl"])
def test_what_stood_before_is_what_the_earlier_pack_ended_with(
    packs: Packs, tmp_path: Path, name: str
) -> None:
    """An operator states another opening and books on from there: consistent in itself, but not with what was seen."""
    later, earlier = tmp_path / "later.zip", tmp_path / "earlier.zip"
    earlier.write_bytes(packs.earlier)
    files = forge.unzipped(packs.later)
    lines = forge.rows(files, name)
    if name == "opening.jsonl":
        lines[-1]["posted_debits"] = str(int(lines[-1]["posted_debits"]) + 1)
    else:
        lines[-1]["tolerance_bps"] += 1
    forge.put(files, name, lines)
    later.write_bytes(forge.zipped(forge.listed_in_manifest(files, OPERATOR), OPERATOR))
    assert refusal(later, "--prior", str(earlier))[0] == name


def test_missing_checkpoints_and_other_frontiers_are_named(
    packs: Packs, files: Files, tmp_path: Path
) -> None:
    path = tmp_path / "pack.zip"

    def refused(made: Files) -> str:
        path.write_bytes(forge.zipped(forge.listed_in_manifest(made, OPERATOR), OPERATOR))
        return refusal(path, "--key", KEY)[0]

    kept = forge.rows(files, "log/checkpoints.jsonl")
    made = dict(files)
    forge.put(made, "log/checkpoints.jsonl", kept[1:])
    assert refused(made) == "log/checkpoints.jsonl"
    later = forge.unzipped(packs.later)
    frontier = json.loads(later["log/frontier.json"])
    frontier["hashes"][0] = "00" * 32
    forge.put(later, "log/frontier.json", [frontier])
    assert refused(later) == "log/prior"
    later = forge.unzipped(packs.later)
    del (parts := json.loads(later["log/frontier.json"]))["hashes"][0]
    forge.put(later, "log/frontier.json", [parts])
    assert refused(later) == "log/frontier.json"


def test_a_pack_of_another_log_is_refused_under_this_logs_key(files: Files, tmp_path: Path) -> None:
    """The key is the pinned one, and signed everything: but of a log of another name."""
    other, manifest = (
        "khata.example/other",
        json.loads(files["manifest.json"]) | {"origin": "khata.example/other"},
    )
    made = dict(files)
    for note in ("log/checkpoint", "log/prior"):
        if note in made:
            text = made[note].decode().partition("\n\n")[0].replace(forge.ORIGIN, other, 1)
            made[note] = forge.sign(f"{text}\n", OPERATOR).encode()
    notes = forge.rows(made, "log/checkpoints.jsonl")
    for line in notes:
        text = line["note"].partition("\n\n")[0].replace(forge.ORIGIN, other, 1)
        line["note"] = forge.sign(f"{text}\n", OPERATOR)
    forge.put(made, "log/checkpoints.jsonl", notes)
    made = forge.listed_in_manifest(made, OPERATOR)
    made["manifest.json"] = (
        forge.dump(json.loads(made["manifest.json"]) | {"origin": manifest["origin"]}) + b"\n"
    )
    digest = forge.sha256(made["manifest.json"]).hexdigest()
    made["manifest.sig"] = forge.sign(f"khata pack\n{other}\n{digest}\n", OPERATOR).encode()
    assert refusal(forge.write(made, tmp_path / "pack"), "--key", KEY) == ("log/keys.jsonl", 1)


def test_while_two_keys_sign_either_may_be_pinned(files: Files, tmp_path: Path) -> None:
    new = forge.vkey(THIEF)
    endorsement = forge.sign(f"khata log key\n{forge.ORIGIN}\n{new}\n", OPERATOR)
    made = forge.logged(dict(files), OPERATOR, THIEF)
    old, later = forge.rows(made, "log/keys.jsonl")
    forge.put(made, "log/keys.jsonl", [old, later | {"endorsement": endorsement}])
    path = tmp_path / "pack.zip"
    path.write_bytes(forge.zipped(forge.listed_in_manifest(made, OPERATOR, THIEF), OPERATOR, THIEF))
    for key in (KEY, new):
        code, report = verify(path, "--key", key)
        assert (code, report["wrong"]) == (0, None)
    quiet = forge.logged(dict(files), OPERATOR) | {
        "log/keys.jsonl": made["log/keys.jsonl"]
    }  # nothing sealed since
    path.write_bytes(forge.zipped(forge.listed_in_manifest(quiet, OPERATOR, THIEF), OPERATOR, THIEF))
    assert verify(path, "--key", new)[0] == 0
    path.write_bytes(forge.zipped(forge.listed_in_manifest(made, OPERATOR), OPERATOR))
    assert refusal(path, "--key", new)[0] == "manifest.sig"  # the pinned key has not signed it


def test_a_zip_of_another_compression_is_judged_like_any(small: Files, tmp_path: Path) -> None:
    """Whatever a damaged one makes its decompressor say."""
    random, path = Random(6), tmp_path / "pack.zip"
    pack = forge.zipped(small, OPERATOR, compression=zipfile.ZIP_LZMA)
    path.write_bytes(pack)
    assert verify(path, "--key", KEY)[0] == 0
    for at in random.sample(range(len(pack)), 150):
        path.write_bytes(flipped(pack, at, random.randrange(8)))
        assert verify(path, "--key", KEY)[0] == 1, at


def test_a_name_cannot_write_on_the_auditors_screen(files: Files, tmp_path: Path) -> None:
    root = forge.write(files, tmp_path / "pack")
    (root / "x\n\x1b[2JRIGHT").write_bytes(b"")
    assert refusal(root, "--key", KEY)[0] == "x\\n\\x1b[2JRIGHT"
    (root / "x\n\x1b[2JRIGHT").unlink()
    (tmp_path / os.fsdecode(b"pack/\xff")).write_bytes(b"")
    assert refusal(root, "--key", KEY)[0] == "\\udcff"
