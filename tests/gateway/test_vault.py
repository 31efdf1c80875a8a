"""The vault: every row opens for its merchant and token alone; card data is nowhere else, whatever is searched."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from gateway import captures, ids, keys, payments, refunds, tables
from gateway.cards import Card, Cvv, Pan
from gateway.errors import CardInvalid, Invalid, KeyUnknown, TokenNotFound, VaultTampered
from gateway.payments import NewPayment
from gateway.vault import Vault
from ledger.search import search
from tests.gateway.world import World

KEYS = keys.Keys("k2", {"k1": b"1" * 32, "k2": b"2" * 32}, b"f" * 32)
VAULT = Vault(KEYS, os.urandom)
MERCHANT, OTHER = UUID(int=1), UUID(int=2)
CARD = Card(Pan("4111111111111111"), "2912", Cvv("987"))
TOKEN = ids.public(ids.CARD, UUID(int=3))
CANARY, CANARY_CVV = "4539578763621486", "7391"


def test_a_sealed_card_opens_without_its_cvv() -> None:
    row = VAULT.seal(MERCHANT, TOKEN, CARD)
    opened = VAULT.open(MERCHANT, TOKEN, row["key_id"], row["wrapped_key"], row["sealed"])
    assert opened == Card(CARD.pan, "2912")
    assert row["key_id"] == "k2"


def test_a_card_sealed_under_a_retired_key_still_opens() -> None:
    old = Vault(keys.Keys("k1", KEYS.by_id, KEYS.fingerprint), os.urandom).seal(MERCHANT, TOKEN, CARD)
    assert VAULT.open(MERCHANT, TOKEN, "k1", old["wrapped_key"], old["sealed"]).pan == CARD.pan
    with pytest.raises(KeyUnknown):
        VAULT.open(MERCHANT, TOKEN, "k9", old["wrapped_key"], old["sealed"])


def test_a_row_of_another_merchant_token_or_key_does_not_open() -> None:
    row = VAULT.seal(MERCHANT, TOKEN, CARD)
    other_token = ids.public(ids.CARD, UUID(int=4))
    for merchant, token, key in (
        (OTHER, TOKEN, "k2"),
        (MERCHANT, other_token, "k2"),
        (MERCHANT, TOKEN, "k1"),
    ):
        with pytest.raises(VaultTampered):
            VAULT.open(merchant, token, key, row["wrapped_key"], row["sealed"])


@given(st.sampled_from(["wrapped_key", "sealed"]), st.integers(0), st.integers(0, 7))
@settings(max_examples=200)
def test_one_flipped_bit_anywhere_is_noticed(column: str, place: int, bit: int) -> None:
    row = VAULT.seal(MERCHANT, TOKEN, CARD)
    changed = bytearray(row[column])
    changed[place % len(changed)] ^= 1 << bit
    row[column] = bytes(changed)
    with pytest.raises(VaultTampered) as refused:
        VAULT.open(MERCHANT, TOKEN, "k2", row["wrapped_key"], row["sealed"])
    assert refused.value.__cause__ is None


def test_fingerprints_know_a_card_of_one_merchant_again_and_link_no_merchants() -> None:
    assert VAULT.fingerprint(MERCHANT, CARD.pan) == VAULT.fingerprint(MERCHANT, Pan("4111-1111-1111-1111"))
    assert VAULT.fingerprint(MERCHANT, CARD.pan) != VAULT.fingerprint(OTHER, CARD.pan)
    assert VAULT.seal(MERCHANT, TOKEN, CARD)["sealed"] != VAULT.seal(MERCHANT, TOKEN, CARD)["sealed"]


def test_keys_are_made_once_and_kept_to_their_owner(tmp_path: Path) -> None:
    path = tmp_path / "vault-keys.json"
    first = keys.keys_from_file(path, os.urandom)
    assert keys.keys_from_file(path, os.urandom) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    path.chmod(0o640)
    with pytest.raises(Invalid):
        keys.keys_from_file(path, os.urandom)


def test_keys_can_come_from_the_environment() -> None:
    key = base64.b64encode(b"1" * 32).decode()
    text = json.dumps({"current": "k1", "keys": {"k1": key}, "fingerprint": key})
    found = keys.keys_from_environment({"KHATA_VAULT_KEYS": text})
    assert found is not None
    assert found.key("k1") == b"1" * 32
    assert keys.keys_from_environment({}) is None
    assert "1111" not in repr(found)
    for broken in ("", "{}", text.replace("k1", "K 1"), text.replace(key, key[:8])):
        with pytest.raises(Invalid):
            keys.keys_from_json(broken)


async def test_another_merchants_token_is_a_missing_one(world: World) -> None:
    payment = await world.authorized()
    assert payment.current is not None
    with pytest.raises(TokenNotFound):
        async with world.gw.engine.connect() as conn:
            await world.gw.vault.reveal(conn, world.gw.ids(), payment.current.token)
    with pytest.raises(TokenNotFound):
        await payments.create(
            world.gw, world.merchant.id, NewPayment(100, "INR"), card=ids.public(ids.CARD, UUID(int=9))
        )


async def test_every_stored_card_opens(world: World) -> None:
    await world.captured()
    async with world.gw.engine.connect() as conn:
        for row in (await conn.execute(select(tables.vault_card))).mappings():
            opened = await world.gw.vault.reveal(conn, row["merchant_id"], row["token"])
            assert opened.pan.last4 == row["last4"]


def traces(number: str) -> list[re.Pattern[bytes]]:
    """A number as it could lie around: plain, spaced, hex of its text, BCD, base64 at each offset."""
    spaced = re.compile(rb"[ -]?".join(digit.encode() for digit in number))
    texts = [number.encode().hex().encode(), number.encode().hex().upper().encode()]
    texts += [number.encode(), bytes.fromhex(number)]
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + number.encode())
        texts.append(encoded[(offset * 8 + 5) // 6 : -4])
    return [spaced, *(re.compile(re.escape(text)) for text in texts)]


async def test_a_canary_card_is_found_nowhere(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    canary = Card(Pan(CANARY), "4912", Cvv(CANARY_CVV))
    m = world.merchant.id
    for method in (False, True):
        payment = await world.new(manual=method)
        payment = await payments.confirm(world.gw, m, payment.id, canary)
    await captures.capture(world.gw, m, payment.id, 40_000)
    await captures.capture(world.gw, m, payment.id)
    await refunds.refund(world.gw, m, payment.id, 90_000)
    with pytest.raises(CardInvalid):
        await payments.confirm(world.gw, m, (await world.new()).id, Card(canary.pan, "2001", canary.cvv))
    out, err = capsys.readouterr()
    async with world.psycopg() as conn:
        booked = repr(await search(conn, world.book_id, limit=1000))
    searched = {
        "database": dump(world),
        "logs": (out + err).encode(),
        "journals": booked.encode(),
        "payment": repr(await world.get(payment)).encode(),
        "acquirer": b"".join(p.read_bytes() for p in world.acquirer.home.rglob("*") if p.is_file()),
    }
    for name, content in searched.items():
        for trace in traces(CANARY):
            assert not trace.search(content), (name, trace)
    # Three or four digits are found everywhere by chance; a column for them is not.
    assert b"cvv" not in searched["database"].lower()


def dump(world: World) -> bytes:
    """Every table of the database as text, and every bytea as its raw bytes."""
    script = """
import sys, psycopg
with psycopg.connect(sys.argv[1]) as conn:
    tables = conn.execute("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
                          " WHERE schemaname IN ('ledger', 'banks', 'gateway', 'api')").fetchall()
    for (table,) in tables:
        sys.stdout.buffer.write(table.encode())
        with conn.cursor().copy(f'COPY {table} TO STDOUT') as copy:
            for block in copy:
                sys.stdout.buffer.write(bytes(block))
        with conn.cursor(binary=True) as cursor:
            for row in cursor.execute(f'SELECT * FROM {table}'):
                for value in row:
                    if isinstance(value, bytes):
                        sys.stdout.buffer.write(value)
"""
    command = [sys.executable, "-c", script, world.database.admin_dsn]
    return subprocess.run(command, check=True, capture_output=True).stdout


async def test_the_database_holds_the_shape_of_a_sealed_card(world: World) -> None:
    values = {"m": world.merchant.id, "now": datetime.now(UTC)}
    query = (
        "INSERT INTO gateway.vault_card VALUES ('card_' || repeat('0', 26), %(m)s, 'k1', %(key)s, %(sealed)s,"
        " %(mac)s, 'visa', %(last4)s, %(now)s)"
    )
    good = {"key": b"k" * 60, "sealed": b"s" * 80, "mac": b"f" * 32, "last4": "1111"}
    wrong = [{"key": b"k" * 32}, {"sealed": b"s" * 28}, {"mac": b""}, {"last4": CANARY}]
    for change in wrong:
        async with world.psycopg() as conn:
            with pytest.raises(psycopg.errors.CheckViolation):
                await conn.execute(query, values | good | change)
