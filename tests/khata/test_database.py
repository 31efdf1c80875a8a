"""The embedded PostgreSQL: real servers, real kills, real lack of space."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from khata.database import EmbeddedServer, binaries, cluster, os_user
from khata.database.dsn import make_dsn, with_parts
from khata.database.errors import (
    BinariesUnreachable,
    DatabaseError,
    DiskFull,
    MajorVersionMismatch,
    PlatformUnsupported,
    PortTaken,
)
from tests.server import temporary_home

ROOT = os.geteuid() == 0
DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
only_root = pytest.mark.skipif(not ROOT, reason="only root has to change to another user")
BIN_DIRECTORIES = [
    pytest.param(None, id="wheel"),
    pytest.param(
        DEBIAN[0].parent if DEBIAN else None,
        id="debian",
        marks=pytest.mark.skipif(not DEBIAN, reason="Debian's PostgreSQL is not installed"),
    ),
]


@pytest.fixture
def home() -> Iterator[Path]:
    with temporary_home() as directory:
        yield directory


@pytest.fixture(params=BIN_DIRECTORIES)
def launch(request: pytest.FixtureRequest, home: Path) -> Callable[[], EmbeddedServer]:
    """Makes launchers of the same home, with each set of binaries."""
    return lambda: EmbeddedServer(home, binaries=request.param)


def query(dsn: str, statement: str) -> object:
    with psycopg.connect(dsn) as conn:
        row = conn.execute(statement).fetchone()  # pyright: ignore
    assert row is not None
    return row[0]


def write_rows(dsn: str, count: int) -> None:
    """``count`` rows, each acknowledged by its own commit."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        for n in range(count):
            conn.execute("INSERT INTO kept VALUES (%s)", [n])


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_checks_pages_asks_every_connection_for_a_password_and_listens_on_loopback_only(
    launch: Callable[[], EmbeddedServer],
) -> None:
    with launch() as server:
        assert query(server.admin_dsn, "SHOW data_checksums") == "on"
        assert query(server.admin_dsn, "SHOW fsync") == "on"
        assert query(server.admin_dsn, "SHOW listen_addresses") == "127.0.0.1"
        methods = "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules"
        assert query(server.admin_dsn, methods) == ["scram-sha-256"]
        for host in ("127.0.0.1", str(server.place.socket_directory())):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(
                    host=host, port=server.port, user="postgres", password="wrong", dbname="postgres"
                )


def test_the_socket_works_with_the_same_password(launch: Callable[[], EmbeddedServer]) -> None:
    with launch() as server:
        dsn = f"{server.admin_dsn}?host={server.place.socket_directory()}"
        assert query(dsn, "SELECT inet_server_addr() IS NULL") is True


def test_data_and_port_survive_a_clean_stop_and_the_second_start_is_quick(
    launch: Callable[[], EmbeddedServer], record_property: Callable[[str, object], None]
) -> None:
    with launch() as server:
        write_rows(server.admin_dsn, 10)
        first = server.admin_dsn
        pid = server.pid
    assert pid is not None
    assert not alive(pid)
    began = time.monotonic()
    with launch() as server:
        took = time.monotonic() - began
        assert server.admin_dsn == first
        assert query(server.admin_dsn, "SELECT count(*) FROM kept") == 10
    record_property("second_start_s", took)
    print(f"second start: {took:.3f} s")
    assert took < 2


def test_after_kill_9_every_acknowledged_row_is_there(launch: Callable[[], EmbeddedServer]) -> None:
    server = launch()
    server.start()
    try:
        for kills in range(1, 4):
            write_rows(server.admin_dsn, 50)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            assert server.wait(10) == -signal.SIGKILL
            server.start()
            assert query(server.admin_dsn, "SELECT count(*) FROM kept") == 50 * kills
    finally:
        server.stop()


def test_a_frozen_backend_left_by_kill_9_does_not_block_the_next_start(
    launch: Callable[[], EmbeddedServer],
) -> None:
    server = launch()
    server.start()
    conn = psycopg.connect(server.admin_dsn)
    backend = conn.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.wait(10)
    server.stop()
    assert alive(backend)
    with launch() as again:
        assert query(again.admin_dsn, "SELECT 1") == 1
    assert not alive(backend)
    conn.close()


def test_a_postmaster_pid_whose_number_is_in_use_again_does_not_block_the_start(home: Path) -> None:
    with EmbeddedServer(home) as server:
        place = server.place
    with subprocess.Popen(["sleep", "60"], **place.user.run_as()) as other:
        try:
            (place.data / "postmaster.pid").write_text(
                f"{other.pid}\n{place.data}\n0\n5432\n\n\n0 0\nready\n"
            )
            with EmbeddedServer(home) as server:
                assert query(server.admin_dsn, "SELECT 1") == 1
            assert other.poll() is None
        finally:
            other.kill()


def test_the_server_goes_down_with_a_parent_that_is_killed_and_starts_again(home: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from khata.database import EmbeddedServer
        server = EmbeddedServer(Path(sys.argv[1]))
        server.start()
        print(server.pid, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(home)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    wait_until(lambda: not alive(pid))
    with EmbeddedServer(home) as server:
        assert query(server.admin_dsn, "SELECT 1") == 1


def test_a_second_launcher_joins_the_running_server_and_leaves_it_running(home: Path) -> None:
    with EmbeddedServer(home) as owner:
        with EmbeddedServer(home) as guest:
            assert guest.joined
            assert guest.admin_dsn == owner.admin_dsn
            assert guest.pid is None
        assert query(owner.admin_dsn, "SELECT 1") == 1


def test_a_port_that_was_asked_for_and_is_taken_is_named(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken) as refused:
            EmbeddedServer(home, port=port).start()
        assert refused.value.port == port
    with EmbeddedServer(home, port=port) as server:
        assert server.port == port


def test_a_remembered_port_that_is_taken_is_replaced(home: Path) -> None:
    with EmbeddedServer(home) as server:
        port = server.port
    with socket.create_server(("127.0.0.1", port)), EmbeddedServer(home) as server:
        assert server.port != port


def test_a_data_directory_of_another_major_version_is_refused_untouched(home: Path) -> None:
    with EmbeddedServer(home) as server:
        write_rows(server.admin_dsn, 3)
        version = server.place.data / "PG_VERSION"
    real = version.read_text()
    version.write_text("12\n")
    with pytest.raises(MajorVersionMismatch) as refused:
        EmbeddedServer(home).start()
    assert (refused.value.data_major, refused.value.binaries_major) == ("12", real.strip())
    version.write_text(real)
    with EmbeddedServer(home) as server:
        assert query(server.admin_dsn, "SELECT count(*) FROM kept") == 3


@pytest.mark.skipif(not DEBIAN, reason="Debian's PostgreSQL is not installed")
def test_another_release_of_postgresql_does_not_open_the_data(home: Path) -> None:
    with EmbeddedServer(home):
        pass
    with pytest.raises(MajorVersionMismatch):
        EmbeddedServer(home, binaries=DEBIAN[0].parent).start()


def test_too_little_free_space_is_said_before_anything_is_written(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "NEEDED_BYTES", 1 << 62)
    with pytest.raises(DiskFull):
        EmbeddedServer(home).start()
    assert not (home / "postgres" / "data").exists()


def test_a_disk_that_fills_up_during_initdb_is_named_and_nothing_is_left_behind(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "NEEDED_BYTES", 0)
    with little_space(home, megabytes=8), pytest.raises(DiskFull):
        EmbeddedServer(home).start()
    left = {path.name for path in (home / "postgres").iterdir()} if (home / "postgres").exists() else set()
    assert not left & {"data", "data.new"}
    with EmbeddedServer(home) as server:
        assert query(server.admin_dsn, "SELECT 1") == 1


@contextlib.contextmanager
def little_space(directory: Path, *, megabytes: int) -> Iterator[None]:
    """A full disk: a small file system for root, else the largest size a file of ours may have."""
    if ROOT:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", directory], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", directory], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (megabytes << 17, hard)
    )  # an eighth: several files share a disk
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@only_root
def test_a_disk_that_filled_up_while_running_is_named_and_data_is_there_once_it_has_room(home: Path) -> None:
    with little_space(home, megabytes=200):
        server = EmbeddedServer(home)
        server.start()
        write_rows(server.admin_dsn, 20)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        server.wait(10)
        server.stop()
        (server.place.data / "postmaster.pid").unlink()
        ballast = home / "ballast"
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 65536)
                file.flush()
        with pytest.raises(DiskFull), EmbeddedServer(home):
            pass
        ballast.unlink()
        with EmbeddedServer(home) as again:
            assert query(again.admin_dsn, "SELECT count(*) FROM kept") == 20


def test_no_wheel_for_this_machine_is_said_with_the_way_out(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "PACKAGE", "no_such_wheel")
    with pytest.raises(PlatformUnsupported, match="KHATA_DATABASE_URL"):
        EmbeddedServer(home).start()


def test_binaries_of_another_processor_are_said_to_be_that(home: Path) -> None:
    programs = home / "bin"
    programs.mkdir()
    for name in ("postgres", "initdb"):
        # The head of an ELF program for a processor that does not exist.
        (programs / name).write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xff\xfe" + bytes(44))
        (programs / name).chmod(0o755)
    with pytest.raises(PlatformUnsupported):
        EmbeddedServer(home, binaries=programs).start()


def test_a_home_with_a_very_long_path_still_gets_a_socket(home: Path) -> None:
    deep = home / ("a" * 120)
    with EmbeddedServer(deep) as server:
        directory = server.place.socket_directory()
        assert query(f"{server.admin_dsn}?host={directory}", "SELECT 1") == 1
    assert not directory.is_relative_to(deep)
    directory.rmdir()


def test_a_failed_start_leaves_no_process_and_no_lock(home: Path) -> None:
    broken = EmbeddedServer(home, settings={"no_such_setting": "1"})
    with pytest.raises(DatabaseError, match="no_such_setting"):
        broken.start()
    assert broken.pid is None
    with EmbeddedServer(home) as server:
        assert not server.joined


@only_root
def test_a_home_the_server_may_not_enter_keeps_its_modes_and_the_place_is_remembered(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout with its virtual environment under root's own home."""
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    site = closed / "site-packages"
    for part in (binaries.PACKAGE, f"{binaries.PACKAGE}.libs"):
        shutil.copytree(binaries.wheel_directory().parents[2] / part, site / part)
    monkeypatch.syspath_prepend(str(site))
    assert binaries.wheel_directory().is_relative_to(site)
    with EmbeddedServer(closed / ".khata") as server:
        root = server.place.root
        write_rows(server.admin_dsn, 5)
    try:
        assert not root.is_relative_to(closed)
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert (closed / ".khata" / "postgres-place").read_text() == f"{root}\n"
        assert list(root.glob("binaries-*"))
        with EmbeddedServer(closed / ".khata") as server:
            assert query(server.admin_dsn, "SELECT count(*) FROM kept") == 5
    finally:
        shutil.rmtree(root)


@only_root
def test_without_a_postgres_user_the_server_runs_as_nobody_and_stays_with_that_owner(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os_user, "CANDIDATES", ("no_such_user", "nobody"))
        with EmbeddedServer(home) as server:
            assert server.place.user.name == "nobody"
            write_rows(server.admin_dsn, 2)
    with EmbeddedServer(home) as server:
        assert server.place.user.name == "nobody"
        assert query(server.admin_dsn, "SELECT count(*) FROM kept") == 2


@only_root
def test_named_binaries_that_the_servers_user_cannot_run_are_named(home: Path) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    programs = shutil.copytree(binaries.wheel_directory(), closed / "bin")
    with pytest.raises(BinariesUnreachable):
        EmbeddedServer(home, binaries=programs).start()


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("postgresql://a:b@h:1/x", "postgresql://u:p%40@h:1/d"),
        ("host=h user=a password=b", "postgresql://u:p%40@h/d"),
        ("postgresql://a@[::1]:1/x?sslmode=require", "postgresql://u:p%40@[::1]:1/d?sslmode=require"),
        ("postgresql://a@/x?host=/run/pg&port=2", "postgresql://u:p%40@/d?host=%2Frun%2Fpg&port=2"),
        ("postgresql://a@h1:1,h2:2/x", "postgresql://u:p%40@/d?host=h1%2Ch2&port=1%2C2"),
        ("postgresql://a@h/x?sslcert=c&sslkey=k&sslrootcert=r", "postgresql://u:p%40@h/d?sslrootcert=r"),
    ],
)
def test_a_url_keeps_its_server_and_changes_its_login(given: str, made: str) -> None:
    assert with_parts(given, database="d", user="u", password="p@") == made


def test_a_password_of_any_characters_fits_into_a_url() -> None:
    dsn = make_dsn("h", 1, "u", "a/b?c@d:%e", "d")
    assert psycopg.conninfo.conninfo_to_dict(dsn)["password"] == "a/b?c@d:%e"
