"""The stand-alone verifier: right packs are right, and its report says of what, by whom, and what it cannot know."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.verifier import forge
from tests.verifier.conftest import Packs
from tests.verifier.run import refusal, verify

FILE = Path(__file__).parents[2] / "verifier" / "khata_verify.py"
KEY = forge.vkey(forge.OPERATOR)


def saved(tmp_path: Path, name: str, pack: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(pack)
    return path


def test_a_pack_of_the_whole_book_is_right_under_the_pinned_key(packs: Packs, tmp_path: Path) -> None:
    code, report = verify(saved(tmp_path, "pack.zip", packs.whole), "--key", KEY)
    files = forge.unzipped(packs.whole)
    assert (code, report["verdict"], report["wrong"]) == (0, "right", None)
    assert report["root"] == forge.rows(files, "manifest.json")[0]["root"]
    assert KEY in report["vouched_by"]
    assert report["not_proven"] == []
    proven = report["proven"]
    assert proven["journals"] == files["journal.jsonl"].count(b"\n")
    assert proven["closes"] == 3
    assert min(proven[what] for what in ("reversals", "holds", "open_holds", "acts", "days")) > 2
    assert proven["rows"] == files["lines.csv"].count(b"\n") - 1


def test_the_same_files_in_a_directory_are_right_too(packs: Packs, tmp_path: Path) -> None:
    code, report = verify(forge.write(forge.unzipped(packs.whole), tmp_path / "pack"), "--key", KEY)
    assert (code, report["wrong"]) == (0, None)


def test_another_writer_from_the_same_text_makes_the_same_files(packs: Packs, tmp_path: Path) -> None:
    files = forge.unzipped(packs.whole)
    again = forge.logged(forge.booked(dict(files)), forge.OPERATOR)
    changed = {name for name in files if files[name] != again.get(name)}
    # Passes may lie otherwise within a day, and a key begins when it begins.
    assert {name for name in changed if not name.startswith(("log/", "manifest"))} == set()
    assert "log/frontier.json" not in changed
    assert verify(saved(tmp_path, "again.zip", forge.zipped(again, forge.OPERATOR)), "--key", KEY)[0] == 0


def test_a_later_pack_is_chained_from_the_earlier_one(packs: Packs, tmp_path: Path) -> None:
    earlier = saved(tmp_path, "earlier.zip", packs.earlier)
    later = saved(tmp_path, "later.zip", packs.later)
    code, report = verify(later, "--prior", str(earlier))
    assert (code, report["wrong"]) == (0, None)
    assert report["vouched_by"] == "the keys of earlier.zip"
    assert [note for note in report["not_proven"] if "as signed" in note] == []
    whole = saved(tmp_path, "whole.zip", packs.whole)
    assert verify(whole, "--prior", str(earlier))[0] == 0  # a prefix of it
    assert refusal(earlier, "--prior", str(whole)) == ("manifest.json", 1)  # not the other way round


def test_it_says_what_it_cannot_know(packs: Packs, tmp_path: Path) -> None:
    code, report = verify(saved(tmp_path, "later.zip", packs.later))
    assert code == 0
    assert "nobody" in report["vouched_by"]
    assert "what stood before the range is as signed" in report["not_proven"][0]


def test_what_is_no_pack_is_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encrypted = saved(tmp_path, "pack.zip.age", b"age-encryption.org/v1\n-> scrypt")
    assert verify(encrypted)[0] == 2
    assert "age --decrypt" in capsys.readouterr().err
    assert verify(tmp_path / "nothing.zip")[0] == 2
    with pytest.raises(SystemExit) as usage:
        verify(tmp_path, "--no-such-option")
    assert usage.value.code == 2
    assert refusal(saved(tmp_path, "text.zip", b"hello")) == ("text.zip", None)


def test_it_runs_alone(packs: Packs, tmp_path: Path) -> None:
    """As an auditor runs it: another directory, nothing of Khata in reach."""
    (tmp_path / "v.py").write_bytes(FILE.read_bytes())
    pack = saved(tmp_path, "pack.zip", packs.whole)
    command = [sys.executable, "-I", "v.py", pack.name, "--key", KEY]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    root = forge.rows(forge.unzipped(packs.whole), "manifest.json")[0]["root"]
    assert root in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("RIGHT")


def test_it_can_be_read_in_one_sitting() -> None:
    assert len(FILE.read_text().splitlines()) < 500


def test_it_needs_the_standard_library_and_one_other() -> None:
    names = set[str]()
    for node in ast.walk(ast.parse(FILE.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    assert names - sys.stdlib_module_names == {"cryptography"}


def test_khata_verify_says_the_same(packs: Packs, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from khata.cli import main; main()", "verify", "--json", "--key", KEY]
    right = saved(tmp_path, "pack.zip", packs.whole)
    wrong = saved(tmp_path, "wrong.zip", packs.whole[:-200] + bytes(1) + packs.whole[-199:])
    for pack in (right, wrong):
        code, report = verify(pack, "--key", KEY)
        done = subprocess.run([*command, str(pack)], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert json.loads(done.stdout) == report
