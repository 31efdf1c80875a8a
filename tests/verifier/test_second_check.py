"""A second check of packs, written in SQL over the Parquet tables and the CSV: it shares no line with the verifier.

It asks what an auditor with a notebook asks: does every journal sum to zero, do running balances follow from the lines,
do they end in the trial balance, was more captured than was held.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import duckdb
import pytest

from tests.verifier import forge
from tests.verifier.conftest import Packs
from tests.verifier.forge import Fields

# What each question finds is wrong: no row must come back. DIR is the pack's directory.
QUESTIONS = {
    "a journal does not sum to zero": """
        SELECT seq, currency, layer, sum(signed) FROM 'DIR/parquet/lines.parquet'
         GROUP BY ALL HAVING sum(signed) <> 0""",
    "a journal is missing": """
        SELECT seq FROM (SELECT seq, row_number() OVER (ORDER BY seq) AS place FROM 'DIR/parquet/journals.parquet')
         WHERE seq <> place""",
    "a source key comes twice": """
        SELECT source_type, source_id, source_event FROM 'DIR/parquet/journals.parquet'
         GROUP BY ALL HAVING count(*) > 1""",
    "the CSV has other lines than the tables": """
        (SELECT seq, line, side, account, currency, layer, amount FROM 'DIR/lines.csv' EXCEPT ALL
         SELECT seq, line, side, account, currency, layer, amount FROM 'DIR/parquet/lines.parquet')
        UNION ALL
        (SELECT seq, line, side, account, currency, layer, amount FROM 'DIR/parquet/lines.parquet' EXCEPT ALL
         SELECT seq, line, side, account, currency, layer, amount FROM 'DIR/lines.csv')""",
    "a running balance does not follow": """
        WITH flow AS (
          SELECT *, CASE WHEN (side = 'debit') = (account LIKE 'Assets:%' OR account LIKE 'Expenses:%')
                         THEN 1 ELSE -1 END AS way
            FROM 'DIR/lines.csv'),
        made AS (
          SELECT seq, line, side, posted, available, incoming, account_seq,
                 row_number() OVER lines AS number,
                 sum(CASE WHEN layer = 'posted' THEN way * amount ELSE 0 END) OVER lines AS is_posted,
                 sum(CASE WHEN layer = 'posted' OR way < 0 THEN way * amount ELSE 0 END) OVER lines AS is_available,
                 sum(CASE WHEN layer = 'pending' AND way > 0 THEN amount ELSE 0 END) OVER lines AS is_incoming
            FROM flow WINDOW lines AS (PARTITION BY account, currency ORDER BY account_seq))
        SELECT seq, line, side FROM made
         WHERE (account_seq, posted, available, incoming) <> (number, is_posted, is_available, is_incoming)""",
    "the trial balance is another": """
        WITH last AS (
          SELECT account, currency, sum(amount) FILTER (side = 'debit' AND layer = 'posted') AS debits,
                 sum(amount) FILTER (side = 'credit' AND layer = 'posted') AS credits, max(account_seq) AS seq
            FROM 'DIR/lines.csv' GROUP BY ALL)
        SELECT t.account, t.currency FROM read_json('DIR/trial_balance.jsonl', format = 'newline_delimited') AS t
          LEFT JOIN last USING (account, currency)
         WHERE (coalesce(debits, 0), coalesce(credits, 0), coalesce(last.seq, 0))
            <> (t.posted_debits::BIGINT, t.posted_credits::BIGINT, t.seq)""",
    "all accounts together are not zero": """
        SELECT currency FROM read_json('DIR/trial_balance.jsonl', format = 'newline_delimited') GROUP BY currency
        HAVING sum(posted_debits::BIGINT) <> sum(posted_credits::BIGINT)
            OR sum(pending_debits::BIGINT) <> sum(pending_credits::BIGINT)""",
    "a hold gave more than it had": """
        SELECT j.hold_id FROM 'DIR/parquet/lines.parquet' AS l JOIN 'DIR/parquet/journals.parquet' AS j USING (seq)
         WHERE l.layer = 'pending' AND l.side = 'debit' GROUP BY j.hold_id HAVING sum(l.amount) < 0""",
    "an open hold is another": """
        WITH left_over AS (
          SELECT j.hold_id AS id, sum(l.amount) AS rest
            FROM 'DIR/parquet/lines.parquet' AS l JOIN 'DIR/parquet/journals.parquet' AS j USING (seq)
           WHERE l.layer = 'pending' AND l.side = 'debit' GROUP BY ALL HAVING sum(l.amount) <> 0)
        SELECT id FROM left_over FULL JOIN (
          SELECT id::VARCHAR AS id, held::BIGINT - consumed::BIGINT - released::BIGINT - expired::BIGINT AS rest
            FROM read_json('DIR/holds.jsonl', format = 'newline_delimited')) AS told USING (id)
         WHERE left_over.rest IS DISTINCT FROM told.rest""",
    "a reversal is no mirror": """
        WITH r AS (SELECT seq, reverses FROM 'DIR/parquet/journals.parquet' WHERE reverses IS NOT NULL)
        SELECT seq FROM (
          SELECT r.seq, l.account, l.currency, l.signed FROM r JOIN 'DIR/parquet/lines.parquet' AS l USING (seq)
          UNION ALL
          SELECT r.seq, l.account, l.currency, l.signed
            FROM r JOIN 'DIR/parquet/lines.parquet' AS l ON l.seq = r.reverses)
         GROUP BY seq, account, currency HAVING sum(signed) <> 0""",
    "a leaf hash is not its line's": """
        SELECT seq FROM (SELECT seq, hex(leaf_hash) AS leaf FROM 'DIR/parquet/journals.parquet')
          FULL JOIN (SELECT * FROM leaves) AS made USING (seq) WHERE leaf IS DISTINCT FROM made.hash""",
}  # fmt: skip


@pytest.fixture
def ask(packs: Packs, tmp_path: Path) -> Iterator[Callable[[str], list[tuple[object, ...]]]]:
    root = forge.write(forge.unzipped(packs.whole), tmp_path / "pack")
    with duckdb.connect() as db:
        lines = (root / "journal.jsonl").read_bytes().splitlines()
        leaves = [(n, sha256(b"\0" + line).hexdigest().upper()) for n, line in enumerate(lines, 1)]
        db.execute("CREATE TABLE leaves (seq BIGINT, hash VARCHAR)")
        db.executemany("INSERT INTO leaves VALUES (?, ?)", leaves)
        yield lambda question: db.execute(QUESTIONS[question].replace("DIR", str(root))).fetchall()


@pytest.mark.parametrize("question", QUESTIONS)
def test_nothing_is_wrong_by_another_reckoning(
    ask: Callable[[str], list[tuple[object, ...]]], question: str
) -> None:
    assert ask(question) == []


def changed_line(files: forge.Files, name: str, at: int, field: str, value: str) -> None:
    lines = forge.rows(files, name)
    lines[at][field] = value
    forge.put(files, name, lines)


def csv_field(files: forge.Files, at: int, place: int, value: str) -> None:
    lines = files["lines.csv"].decode().splitlines()
    fields = lines[at].split(",")
    fields[place] = value
    lines[at] = ",".join(fields)
    files["lines.csv"] = "".join(line + "\n" for line in lines).encode()


def last_hold(files: forge.Files) -> Fields:
    return json.loads(files["holds.jsonl"].splitlines()[-1])


TAMPERED: dict[str, Callable[[forge.Files], None]] = {
    "the CSV has other lines than the tables": lambda files: csv_field(files, 7, 6, "4711"),
    "a running balance does not follow": lambda files: csv_field(files, 7, 8, "4711"),
    "the trial balance is another": lambda files: changed_line(
        files, "trial_balance.jsonl", 0, "posted_debits", "1"
    ),
    "all accounts together are not zero": lambda files: changed_line(
        files, "trial_balance.jsonl", 0, "pending_debits", "1"
    ),
    "an open hold is another": lambda files: changed_line(
        files, "holds.jsonl", 0, "held", str(int(last_hold(files)["held"]) + 4711)
    ),
}


@pytest.mark.parametrize("question", TAMPERED)
def test_the_second_check_sees_what_it_asks_for(packs: Packs, tmp_path: Path, question: str) -> None:
    files = forge.unzipped(packs.whole)
    TAMPERED[question](files)
    root = forge.write(files, tmp_path / "pack")
    with duckdb.connect() as db:
        assert db.execute(QUESTIONS[question].replace("DIR", str(root))).fetchall() != []
