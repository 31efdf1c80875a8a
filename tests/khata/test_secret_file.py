"""Secrets that Khata makes for itself."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from khata.secret_file import secrets_for


def test_those_who_ask_at_the_same_moment_get_the_same_secrets(tmp_path: Path) -> None:
    for number in range(20):
        together = Barrier(8)

        def ask(asker: int, home: Path = tmp_path / str(number), together: Barrier = together) -> str:
            together.wait()
            own = secrets_for(home, (f"own {asker}",))[f"own {asker}"]
            shared = secrets_for(home, ("shared",))["shared"]
            assert secrets_for(home, (f"own {asker}",))[f"own {asker}"] == own
            return shared

        with ThreadPoolExecutor(8) as askers:
            assert len(set(askers.map(ask, range(8)))) == 1
        assert len(json.loads((tmp_path / str(number) / "secrets.json").read_text())) == 9


def test_secrets_stay_and_are_readable_by_their_user_alone(tmp_path: Path) -> None:
    first = secrets_for(tmp_path, ("a", "b"))
    assert len(set(first.values())) == 2
    assert secrets_for(tmp_path, ("b", "c"))["b"] == first["b"]
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
