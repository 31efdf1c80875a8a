"""The rules of the code base that no type checker knows. Each lists every offender, with file and line."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
# Each may import itself and those after it.
PACKAGES = ("khata", "api", "gateway", "banks", "ledger")
MONEY = ("api", "gateway", "banks", "ledger")
# Installed beside the packages, imported by khata alone.
OUTSIDE = ("migrations", "tests", "bench")
# Seconds and rates, not amounts.
NO_MONEY_IN = ("api/limits.py", "api/oauth/")
LONGEST_FUNCTION = 60
LONGEST_MODULE = 500
# Spelled in halves, so that this file does not hold them.
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "XX" + "X:", "NotImplemented" + "Error")
# Time, ids and randomness are passed in to the ledger.
IMPURE = (
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns",
    "uuid.uuid1", "uuid.uuid4", "uuid1", "uuid4", "os.urandom", "random.", "secrets.",
)  # fmt: skip


def sources(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def at(path: Path, node: ast.stmt | ast.expr) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def imported(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """Every top-level package a module imports, wherever in it the import stands."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            # A relative import stays in its own package as long as it does not climb out of it.
            yield (
                node,
                node.module.split(".")[0] if node.module and not node.level else path.parts[len(ROOT.parts)],
            )


def calls(path: Path) -> Iterator[tuple[ast.Call, str]]:
    """Every call with the dotted name it is written with (``datetime.datetime.now`` ends in ``datetime.now``)."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    forbidden = {*PACKAGES[: PACKAGES.index(package)], *OUTSIDE} - (
        {"migrations"} if package == "khata" else set()
    )
    wrong = [
        f"{at(path, node)} imports {name}"
        for path in sources(package)
        for node, name in imported(path)
        if name in forbidden
    ]
    assert wrong == []


def test_functions_fit_on_a_screen() -> None:
    wrong: list[str] = []
    for path in sources(*PACKAGES, *OUTSIDE):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    wrong.append(f"{at(path, node)} {node.name} has {lines} lines")
    assert wrong == []


def test_modules_hold_one_subject() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources(*PACKAGES, "migrations", "bench")}
    assert [f"{path} has {lines} lines" for path, lines in lengths.items() if lines > LONGEST_MODULE] == []


def test_money_never_becomes_a_float() -> None:
    wrong = [at(path, node) for path in sources(*MONEY) for node, name in calls(path) if name == "float"]
    assert [place for place in wrong if not place.startswith(NO_MONEY_IN)] == []


def test_the_ledger_is_told_time_ids_and_randomness() -> None:
    assert [
        f"{at(path, node)} {name}" for path in sources("ledger") for node, name in impure_calls(path)
    ] == []


def impure_calls(path: Path) -> Iterator[tuple[ast.Call, str]]:
    for node, name in calls(path):
        ends = any(name == banned or name.endswith(f".{banned}") for banned in IMPURE)
        if ends or name.startswith(("random.", "secrets.")):
            yield node, name


def test_nothing_is_left_unfinished() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{number} {word}"
        for package in (*PACKAGES, *OUTSIDE, "deploy", "docs", ".ci")
        for path in sorted((ROOT / package).rglob("*"))
        if path.suffix in {".py", ".sql", ".sh", ".md", ".html", ".css", ".js"} and "static" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for word in UNFINISHED
        if word in line
    ]
    assert wrong == []


def modules(package: str) -> Iterator[ModuleType]:
    """Every module of a package, imported (``__main__`` ones would run)."""
    top = importlib.import_module(package)
    yield top
    for found in pkgutil.walk_packages(top.__path__, f"{package}."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


@cache
def errors(package: str) -> tuple[type[BaseException], ...]:
    """Every exception class that is defined in ``package``; private ones are only bases of others."""
    found = {
        value
        for module in modules(package)
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, BaseException)
        if value.__module__ == module.__name__ and not value.__name__.startswith("_")
    }
    return tuple(sorted(found, key=lambda error: error.__qualname__))


def root_error(package: str) -> type[BaseException]:
    roots = [error for error in errors(package) if error.__module__ == f"{package}.errors" and is_root(error)]
    assert len(roots) == 1, f"{package}.errors has these roots: {roots}"
    return roots[0]


def is_root(error: type[BaseException]) -> bool:
    return error.__bases__ == (Exception,)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_error_descends_from_its_packages_one_root(package: str) -> None:
    root = root_error(package)
    assert [error for error in errors(package) if not issubclass(error, root)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_error_has_a_code_of_its_own(package: str) -> None:
    root = root_error(package)
    family = [error for error in errors(package) if issubclass(error, root)]
    assert [error for error in family if not isinstance(vars(error).get("code"), str)] == []
    codes = Counter(vars(error)["code"] for error in family)
    assert [code for code, times in codes.items() if times > 1] == []


@pytest.mark.parametrize(
    ("check", "code"),
    [
        (lambda path: list(impure_calls(path)), "import datetime\ndatetime.datetime.now()"),
        (lambda path: list(impure_calls(path)), "from uuid import uuid4\nuuid4()"),
        (lambda path: list(impure_calls(path)), "import random\nrandom.random()"),
        (
            lambda path: [name for _, name in imported(path) if name == "api"],
            "def f():\n    from api import app",
        ),
        (lambda path: [name for _, name in calls(path) if name == "float"], "x = float('1')"),
    ],
)
def test_the_checks_see_what_they_are_for(
    check: Callable[[Path], list[object]], code: str, tmp_path: Path
) -> None:
    path = tmp_path / "offender.py"
    path.write_text(code)
    assert check(path)
