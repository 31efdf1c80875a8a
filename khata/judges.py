"""Other people's accounting programs as judges: they check an export as strictly as they can, and say its balances.

hledger and ledger-cli are installed beside Khata (Debian: ``apt install hledger ledger``), never with it.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from khata.errors import KhataError
from ledger.export import minor_units

# Balance of each account in each currency, in minor units, debit positive. What an account has not is zero.
Figures = dict[tuple[str, str], int]


class JudgeError(KhataError):
    """A judge did not give its verdict."""

    code: ClassVar[str] = "judge_error"


@dataclass(unsafe_hash=True)
class JudgeMissing(JudgeError):
    """The program is not installed."""

    code: ClassVar[str] = "judge_missing"
    program: str

    def __str__(self) -> str:
        return f"{self.program} is not installed (Debian: apt install {self.program})"


@dataclass(unsafe_hash=True)
class JudgeRefused(JudgeError):
    """The program does not accept the file; ``reason`` is what it says."""

    code: ClassVar[str] = "judge_refused"
    program: str
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.program} refuses {self.path}: {self.reason}"


def hledger(path: Path) -> Figures:
    """Balances as hledger has them under ``--strict`` (the checks of ``hledger check --strict``).

    ``path``: an export of format ``hledger``.
    """
    table = _run(
        *("hledger", path, "balance", "--strict", "--flat", "--empty", "--no-total"),
        *("--layout=bare", "--output-format=csv"),
    )
    rows = csv.DictReader(table.splitlines())
    return {
        (row["account"], row["commodity"]): minor_units(row["balance"], row["commodity"])
        for row in rows
        if row["commodity"]
    }


def ledger(path: Path) -> Figures:
    """Balances as ledger-cli has them, under ``--pedantic``. ``path``: an export of format ``ledger``."""
    table = _run(
        *("ledger", path, "--args-only", "--pedantic", "--check-payees"),
        *("balance", "--flat", "--empty", "--no-total", "--balance-format", "%(account)\t%(amount)\n"),
    )
    return dict(_ledger_figures(table))


def _ledger_figures(table: str) -> Iterator[tuple[tuple[str, str], int]]:
    """An account and its first amount, then a line for each further amount."""
    account = ""
    for line in table.splitlines():
        name, _, amount = line.rpartition("\t")
        account = name or account
        number, _, currency = amount.strip().partition(" ")
        if currency:  # a bare 0 is no amount of anything
            yield (account, currency), minor_units(number, currency)


def _run(program: str, path: Path, *arguments: str) -> str:
    executable = shutil.which(program)
    if executable is None:
        raise JudgeMissing(program)
    # Both read the locale: names and descriptions are UTF-8 wherever the file is judged.
    done = subprocess.run(
        [executable, "-f", str(path), *arguments],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    if done.returncode:
        raise JudgeRefused(program, str(path), done.stderr.decode(errors="replace").strip()[:2000])
    return done.stdout.decode()
