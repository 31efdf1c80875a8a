"""``python -m banks.simulators.acquirer``: run the simulated card acquirer."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from aiohttp import web

from banks.simulators.acquirer.book import Book
from banks.simulators.acquirer.control import Control
from banks.simulators.acquirer.server import Acquirer, Settings
from banks.simulators.acquirer.settlement import Settlement
from banks.simulators.acquirer.storage import BookDamaged, BookInUse, Storage
from banks.simulators.cards import AMOUNTS, CAPTURE_OR_REFUND_FAMILY, CARDS, REVERSAL_FAMILY

_LOCALHOST = "127.0.0.1"


def _now() -> datetime:
    return datetime.now(UTC)


def _epilog() -> str:
    cards = "\n".join(f"  {pan}  {magic.name}: {magic.behaviour}" for pan, magic in CARDS.items())
    amounts = "\n".join(
        f"  …{CAPTURE_OR_REFUND_FAMILY}{code:02d} / …{REVERSAL_FAMILY}{code:02d}  {magic.name}: "
        f"{magic.behaviour}"
        for code, magic in AMOUNTS.items()
    )
    return f"""\
example:
  python -m banks.simulators.acquirer --port 8583 --book .khata/meridian \\
      --settlement-dir .khata/meridian/files --control-port 8584
  curl localhost:8584/book
  curl -X POST localhost:8584/settlement            # cut today's settlement files
  curl -X POST localhost:8584/settings -d '{{"latency_ms": 50, "jitter_ms": 200}}'
  curl -X POST localhost:8584/drop-connections

When it listens it prints one line of JSON with its ports. Stop it with Ctrl-C or SIGTERM.

magic cards (authorizations; any other valid number is approved):
{cards}

magic amounts (captures and refunds / reversals; minor units ending in these digits):
{amounts}
"""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m banks.simulators.acquirer",
        description="A simulated card acquirer: ISO 8583 over TCP, with a book of its own in files.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default=_LOCALHOST, help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any free one)")
    parser.add_argument(
        "--control-port", type=int, default=0, help="HTTP, on localhost (default: any free one)"
    )
    parser.add_argument("--book", type=Path, required=True, help="directory of the book")
    parser.add_argument(
        "--settlement-dir", type=Path, required=True, help="directory of the settlement files"
    )
    parser.add_argument("--latency-ms", type=int, default=0, help="wait before each answer")
    parser.add_argument("--jitter-ms", type=int, default=0, help="wait up to so long more, at random")
    parser.add_argument(
        "--late-ms", type=int, default=20_000, help="wait of late answers (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random waits")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    stopped = _stop_signal()  # before the ready line: whoever has read it may stop us
    storage = Storage(arguments.book)
    book = Book(storage)
    settlement = Settlement(book, arguments.settlement_dir)
    settings = Settings().changed(
        latency_ms=arguments.latency_ms, jitter_ms=arguments.jitter_ms, late_ms=arguments.late_ms
    )
    # The random waits need no secrecy, only a seed that replays them.
    acquirer = Acquirer(book, _now, random.Random(arguments.seed), settings)  # noqa: S311
    server = await asyncio.start_server(acquirer.serve, arguments.host, arguments.port)
    runner = web.AppRunner(Control(acquirer, book, settlement).application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, _LOCALHOST, arguments.control_port)
    await site.start()
    host, port = server.sockets[0].getsockname()[:2]
    control = runner.addresses[0][1]
    sys.stdout.write(
        json.dumps({"event": "listening", "host": host, "port": port, "control_port": control}) + "\n"
    )
    sys.stdout.flush()
    daily = asyncio.create_task(_cut_daily(settlement))
    await stopped.wait()
    daily.cancel()
    server.close()
    await runner.cleanup()
    storage.close()


async def _cut_daily(settlement: Settlement) -> None:
    """Cut each day's files just after it has ended, in UTC."""
    while True:
        today = _now().replace(hour=0, minute=0, second=0, microsecond=0)
        await asyncio.sleep((today + timedelta(days=1, seconds=5) - _now()).total_seconds())
        settlement.cut(today.date(), _now())


def _stop_signal() -> asyncio.Event:
    """Set when the process is asked to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def main() -> int:
    # Standard output is for the ready line; everything else goes to standard error.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        asyncio.run(_run(_arguments()))
    except (BookDamaged, BookInUse, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
