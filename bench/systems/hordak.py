"""django-hordak, as its documentation says: ``Account.transfer_to``, one database transaction a payment.

CONFIG: ``dsn`` (the owner of a database of its own), ``seed``, ``accounts``, ``prepare`` (make schema and accounts).
It runs in an environment of its own and imports nothing of Khata.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings
from django.core.management import call_command

from bench.pairs import CURRENCY, LOADS, Pairs, wallet
from bench.worker import Line, RunSync, closed_loop_sync, serve_sync


def configure(dsn: str) -> None:
    parts = urlsplit(dsn)
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts.path.lstrip("/"),
                "USER": unquote(parts.username or ""),
                "PASSWORD": unquote(parts.password or ""),
                "HOST": parts.hostname,
                "PORT": parts.port,
                "CONN_MAX_AGE": None,
            }
        },
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "mptt", "hordak"],
        DEFAULT_CURRENCY=CURRENCY,
        HORDAK_INTERNAL_CURRENCY=CURRENCY,
        CURRENCIES=[CURRENCY],
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        USE_TZ=True,
    )
    django.setup()


def prepare(accounts: int) -> None:
    """Schema and wallets (root accounts). It knows no floors, so they need no funds."""
    from hordak.models import Account

    call_command("migrate", verbosity=0, interactive=False)
    Account.objects.bulk_create(
        [
            Account(
                name=wallet(number),
                code=None,
                type="LI",
                currencies=[CURRENCY],
                # The tree of nested sets that a save would work out, one account at a time.
                **{"lft": 1, "rght": 2, "level": 0, "tree_id": number + 1},
            )
            for number in range(accounts)
        ],
        batch_size=1000,
    )


def opened(config: Mapping[str, Any]) -> dict[str, RunSync]:
    configure(config["dsn"])
    if config["prepare"]:
        prepare(config["accounts"])
    from hordak.models import Account
    from moneyed import Money

    wallets = list(Account.objects.order_by("tree_id"))

    def pay(pairs: Pairs) -> None:
        payer, payee, amount = pairs()
        wallets[payee].transfer_to(wallets[payer], Money(amount, CURRENCY) / 100)

    return {
        f"single/{load}/1": partial(
            closed_loop_sync,
            partial(pay, Pairs(random.Random(config["seed"]), hot=hot, accounts=config["accounts"])),
        )
        for load, hot in LOADS.items()
    }


if __name__ == "__main__":
    line = Line()
    serve_sync(opened(json.loads(sys.argv[1])), line)
