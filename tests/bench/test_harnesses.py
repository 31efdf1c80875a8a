"""Each harness in its shortest form, so that none of them can rot; figures of such a run mean nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as bench
from bench.growth import __main__ as growing
from bench.pack import __main__ as packing
from bench.web import __main__ as asking
from tests.server import Server

FIGURE = {"case", "system", "rate_per_s", "p50_ms", "p99_ms", "min", "max"}
SHORT = ("--rounds", "1", "--seconds", "0.02")


@pytest.fixture(autouse=True)
def on_the_sessions_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KHATA_DATABASE_URL", server.admin_dsn)
    monkeypatch.setenv("KHATA_HOME", server.home)
    for given in ("QUICK", "POSTINGS", "PGLEDGER_SQL", "TIGERBEETLE"):
        monkeypatch.delenv(given, raising=False)


def read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())


def check_figures(figures: Sequence[Mapping[str, Any]]) -> None:
    for figure in figures:
        assert figure.keys() >= FIGURE
        assert 0 < figure["min"] <= figure["rate_per_s"] <= figure["max"]
        waits = figure["p50_ms"], figure["p99_ms"]
        assert waits == (None, None) or 0 < waits[0] <= waits[1]


def test_the_bench_writes_figures_of_each_system_and_judges_each_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGLEDGER_SQL", str(tmp_path / "nothing.sql"))
    systems = ("--systems", "khata,classic,pgledger,tigerbeetle")
    bench.main(["--smoke", "--accounts", "50", *systems, *SHORT, "--out", str(tmp_path)])
    latest, targets = read(tmp_path / "latest.json"), read(tmp_path / "targets.json")
    check_figures(latest)
    assert {figure["system"] for figure in latest} == {"khata", "classic"}
    assert {"bulk-2p1b/uniform/100", "bulk-2p2b/uniform/100"} <= {figure["case"] for figure in latest}
    assert len(targets) == len(bench.TARGETS)
    assert {target["met"] for target in targets if "tigerbeetle" in target["rival"]} == {None}
    said = capsys.readouterr().out
    assert "tigerbeetle was not run: TIGERBEETLE is not given" in said
    assert "pgledger was not run: PGLEDGER_SQL: no file" in said


def test_growth_is_measured_beside_a_young_book_and_leaves_nothing_behind(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    growing.main(
        [
            "--postings",
            "60",
            "--accounts",
            "50",
            "--batch",
            "100",
            *SHORT,
            "--home",
            str(home),
            "--out",
            str(out),
        ]
    )
    result = json.loads((out / "growth.json").read_text())
    (level,) = result["levels"]
    check_figures(level["figures"])
    assert {figure["system"] for figure in level["figures"]} == {"khata", "young"}
    assert level["sizes"]["posting"] > 0 < result["wal_bytes_per_posting"]
    assert result["writer_rss_bytes"]["most"] > 0
    assert all(target["met"] is not None for target in read(out / "targets.json"))
    assert not home.exists()


def test_the_api_is_measured_beside_a_bare_route(tmp_path: Path) -> None:
    small = ("--workers", "1", "--connections", "4", "--wallets", "20", "--warm", "0.02")
    asking.main([*small, *SHORT, "--out", str(tmp_path)])
    figures = read(tmp_path / "api.json")
    check_figures(figures)
    kinds = {figure["case"].partition("/")[0] for figure in figures}
    assert kinds == {"balance", "hold", "payment", "bare", "socket"}
    assert {target["part"] for target in read(tmp_path / "targets.json")} == {"api"}


def test_a_book_is_sealed_exported_and_verified_and_nothing_is_left_behind(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    small = ("--journals", "300", "--accounts", "50", "--batch", "20", "--import-too")
    packing.main([*small, "--home", str(home), "--out", str(out)])
    result = json.loads((out / "pack.json").read_text())
    assert sum(turn["journals"] for turn in result["turns"]) == 250
    assert sum(turn["leaves"] for turn in result["turns"]) == 250
    assert '"journals": 300' in result["export"]["said"]
    assert "RIGHT" in result["verifier"]["said"]
    assert '"journals": 300' in result["import"]["said"]
    assert min(result[name]["most_bytes"] for name in ("export", "verifier")) > 10**7
    assert [target["met"] is not None for target in read(out / "targets.json")] == [True] * 3
    assert not home.exists()


def test_each_part_replaces_its_own_targets_alone(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    first = bench.judge("bench", bench.TARGETS[:2], [])
    second = bench.judge("api", asking.TARGETS[:1], [])
    for outcomes in (first, second, first[:1]):
        bench.keep(path, outcomes)
    assert [target["part"] for target in read(path)] == ["api", "bench"]
