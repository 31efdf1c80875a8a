"""Other people's accounting programs as judges: they check an export as strictly as they can, and say its balances.

They are installed beside Khata, never with it: hledger and ledger-cli by Debian (``apt install hledger ledger``),
beancount into the same Python (``pip install beancount``).
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from khata.errors import KhataError
from ledger.export import minor_units
from ledger.export.beancount import PENDING as BEANCOUNT_PENDING
from ledger.export.beancount import path_of
from ledger.export.plaintext import PENDING

# Balance of each account in each currency, in minor units, debit positive. What an account has not is zero.
Figures = dict[tuple[str, str], int]


_OF_PYTHON = ("beancount",)


class JudgeError(KhataError):
    """A judge did not give its verdict."""

    code: ClassVar[str] = "judge_error"


@dataclass(unsafe_hash=True)
class JudgeMissing(JudgeError):
    """The program is not installed."""

    code: ClassVar[str] = "judge_missing"
    program: str

    def __str__(self) -> str:
        by = "pip" if self.program in _OF_PYTHON else "Debian: apt"
        return f"{self.program} is not installed ({by} install {self.program})"


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
    """Balances as hledger has them, once ``hledger check --strict`` and its checks of dates and payees have passed.

    ``path``: an export of format ``hledger``; its balance assertions are checked on the way.
    """
    _run("hledger", "-f", str(path), "check", "--strict", "ordereddates", "payees")
    table = _run(
        *("hledger", "-f", str(path), "balance", "--flat", "--empty", "--no-total"),
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
        *("ledger", "-f", str(path), "--args-only", "--pedantic", "--check-payees"),
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


# Without bean-query, which is another package: the sums of what beancount has read.
_SUMS = """
import collections, sys
from beancount import loader
from beancount.core.data import Transaction
sums = collections.Counter()
for entry in loader.load_file(sys.argv[1])[0]:
    for posting in entry.postings if isinstance(entry, Transaction) else ():
        sums[posting.account, posting.units.currency] += posting.units.number
for (account, currency), amount in sums.items():
    print(account, amount, currency, sep="\\t")
"""


def beancount(path: Path) -> Figures:
    """Balances as beancount has them, once ``bean-check`` has passed, under the names Khata has for the accounts.

    ``path``: an export of format ``beancount``.
    """
    _run("bean-check", "--no-cache", str(path), of="beancount")
    table = _run("python", "-c", _SUMS, str(path), of="beancount")
    rows = (line.split("\t") for line in table.splitlines())
    return {(_khata_name(account), currency): minor_units(n, currency) for account, n, currency in rows}


def _khata_name(account: str) -> str:
    pending, _, rest = account.partition(f"{BEANCOUNT_PENDING}:")
    return path_of(account) if pending or not rest else PENDING + path_of(rest)


def _run(program: str, *arguments: str, of: str = "") -> str:
    """Programs of Python's beside our own interpreter come first. Raises ``JudgeMissing``, ``JudgeRefused``."""
    beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    executable = shutil.which(program, path=beside if of in _OF_PYTHON else None)
    if executable is None:
        raise JudgeMissing(of or program)
    # They read the locale: names and descriptions are UTF-8 wherever the file is judged.
    done = subprocess.run(
        [executable, *arguments],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C.UTF-8", "BEANCOUNT_DISABLE_LOAD_CACHE": "1"},
    )
    if done.returncode:
        raise JudgeRefused(of or program, arguments[-1], done.stderr.decode(errors="replace").strip()[:2000])
    return done.stdout.decode()


JUDGES: dict[str, Callable[[Path], Figures]] = {"hledger": hledger, "ledger": ledger, "beancount": beancount}
"""By the format that each reads."""
