#!/usr/bin/env python3
"""Proves an audit pack of Khata (docs/pack.md) without Khata, its database or a word of its operator.

    python khata_verify.py pack.zip --key VKEY [--prior earlier.zip] [--json]

It needs Python 3.11 and `cryptography` (for Ed25519), and imports nothing of Khata. It reads each line once, in the order
in which the log took it, does the bookkeeping anew and compares what comes out with what the pack says, byte by byte.
Memory: one object an account and an open hold, and 24 bytes a journal (Python's keyed 64-bit hashes of its source key, its
id and its postings: equal keys have equal hashes, and what looks like a repetition is read again before it is called one).
Exit codes: 0 all is right; 1 something is wrong, and the first wrong line is named; 2 it could not be read.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import sys
import time
import zipfile
import zlib
from array import array
from bisect import bisect_left
from collections import deque
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SOURCES = {"account": "accounts.jsonl", "act": "acts.jsonl", "journal": "journal.jsonl"}
STATES = ("opening.jsonl", "opening_holds.jsonl", "trial_balance.jsonl", "holds.jsonl", "proposals.jsonl", "lines.csv")
LOG = ("log/runs.jsonl", "log/checkpoint", "log/frontier.json", "log/checkpoints.jsonl", "log/keys.jsonl")
CSV_HEADER = b"seq,line,side,account,currency,layer,amount,account_seq,posted,available,incoming\n"
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, KeyError, OverflowError)
LONGEST_LINE = 1 << 22
BLOCK = 2048  # postings whose rows are compared with lines.csv at a time

# What a journal's line looks like, and no other way: RFC 8785 (JCS) leaves one form for each content.
TEXT = r'"(?:[^"\\\x00-\x1f]+|\\(?:["\\bfnrt]|u00(?:0[0-7bef]|1[0-9a-f])))*+"'
TIME = r'"((?:19|[2-8]\d)\d\d-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z)"'
UUID = r'"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"'
WORD = r'"[a-z][a-z0-9_]{0,39}"'
PATH = r"(?:Assets|Liabilities|Equity|Income|Expenses)(?::[A-Za-z0-9][A-Za-z0-9_-]{0,63}){1,7}+"
POSTING = (
    rf'{{"amount":"(-?[1-9]\d*)","credit":"({PATH})","currency":"([A-Z]{{3}})","debit":"({PATH})"'
    r'(?:,"hold":"(place|increase|capture|release|expire)")?,"layer":"(posted|pending)"(?:,"up_to":"([1-9]\d*)")?}'
)
PAIR = rf'"([a-z][a-z0-9_.]{{0,39}})":{TEXT}'


def plain(pattern: str) -> str:
    """The pattern without its groups, to stand inside another one."""
    return re.sub(r"(?<!\\)\((?!\?)", "(?:", pattern)


JOURNAL = (
    rf'{{"book":BOOK,"description":{TEXT},"effective_at":{TIME},(?:"hold":({{[^{{}}]*+}}),)?"id":{UUID},'
    rf'"kind":{WORD},"metadata":{{((?:{plain(PAIR)}(?:,{plain(PAIR)})*+)?)}},'
    rf'"postings":\[({plain(POSTING)}(?:,{plain(POSTING)})*+)\],"recorded_at":{TIME}'
    rf'(?:,"requested_effective_at":{TIME})?(?:,"reverses":([1-9]\d*))?,"seq":([1-9]\d*),'
    rf'"source":({{"event":{WORD},"id":"(?:[!#-\[\]-~]|\\["\\]){{1,64}}","type":{WORD}}})}}'
)
HOLD_TERMS = ("credit", "currency", "debit", "expires_at", "id", "tolerance_bps")
_ID, _AMOUNT = rf'"id":{UUID}', r'"amount":"[1-9]\d*"'
_PATH, _NULL_PATH = f'"{PATH}"', f'(?:null|"{PATH}")'
ASKS = {
    "place": rf'{{"action":"place",{_AMOUNT},"credit":{_PATH},"currency":"[A-Z]{{3}}","debit":{_PATH},'
    rf'"expires_at":(?:null|{TIME}),{_ID},"tolerance_bps":(?:0|[1-9]\d{{0,4}})}}',
    "increase": rf'{{"action":"increase",{_AMOUNT},{_ID}}}',
    "capture": rf'{{"action":"capture",{_AMOUNT},"credit":{_NULL_PATH},"debit":{_NULL_PATH},"final":(?:true|false),{_ID}}}',
    "release": rf'{{"action":"release","amount":(?:null|"[1-9]\d*"),{_ID}}}',
    "expire": rf'{{"action":"expire",{_ID}}}',
}
KEYS = re.compile(PAIR).findall
UP_TO = re.compile(r',"up_to":"\d+"')
MIRROR = '{{"amount":"{0}","credit":"{3}","currency":"{2}","debit":"{1}","layer":"posted"}}'


class Wrong(Exception):
    """``line`` of ``file`` says what it must not."""

    def __init__(self, file: str, line: int | None, says: object, must: object) -> None:
        says, must = ([str(v) if len(str(v)) < 300 else str(v)[:300] + "…" for v in (says, must)])
        self.report = {"file": file, "line": line, "says": says, "must": must}

    def __str__(self) -> str:
        place = "{file}, line {line}" if self.report["line"] else "{file}"
        return (place + ": says {says}; must be {must}").format(**self.report)


class Unreadable(Exception):
    """What was given is no pack that can be looked into."""


def canonical(value: Any) -> bytes:
    """RFC 8785 of what a pack holds: no number but integers, and keys in ASCII."""
    return ENCODER.encode(value).encode()


ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, check_circular=False)


def no_float(text: str) -> Any:
    raise ValueError(f"{text} is no integer")


def parse(file: str, number: int | None, line: bytes, keys: str | None = None) -> dict[str, Any]:
    """A canonical JSON object, with exactly these keys."""
    try:
        value = json.loads(line, parse_float=no_float, parse_constant=no_float)
        right = isinstance(value, dict) and canonical(value) == line
    except (ValueError, RecursionError):
        right = False
    if not right:
        raise Wrong(file, number, line.decode(errors="replace"), "an object in canonical form (RFC 8785)")
    if keys is not None and sorted(value) != keys.split():
        raise Wrong(file, number, "the keys " + " ".join(sorted(value)), keys)
    return value


class Key(NamedTuple):
    name: str
    id: bytes
    public: bytes
    vkey: str


def parse_key(file: str, line: int | None, vkey: object) -> Key:
    """``NAME+KEY ID in hex+BASE64(1, public key)``, the id the first bytes of the key's hash."""
    name, _, rest = str(vkey).partition("+")
    try:
        data = base64.b64decode(rest[9:], validate=True)
        key = Key(name, sha256(name.encode() + b"\n" + data).digest()[:4], data[1:], str(vkey))
        right = data[0] == 1 and f"{name}+{key.id.hex()}+{base64.b64encode(data).decode()}" == vkey
        if right and len(key.public) == 32:
            return key
    except (ValueError, IndexError):
        pass
    raise Wrong(file, line, vkey, "a verifier key (NAME+ID+BASE64) of Ed25519")


def opened(file: str, line: int | None, note: str, keys: list[Key], *, strict: bool = False) -> str:
    """The text of a signed note that one of the keys signed, and none of them wrongly; strictly: nobody else either."""
    text, gap, signatures = note.rpartition("\n\n")
    text += "\n"
    lines = signatures.split("\n")
    found = [re.fullmatch(r"— (\S+) ([A-Za-z0-9+/]+={0,2})", signature) for signature in lines[:-1]]
    if not gap or lines[-1] or not found or None in found:
        raise Wrong(file, line, repr(note), "a signed note")
    signers = 0
    for name, value in (match.groups() for match in found if match):
        data = base64.b64decode(value + "=" * (-len(value) % 4))
        key = next((k for k in keys if k.name == name and k.id == data[:4]), None)
        if base64.b64encode(data).decode() != value or (strict and key is None):
            raise Wrong(file, line, f"signed {name} {value}", "a signature of a key of the log: " + ", ".join(k.vkey for k in keys))
        if key is not None:
            try:
                Ed25519PublicKey.from_public_bytes(key.public).verify(data[4:], text.encode())
            except (InvalidSignature, ValueError):
                raise Wrong(file, line, f"a signature of {key.vkey} that does not fit", "signed by it") from None
            signers += 1
    if not signers:
        raise Wrong(file, line, "signed by " + ", ".join(m[1] for m in found if m), "signed by " + " or ".join(k.vkey for k in keys))
    return text


def checkpoint(file: str, line: int | None, note: str, keys: list[Key], origin: str, size: int) -> bytes:
    """The root that it states for this size of this log."""
    text = opened(file, line, note, keys)
    parts = text.split("\n")
    try:
        root = base64.b64decode(parts[2], validate=True)
    except (ValueError, IndexError):
        root = b""
    must = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    if text != must or len(root) != 32:
        raise Wrong(file, line, repr(text), repr(f"{origin}\n{size}\n<root>\n"))
    return root


class Reader(io.RawIOBase):
    """A file of the pack; what is read of it is counted and hashed."""

    def __init__(self, raw: Any) -> None:
        self.raw, self.hash, self.bytes, self.newlines = raw, sha256(), 0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.raw.read(len(buffer))
        buffer[: len(data)] = data
        self.hash.update(data)
        self.bytes += len(data)
        self.newlines += data.count(b"\n")
        return len(data)


class Lines:
    """The lines of a file, one after the other; ``number``: of the last one read."""

    def __init__(self, pack: Pack, name: str) -> None:
        self.name, self.number, self.buffer = name, 0, io.BufferedReader(pack.open(name), 1 << 17)

    def next(self, what: str = "another line") -> bytes:
        """The next one, without its newline."""
        line = self.buffer.readline(LONGEST_LINE)
        self.number += 1
        if line[-1:] != b"\n":
            raise Wrong(self.name, self.number, repr(line.decode(errors="replace")) if line else "nothing: the file ends", what)
        return line[:-1]

    def rest(self) -> Any:
        while self.buffer.peek(1):
            yield self.next()

    def end(self) -> None:
        if self.buffer.peek(1):
            raise Wrong(self.name, self.number + 1, self.next().decode(errors="replace"), "no more: the file ends before it")


class Pack:
    """The container, its manifest and keys: the files that were signed and no others. Nothing of them is read yet."""

    def __init__(self, path: Path) -> None:
        self.path, self.zip, self.digest, self.comment = path, None, "", ""
        self.manifest: dict[str, Any] = {}
        try:
            if path.is_dir():
                found = [p for p in path.rglob("*") if p.is_symlink() or not p.is_dir()]
                strange = [p for p in found if p.is_symlink() or not p.is_file()]
                self.names = [p.relative_to(path).as_posix() for p in found]
                if strange:
                    raise Wrong(str(strange[0]), None, "a link or a device", "a plain file")
            else:
                self._read_container()
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror or error}") from None
        for name in ("manifest.json", "manifest.sig"):
            if self.names.count(name) != 1:
                raise Wrong(name, None, f"there {self.names.count(name)} times", "there once")

    def _read_container(self) -> None:
        """Every byte before the zip's comment is what the comment's digest says."""
        with self.path.open("rb") as file:
            if file.read(24).startswith((b"age-encryption.org/", b"-----BEGIN AGE")):
                raise Unreadable(f"{self.path} is encrypted: decrypt it first (age --decrypt --output pack.zip {self.path})")
            size = file.seek(0, 2)
            file.seek(max(0, size - 66_000))
            tail = file.read()
            at = tail.rfind(b"PK\5\6")
            if at < 0 or at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail):
                raise Wrong(self.path.name, None, "no end record, or another length", "a whole zip file")
            self.comment = tail[at + 22 :].decode(errors="replace")
            file.seek(0)
            digest, left = sha256(), size - len(tail) + at + 22
            while left and (data := file.read(min(left, 1 << 20))):
                digest.update(data)
                left -= len(data)
        self.digest = digest.hexdigest()
        try:
            self.zip = zipfile.ZipFile(self.path)
            self.names = self.zip.namelist()
        except DAMAGED as error:
            raise Wrong(self.path.name, None, f"damaged: {error}", "a whole zip file") from None
        says = self.comment.split("\n")[2:3]
        if says != [self.digest]:
            raise self.culprit() or Wrong(self.path.name, None, f"bytes of SHA-256 {self.digest}", f"{says}, as its comment says")

    def open(self, name: str) -> Reader:
        if name not in self.names:
            raise Wrong(name, None, "missing", "there")
        return Reader(self.zip.open(name) if self.zip else (self.path / name).open("rb"))

    def read(self, name: str) -> bytes:
        """All of a small file."""
        return io.BufferedReader(self.open(name)).read(1 << 24)

    def open_manifest(self) -> None:
        """The manifest, in its form; its signature comes later."""
        line = self.read("manifest.json")
        keys = "book created_at files format from from_index origin root to to_index"
        found = parse("manifest.json", 1, line[:-1] if line[-1:] == b"\n" else line + b"?", keys)
        numbers = [found["from_index"], found["to_index"]]
        if found["format"] != "khata-pack/1" or not all(type(n) is int for n in numbers) or not 0 <= numbers[0] <= numbers[1]:
            raise Wrong("manifest.json", 1, f"{found['format']}, leaves {numbers}", "khata-pack/1, and a range of leaves")
        for file in found["files"]:
            if not isinstance(file, dict) or sorted(file) != ["bytes", "lines", "name", "sha256"]:
                raise Wrong("manifest.json", 1, file, "a file's bytes, lines, name and sha256")
        self.files = {str(file["name"]): file for file in found["files"]}
        self.manifest = found
        needed = {*SOURCES.values(), *STATES, *LOG, *(["log/prior"] if found["from_index"] else [])}
        if [f["name"] for f in found["files"]] != sorted(self.files) or not needed <= self.files.keys():
            raise Wrong("manifest.json", 1, list(self.files), "each file once, by name, among them " + " ".join(sorted(needed)))
        for name in sorted({*self.names, *self.files} - {"manifest.json", "manifest.sig"}):
            if self.names.count(name) != 1 or name not in self.files:
                where = "" if name in self.files else ", and not in the manifest"
                raise Wrong(name, None, f"there {self.names.count(name)} times{where}", "there once, as in the manifest")

    def altered(self, name: str, reader: Reader | None = None) -> Wrong | None:
        """Why a file is not the one in the manifest; ``reader``: has read it to the end."""
        try:
            if reader is None:
                reader = self.open(name)
                buffer = bytearray(1 << 17)
                while reader.readinto(buffer):
                    pass
        except (*DAMAGED, OSError) as error:
            return Wrong(name, None, f"damaged: {error}", "whole")
        lines = None if name.endswith(".parquet") else reader.newlines
        says = {"bytes": reader.bytes, "lines": lines, "name": name, "sha256": reader.hash.hexdigest()}
        return None if says == self.files[name] else Wrong(name, None, canonical(says).decode(), canonical(self.files[name]).decode())

    def culprit(self) -> Wrong | None:
        """The first file that is not what the manifest says, or the manifest."""
        try:
            if not self.manifest:
                self.open_manifest()
        except Wrong as wrong:
            return wrong
        except DAMAGED as error:
            return Wrong("manifest.json", None, f"damaged: {error}", "whole")
        return next((wrong for name in self.files if (wrong := self.altered(name))), None)

    def check_signatures(self, pinned: str | None, prior: Pack | None) -> None:
        """The keys hang together and one of them is vouched for; those from it on signed container and manifest."""
        origin, sig = self.manifest["origin"], self.read("manifest.sig").decode(errors="replace")
        intact = sha256(self.read("manifest.json")).hexdigest() in sig
        if intact and (wrong := self.altered("log/keys.jsonl")):
            raise wrong
        self.keys: list[Key] = []
        since = ""
        for number, line in enumerate(self.read("log/keys.jsonl").splitlines(), 1):
            fields = parse("log/keys.jsonl", number, line, "endorsement from until vkey")
            key = parse_key("log/keys.jsonl", number, fields["vkey"])
            if self.keys:
                text = opened("log/keys.jsonl", number, str(fields["endorsement"]), self.keys[-1:])
                if text != f"khata log key\n{origin}\n{key.vkey}\n":
                    raise Wrong("log/keys.jsonl", number, repr(text), f"the endorsement of {key.vkey}")
            if key.name != origin or str(fields["from"]) < since:
                raise Wrong("log/keys.jsonl", number, line.decode(), f"a key of {origin}, after those before it")
            since = str(fields["from"])
            self.keys.append(key)
        vkeys = [key.vkey for key in self.keys]
        self.vouched = "nobody: no key was pinned (--key) and no earlier pack given (--prior)"
        trusted = self.keys
        if prior:
            before = [key.vkey for key in prior.keys]
            if vkeys[: len(before)] != before:
                raise Wrong("log/keys.jsonl", None, vkeys, f"{before} and those they endorsed, as in {prior.path.name}")
            self.vouched = f"the keys of {prior.path.name}"
        if pinned:
            if pinned not in vkeys:
                raise Wrong("log/keys.jsonl", None, vkeys, f"{pinned}, which was pinned, and those it endorsed")
            trusted = self.keys[vkeys.index(pinned) :]
            self.vouched = f"the pinned key {pinned}"
        text = opened("manifest.sig", None, sig, trusted, strict=True)
        if text != (must := f"khata pack\n{origin}\n{sha256(self.read('manifest.json')).hexdigest()}\n"):
            raise Wrong("manifest.json", None, repr(text), repr(must))
        if self.zip:
            text = opened(f"the comment of {self.path.name}", None, self.comment, trusted, strict=True)
            if text != (must := f"khata zip\n{origin}\n{self.digest}\n"):
                raise Wrong(self.path.name, None, repr(text), repr(must))
        note = self.read("log/checkpoint").decode(errors="replace")
        self.root = checkpoint("log/checkpoint", None, note, trusted, origin, self.manifest["to_index"])
        if self.root.hex() != self.manifest["root"]:
            raise Wrong("manifest.json", 1, self.manifest["root"], f"{self.root.hex()}, the checkpoint's root")


class Tree:
    """A Merkle tree (RFC 9162) as the roots of the full subtrees that make it up, largest first."""

    def __init__(self, size: int, parts: list[bytes]) -> None:
        self.size, self.parts = size, parts

    def append(self, line: bytes) -> None:
        node, self.size = sha256(b"\0" + line).digest(), self.size + 1
        for _ in range((self.size & -self.size).bit_length() - 1):
            node = sha256(b"\1" + self.parts.pop() + node).digest()
        self.parts.append(node)

    def root(self) -> bytes:
        if not self.parts:
            return sha256().digest()
        *others, node = self.parts
        for left in reversed(others):
            node = sha256(b"\1" + left + node).digest()
        return node


class Account:
    """``sign``: 1 of an account whose balance is on the debit side (assets, expenses), else -1."""

    __slots__ = (
        *("id", "path", "currency", "sign", "floor", "status", "fact", "limits", "opened_at"),
        *("active", "guessed", "seq", "debits", "credits", "posted", "incoming", "outgoing"),
    )

    def __init__(self, number: int, path: str, currency: str, floor: str | None, opened_at: str) -> None:
        self.id, self.path, self.currency, self.opened_at = number, path, currency, opened_at
        self.sign = 1 if path.startswith(("Assets:", "Expenses:")) else -1
        self.floor, self.status = (None if floor is None else int(floor)), "open"
        self.fact, self.limits, self.active, self.guessed = 1, {}, 0, 0
        self.seq = self.debits = self.credits = self.posted = self.incoming = self.outgoing = 0

    def line(self, active: int) -> bytes:
        """As in trial_balance.jsonl."""
        flows = (self.incoming, self.outgoing) if self.sign > 0 else (self.outgoing, self.incoming)
        sums = zip(("pending_debits", "pending_credits"), map(str, flows), strict=True)
        fields = {"account": self.path, "account_id": self.id, "active_limits": active, "currency": self.currency}
        fields |= {"floor": None if self.floor is None else str(self.floor), "seq": self.seq, "status": self.status}
        return canonical(fields | dict(sums) | {"posted_credits": str(self.credits), "posted_debits": str(self.debits)})


class Hold:
    """Terms and sums, named as in holds.jsonl."""

    __slots__ = ("terms", "held", "consumed", "captured", "released", "expired")
    SUMS = ("captured", "consumed", "expired", "held", "released")

    def __init__(self, terms: dict[str, Any], **sums: int) -> None:
        self.terms = terms
        for name in self.SUMS:
            setattr(self, name, sums.get(name, 0))

    @property
    def left(self) -> int:
        return self.held - self.consumed - self.released - self.expired

    def line(self) -> bytes:
        return canonical(self.terms | {name: str(getattr(self, name)) for name in self.SUMS})

    def capturable(self) -> int:
        kept = self.held - self.released - self.expired
        return kept + kept * self.terms["tolerance_bps"] // 10_000 - self.captured


class Closes:
    """What each close must hash: net debits by account, in parts between the days of the closes to come."""

    def __init__(self, acts: list[dict[str, Any]]) -> None:
        self.waiting = [act["subject"] for act in acts]
        self.days = sorted({str(day) for day in self.waiting})
        self.sums: list[dict[Account, int]] = [{} for _ in self.days]
        self.lowest = bisect_left(self.days, min(self.waiting)) if acts else 0

    def add(self, day: str, account: Account, amount: int) -> None:
        part = max(self.lowest, bisect_left(self.days, day))
        if part < len(self.sums):
            self.sums[part][account] = self.sums[part].get(account, 0) + amount

    def hash(self, book: str, head: int, through: str) -> str:
        """Of the next close (ledger/periods.py); what no later one tells apart goes together afterwards."""
        total: dict[Account, int] = {}
        for part in self.sums[: bisect_left(self.days, through) + 1]:
            for account, amount in part.items():
                total[account] = total.get(account, 0) + amount
        text = canonical({"book": book, "head": head, "through": through}) + b"\n"
        for account in sorted(total, key=lambda a: (a.path, a.currency)):
            sides = {"credit": str(max(-total[account], 0)), "debit": str(max(total[account], 0))}
            if total[account]:
                text += canonical({"account": account.path, "currency": account.currency} | sides) + b"\n"
        self.waiting.pop(0)
        before, self.lowest = self.lowest, bisect_left(self.days, min(self.waiting, default="9"))
        for part in range(before, min(self.lowest, len(self.days) - 1)):
            for account, amount in self.sums[part].items():
                self.add(self.days[part], account, amount)
            self.sums[part] = {}
        return sha256(text).hexdigest()


class Seen:
    """Keyed hashes of what may come only once, in parts, so that looking for repetitions takes little memory."""

    def __init__(self) -> None:
        self.parts = [array("q") for _ in range(64)]

    def add(self, text: str) -> None:
        value = hash(text)
        self.parts[value & 63].append(value)

    def repeated(self) -> set[int]:
        found: set[int] = set()
        for part in self.parts:
            if len(set(part)) < len(part):
                once: set[int] = set()
                found.update(value for value in part if value in once or once.add(value))
        return found


class Proof:
    """The bookkeeping of the range, done anew in the order of the log. Raises ``Wrong`` at the first line that lies."""

    def __init__(self, pack: Pack, roots: dict[int, tuple[str, int | None, bytes]]) -> None:
        """``roots``: the root that the tree must have at a size, and the file and line that say so."""
        self.pack, self.roots, self.book = pack, roots, str(pack.manifest["book"])
        self.begin, self.end = pack.manifest["from_index"], pack.manifest["to_index"]
        self.lines = {name: Lines(pack, name) for name in (*SOURCES.values(), *STATES, "log/runs.jsonl")}
        self.accounts: dict[tuple[str, str], Account] = {}
        self.by_id: list[Account] = []
        self.holds: dict[str, Hold] = {}
        self.acts: deque[tuple[int, int, dict[str, Any]]] = deque()  # line, journal it comes after, act: not yet in force
        self.proposed: dict[str, tuple[str, str, Any]] = {}
        self.mirrors, self.sources, self.ids, self.placed = array("q"), Seen(), Seen(), Seen()
        self.reversed_before: set[int] = set()
        self.last: dict[str, int] = {}  # number of each source
        self.first: dict[str, int] = {}
        self.proven: set[int] = set()
        self.clock = self.act_clock = self.account_clock = self.day = self.closed = ""
        self.act_at, self.rows, self.days = 0, [], set[str]()
        self.counts = dict.fromkeys(("postings", "holds", "reversals", "closes", "days"), 0)
        self.notes: list[str] = []
        book = re.escape(canonical(self.book).decode())
        self.form = re.compile(JOURNAL.replace("BOOK", book, 1), re.ASCII).fullmatch
        self.postings = re.compile(POSTING, re.ASCII).findall

    def wrong(self, name: str, says: object, must: object) -> Wrong:
        return Wrong(name, self.lines[name].number, says, must)

    def run(self) -> None:
        self.read_log()
        self.read_opening()
        self.replay()
        self.read_closing()
        self.check_once()
        for name in self.pack.files:
            if wrong := self.pack.altered(name):
                raise wrong

    def read_log(self) -> None:
        """Frontier and checkpoints: what the tree must come to, and what it starts from."""
        pack, origin = self.pack, self.pack.manifest["origin"]
        frontier = parse("log/frontier.json", 1, pack.read("log/frontier.json")[:-1], "hashes size")
        try:
            parts = [bytes.fromhex(text) for text in frontier["hashes"]]
            right = frontier["size"] == self.begin and [p.hex() for p in parts] == frontier["hashes"]
        except (TypeError, ValueError):
            right, parts = False, []
        if not right or len(parts) != self.begin.bit_count() or any(len(part) != 32 for part in parts):
            raise Wrong("log/frontier.json", 1, canonical(frontier).decode(), f"the subtrees of {self.begin} leaves")
        self.tree = Tree(self.begin, parts)
        if self.begin:
            note = pack.read("log/prior").decode(errors="replace")
            self.roots[self.begin] = ("log/prior", None, checkpoint("log/prior", None, note, pack.keys, origin, self.begin))
        lines = Lines(pack, "log/checkpoints.jsonl")
        for line in lines.rest():
            fields = parse(lines.name, lines.number, line, "note size")
            root = checkpoint(lines.name, lines.number, str(fields["note"]), pack.keys, origin, fields["size"])
            if not self.begin <= fields["size"] <= self.end:
                raise Wrong(lines.name, lines.number, fields["size"], f"from {self.begin} to {self.end}")
            if self.roots.setdefault(fields["size"], (lines.name, lines.number, root))[2] != root:
                raise Wrong(lines.name, lines.number, root.hex(), self.roots[fields["size"]][2].hex())
        self.roots[self.end] = ("log/checkpoint", None, pack.root)
        self.check_root()

    def check_root(self) -> None:
        if self.tree.size in self.roots:
            file, line, root = self.roots[self.tree.size]
            self.proven.add(self.tree.size)
            if self.tree.root() != root:
                raise Wrong(file, line, f"{self.tree.size} leaves of the root {root.hex()}", f"{self.tree.root().hex()}, by the lines up to " + self.where())

    def where(self) -> str:
        return ", ".join(f"{self.lines[name].name} {self.lines[name].number}" for name in SOURCES.values())

    def read_opening(self) -> None:
        """What stood before the range, as stated; a whole log starts from nothing."""
        name = "opening.jsonl"
        for line in self.lines[name].rest():
            try:
                fields = json.loads(line)
                account = Account(len(self.by_id) + 1, fields["account"], fields["currency"], fields["floor"], "")
                account.seq, account.status, account.active = fields["seq"], fields["status"], fields["active_limits"]
                account.debits, account.credits = int(fields["posted_debits"]), int(fields["posted_credits"])
                flows = int(fields["pending_debits"]), int(fields["pending_credits"])
                account.incoming, account.outgoing = flows[:: account.sign]
                account.posted = (account.debits - account.credits) * account.sign
                right = account.line(fields["active_limits"]) == line
            except (ValueError, TypeError, KeyError, AttributeError):
                right = False
            if not right or not self.begin:
                raise self.wrong(name, line.decode(errors="replace"), "an account's line, in canonical form, if the range has a before")
            self.open_account(name, account)
        name = "opening_holds.jsonl"
        for line in self.lines[name].rest():
            fields = parse(name, self.lines[name].number, line)
            try:
                hold = Hold({key: fields[key] for key in HOLD_TERMS}, **{key: int(fields[key]) for key in Hold.SUMS})
                right = hold.line() == line and hold.left > 0 and self.begin > 0
            except (ValueError, KeyError, TypeError):
                right, hold = False, Hold({})
            if not right or not ("" if not self.holds else max(self.holds)) < hold.terms["id"]:
                raise self.wrong(name, line.decode(), "an open hold's line, by id, if the range has a before")
            self.holds[hold.terms["id"]] = hold
        self.check_pending()

    def check_pending(self) -> None:
        """What is pending on each account is what its open holds have left."""
        left: dict[tuple[str, str, bool], int] = {}
        for hold in self.holds.values():
            for side in ("debit", "credit"):
                key = (hold.terms[side], hold.terms["currency"], side == "debit")
                left[key] = left.get(key, 0) + hold.left
        for account in self.by_id:
            flows = (account.incoming, account.outgoing)[:: account.sign]
            held = tuple(left.get((account.path, account.currency, debit), 0) for debit in (True, False))
            if flows != held:
                raise Wrong("opening.jsonl", account.id, f"pending {flows}", f"{held}, by opening_holds.jsonl")

    def open_account(self, name: str, account: Account) -> None:
        if self.accounts.setdefault((account.path, account.currency), account) is not account:
            raise self.wrong(name, f"{account.path} {account.currency}", "an account that is not there yet")
        self.by_id.append(account)

    def replay(self) -> None:
        """All leaves, run by run."""
        lines = Lines(self.pack, "acts.jsonl")
        closes = [json.loads(line) for line in lines.rest() if b'"action":"period_closed"' in line]
        self.closes = Closes(closes)
        for account in self.by_id if closes else ():
            self.closes.add("", account, account.debits - account.credits)
        header = self.lines["lines.csv"].next() + b"\n"
        if header != CSV_HEADER:
            raise self.wrong("lines.csv", header.decode(errors="replace"), CSV_HEADER.decode())
        take = {"account": self.take_accounts, "act": self.take_acts, "journal": self.take_journals}
        name = "log/runs.jsonl"
        for line in self.lines[name].rest():
            run = parse(name, self.lines[name].number, line, "count first_index first_number source")
            source, count, first = run["source"], run["count"], run["first_number"]
            known = {"account": len(self.by_id)}.get(source, self.last.get(source, 0 if self.begin == 0 else None))
            right = source in take and type(count) is type(first) is int and 0 < count <= self.end - self.tree.size
            if not right or first < 1 or run["first_index"] != self.tree.size or first - 1 != (first - 1 if known is None else known):
                raise self.wrong(name, line.decode(), f"the next leaves, from {self.tree.size}, {source} {known}")
            self.first.setdefault(source, first)
            take[source](first, count)
            self.last[source] = first + count - 1
            self.check_root()
        if self.tree.size != self.end:
            raise self.wrong(name, f"{self.tree.size} leaves", self.end)
        for size in self.roots:  # a run that crosses a checkpoint leaves it unproven
            if size not in self.proven:
                raise Wrong(*self.roots[size][:2], f"a checkpoint of {size} leaves", "at the end of a run")
        for file in SOURCES.values():
            self.lines[file].end()
        self.compare_rows()
        self.lines["lines.csv"].end()

    def new_day(self, day: str) -> None:
        """The log never goes back to an earlier day, and each day that has ended has its checkpoint."""
        first, until = self.pack.manifest["from"] or "", self.pack.manifest["to"] or "9"
        if day < self.day or not first <= day < until:
            raise Wrong(self.where(), None, f"recorded on {day}", f"from {first or 'the beginning'} to {until}, and not before {self.day}")
        if self.day and self.tree.size not in self.roots:
            raise Wrong("log/checkpoints.jsonl", None, f"no checkpoint of {self.tree.size} leaves", f"one: {self.day} ended there")
        self.day = day
        self.counts["days"] += 1

    def take_accounts(self, first: int, count: int) -> None:
        name = "accounts.jsonl"
        for number in range(first, first + count):
            line = self.lines[name].next()
            fields = parse(name, self.lines[name].number, line, "account account_id book currency floor opened_at owner")
            path, currency, floor, at = (fields[key] for key in ("account", "currency", "floor", "opened_at"))
            right = fields["account_id"] == number and fields["book"] == self.book and type(fields["account_id"]) is int
            right = right and re.fullmatch(PATH, str(path)) and re.fullmatch("[A-Z]{3}", str(currency))
            if not right or not re.fullmatch(TIME, f'"{at}"', re.ASCII) or not (floor is None or re.fullmatch(r"0|-?[1-9]\d*", str(floor))):
                raise self.wrong(name, line.decode(), f"account {number} of {self.book}")
            if at < self.account_clock:
                raise self.wrong(name, at, f"{self.account_clock} or later: the clock never goes back")
            self.account_clock = at
            if at[:10] != self.day:
                self.new_day(at[:10])
            self.tree.append(line)
            self.open_account(name, Account(number, path, currency, floor, at))

    def take_acts(self, first: int, count: int) -> None:
        """Acts stand in the log before the journals that they hold for, and after those before them."""
        name = "acts.jsonl"
        for number in range(first, first + count):
            line = self.lines[name].next()
            act = parse(name, self.lines[name].number, line, "act action book detail person reason recorded_at subject")
            if act["act"] != number or type(act["act"]) is not int or act["book"] != self.book or not isinstance(act["detail"], dict):
                raise self.wrong(name, line.decode(), f"act {number} of {self.book}")
            at = act["detail"].get("after", act["detail"].get("head", self.act_at))
            if type(at) is not int or at < max(self.act_at, self.last.get("journal", 0)):
                raise self.wrong(name, f"after journal {at}", f"after {max(self.act_at, self.last.get('journal', 0))} or later")
            if not self.act_clock <= str(act["recorded_at"]) or not re.fullmatch(TIME, f'"{act["recorded_at"]}"', re.ASCII):
                raise self.wrong(name, act["recorded_at"], f"{self.act_clock} or later: the clock never goes back")
            self.act_at, self.act_clock = at, act["recorded_at"]
            if self.act_clock[:10] != self.day:
                self.new_day(self.act_clock[:10])
            self.tree.append(line)
            if str(act["action"]).endswith("_proposed"):
                self.take_proposal(act)
            self.acts.append((self.lines[name].number, at, act))

    def take_proposal(self, act: dict[str, Any]) -> None:
        name = "proposals.jsonl"
        line = self.lines[name].next(f"proposal {act['subject']} of act {act['act']}")
        fields = parse(name, self.lines[name].number, line, "act content id kind")
        digest = sha256(canonical(fields["content"])).hexdigest()
        says = {"act": fields["act"], "content_hash": digest, "id": fields["id"], "kind": fields["kind"]}
        must = {"act": act["act"], "content_hash": act["detail"].get("content_hash"), "id": act["subject"], "kind": act["detail"].get("kind")}
        if says != must:
            raise self.wrong(name, says, must)
        self.proposed[str(act["subject"])] = (str(act["person"]), str(fields["kind"]), fields["content"])

    def apply(self, number: int, at: int, act: dict[str, Any], early: bool = False) -> None:
        """An act comes into force after journal ``at``; ``early``: those up to there are not all in the pack."""

        def check(right: object, says: object, must: object) -> None:
            if not right:
                raise Wrong("acts.jsonl", number, says, must)

        check(act["recorded_at"] >= self.clock, act["recorded_at"], f"{self.clock} or later: the clock never goes back")
        self.clock, action, detail, subject = act["recorded_at"], str(act["action"]), act["detail"], str(act["subject"])
        if action in ("change_account", "set_limit"):
            known = type(detail.get("account")) is int and 0 < detail["account"] <= len(self.by_id)
            account = self.by_id[detail["account"] - 1] if known else Account(0, "", "", None, "")
            check(subject == f"{account.path} {account.currency}", f"account {detail.get('account')}, {subject}", "one account")
        if action == "change_account":
            self.change_account(check, account, detail, early)
        elif action == "set_limit":
            self.set_limit(account, detail)
        elif action == "period_closed" and not early:
            check(self.closed < subject < self.clock[:10], f"closed through {subject}", f"after {self.closed or 'nothing'}, and over on {self.clock[:10]}")
            digest = self.closes.hash(self.book, at, subject)
            right = detail.get("trial_balance_hash") == digest
            if not right and self.begin:
                self.notes.append(f"act {act['act']}: the trial balance that it closed needs what was recorded before the range")
            else:
                check(right, f"trial balance {detail.get('trial_balance_hash')}", f"{digest}, by the lines")
                self.counts["closes"] += 1
            self.closed = subject
        elif action.endswith(("_approved", "_rejected")):
            person, kind, content = self.proposed.pop(subject, ("", "", {}))
            check(person or self.begin, f"{action} {subject}", "of what was proposed, once")
            check(person != act["person"], f"by {person}", f"by somebody else than {person}, who proposed it")
            if action == "reopening_approved" and person and not early:
                check((content["through"] or "") < self.closed or self.begin, content, f"closed less than through {self.closed}")
                self.closed = content["through"] or ""

    def change_account(self, check: Any, account: Account, detail: dict[str, Any], early: bool) -> None:
        floor, status, fact = detail.get("floor"), detail.get("status"), detail.get("fact")
        check(floor is None or re.fullmatch(r"0|-?[1-9]\d*", str(floor)), f"floor {floor}", "an amount or null")
        check(status in ("open", "frozen", "closed") and account.status != "closed", f"{status} after {account.status}", "open, frozen or closed, and closed is the end")
        check(fact == account.fact + 1 or (self.begin and account.fact == 1), f"fact {fact}", account.fact + 1)
        account.floor, account.status, account.fact = (None if floor is None else int(floor)), status, fact
        if not early:
            available, empty = account.posted - account.outgoing, not (account.posted or account.incoming or account.outgoing)
            check(account.floor is None or account.floor <= available, f"floor {floor}", f"at most {available}, what was available")
            check(status != "closed" or empty, f"closed with {account.posted} posted", "empty")

    def set_limit(self, account: Account, detail: dict[str, Any]) -> None:
        """Of a limit that was there before the range it is not known whether it was active."""
        name, active = detail.get("name"), detail.get("active") is True
        known = name in account.limits or detail.get("fact") == 1
        account.guessed += not known
        account.active += active - account.limits.get(name, False) if known else 0
        account.limits[name] = active

    def take_journals(self, first: int, count: int) -> None:
        """The hot path: a journal with one posting takes some 15 µs."""
        lines, accounts, rows, append = self.lines["journal.jsonl"], self.accounts, self.rows, self.tree.append
        for seq in range(first, first + count):
            line = lines.next()
            try:
                found = self.form(line.decode())
            except UnicodeDecodeError:
                found = None
            if found is None:
                raise self.wrong(lines.name, line.decode(errors="replace"), f"a journal of {self.book} in canonical form (RFC 8785)")
            effective, hold, id_, metadata, postings, recorded, requested, reverses, number, source = found.groups()
            if number != str(seq):
                raise self.wrong(lines.name, f"seq {number}", seq)
            while self.acts and self.acts[0][1] < seq:
                self.apply(*self.acts.popleft())
            if recorded < self.clock:
                raise self.wrong(lines.name, recorded, f"{self.clock} or later: the clock never goes back")
            self.clock = recorded
            if recorded[:10] != self.day:
                self.new_day(recorded[:10])
            append(line)
            self.check_journal(seq, effective[:10], metadata, requested, effective)
            self.sources.add(source)
            self.ids.add(id_)
            booked = self.postings(postings)
            if reverses is not None:
                self.reverse(seq, int(reverses), hold, booked)
            self.mirrors.append(0 if hold else hash(postings if '"up_to"' not in postings else UP_TO.sub("", postings)) | 2)
            if hold is not None:
                self.use_hold(hold, recorded, booked)
            elif '"hold":' in postings or '"pending"' in postings:
                raise self.wrong(lines.name, postings, "posted lines of no hold")
            for place, (text, credit, currency, debit, of_hold, layer, up_to) in enumerate(booked, 1):
                d, c, amount = accounts.get((debit, currency)), accounts.get((credit, currency)), int(text)
                if d is None or c is None or d is c or d.status != "open" or c.status != "open" or (amount < 0 and not of_hold):
                    self.check_accounts(d, c, debit, credit, currency, amount, bool(of_hold))
                if layer == "posted":
                    if up_to:
                        self.check_up_to(d, c, amount, int(up_to))
                    d.debits += amount
                    c.credits += amount
                    d.posted += amount * d.sign
                    c.posted -= amount * c.sign
                    if self.closes.waiting:
                        self.closes.add(effective[:10], d, amount)
                        self.closes.add(effective[:10], c, -amount)
                else:
                    if d.sign > 0:
                        d.incoming += amount
                    else:
                        d.outgoing += amount
                    if c.sign > 0:
                        c.outgoing += amount
                    else:
                        c.incoming += amount
                d.seq += 1
                c.seq += 1
                has, had = d.posted - d.outgoing, c.posted - c.outgoing
                if (d.floor is not None and has < d.floor) or (c.floor is not None and had < c.floor):
                    low, left = (d, has) if d.floor is not None and has < d.floor else (c, had)
                    raise self.wrong(lines.name, f"{low.path} {low.currency} left with {left} available by posting {place}", f"{low.floor} or more")
                rows.append(
                    f"{seq},{place},debit,{debit},{currency},{layer},{text},{d.seq},{d.posted},{has},{d.incoming}\n"
                    f"{seq},{place},credit,{credit},{currency},{layer},{text},{c.seq},{c.posted},{had},{c.incoming}\n"
                )
            if len(rows) >= BLOCK:
                self.compare_rows()

    def check_journal(self, seq: int, day: str, metadata: str, requested: str | None, effective: str) -> None:
        if day not in self.days:
            try:
                self.days.add(date.fromisoformat(day).isoformat())
            except ValueError:
                raise self.wrong("journal.jsonl", day, "a day") from None
        if day <= self.closed:
            raise self.wrong("journal.jsonl", f"effective on {day}", f"after {self.closed}: it was closed")
        if metadata and (keys := KEYS(metadata)) != sorted(set(keys)):
            raise self.wrong("journal.jsonl", f"metadata {keys}", sorted(set(keys)))
        if requested is not None and (self.closed or not self.begin):
            opens = (date.fromisoformat(self.closed) + timedelta(days=1)).isoformat() if self.closed else ""
            if not requested[:10] <= self.closed or effective != f"{opens}T00:00:00.000000Z":
                raise self.wrong("journal.jsonl", f"effective {effective} instead of {requested}", f"on the first open day, {opens or 'of none closed'}")

    def check_accounts(self, d: Account | None, c: Account | None, debit: str, credit: str, currency: str, amount: int, of_hold: bool) -> None:
        for path, account in ((debit, d), (credit, c)):
            if account is None:
                raise self.wrong("journal.jsonl", f"{path} {currency}", "an account that was opened before")
            if account.status == "closed" or (account.status == "frozen" and amount > 0):
                raise self.wrong("journal.jsonl", f"{path} {currency}", f"an open account: it is {account.status}")
        if d is c or (amount < 0 and not of_hold):
            raise self.wrong("journal.jsonl", f"{amount} {debit} from {credit}", "more than nothing, between two accounts")

    def check_up_to(self, d: Account, c: Account, amount: int, asked: int) -> None:
        falls = [account for account, sign in ((d, -1), (c, 1)) if account.sign == sign]
        must = min([asked, *(account.posted - account.outgoing - (account.floor or 0) for account in falls)])
        if amount != must:
            raise self.wrong("journal.jsonl", f"{amount} of up to {asked}", f"{must}, which was available")

    def reverse(self, seq: int, of: int, hold: str | None, booked: list[tuple[str, ...]]) -> None:
        """The mirror image of one earlier journal without a hold, the last posting first; and the only one."""
        self.counts["reversals"] += 1
        place = of - self.first["journal"]
        if place < 0:
            known = of not in self.reversed_before
            self.reversed_before.add(of)
            kept = 2 if known else 1
        else:
            kept = self.mirrors[place] if of < seq else 0
        mirror = ",".join(MIRROR.format(*p) for p in reversed(booked))
        if hold or kept in (0, 1) or any(p[6] for p in booked):
            why = {0: "an earlier journal without a hold", 1: "one that was not reversed before"}.get(kept, "mirrored lines alone")
            raise self.wrong("journal.jsonl", f"reverses {of}", why)
        if place >= 0:
            if kept != hash(mirror) | 2:
                raise self.wrong("journal.jsonl", f"reverses {of} by what mirrors [{mirror}]", "the mirror image of all its lines")
            self.mirrors[place] = 1

    def use_hold(self, raw: str, recorded: str, booked: list[tuple[str, ...]]) -> None:
        """The journal's first lines are what the action makes of the hold, by its terms and what is left of it."""
        name = "journal.jsonl"
        asks = parse(name, self.lines[name].number, raw.encode())
        action, id_ = str(asks.get("action")), str(asks.get("id"))
        if re.fullmatch(ASKS.get(action, ""), raw, re.ASCII) is None:
            raise self.wrong(name, raw, "what a hold can be asked, with its amount and terms")
        hold, amount = self.holds.get(id_), int(asks.get("amount") or 0)
        if action == "place":
            if hold is not None or asks["tolerance_bps"] > 10_000:
                raise self.wrong(name, f"places {id_}", "a hold that is not there yet, of a tolerance up to 10000")
            hold = self.holds[id_] = Hold({key: asks[key] for key in HOLD_TERMS})
            self.placed.add(id_)
            self.counts["holds"] += 1
        if hold is None:
            raise self.wrong(name, f"{action} of {id_}", "a hold that was placed and has not ended")
        expires = hold.terms["expires_at"]
        if action != "release" and (expires is not None and recorded >= expires) != (action == "expire"):
            raise self.wrong(name, f"{action} at {recorded}", f"another time or action: it expires at {expires}")
        made = self.hold_lines(hold, action, amount, asks)
        if booked[: len(made)] != made or any(p[4] or p[5] != "posted" for p in booked[len(made) :]):
            raise self.wrong(name, f"{action} of {id_} by {booked}", f"{made}, then posted lines of its own")
        if not hold.left:
            del self.holds[id_]

    def hold_lines(self, hold: Hold, action: str, amount: int, asks: dict[str, Any]) -> list[tuple[str, ...]]:
        def pending(value: int, what: str = action) -> tuple[str, ...]:
            return str(value), hold.terms["credit"], hold.terms["currency"], hold.terms["debit"], what, "pending", ""

        if action in ("place", "increase"):
            hold.held += amount
            return [pending(amount)]
        if action == "capture":
            if amount > hold.capturable():
                raise self.wrong("journal.jsonl", f"captures {amount}", f"at most {hold.capturable()}: the hold's ceiling")
            used = min(amount, hold.left)
            hold.consumed, hold.captured = hold.consumed + used, hold.captured + amount
            made = [pending(-used)]
            if asks["final"] and hold.left:
                made.append(pending(-hold.left, "release"))
                hold.released += hold.left
            pair = [asks[side] or hold.terms[side] for side in ("credit", "debit")]
            return [*made, (str(amount), pair[0], hold.terms["currency"], pair[1], "capture", "posted", "")]
        amount = amount or hold.left
        if amount > hold.left:
            raise self.wrong("journal.jsonl", f"gives back {amount}", f"at most {hold.left}: no more was left")
        if action == "release":
            hold.released += amount
        else:
            hold.expired += amount
        return [pending(-amount)]

    def compare_rows(self) -> None:
        """What was made of the lines so far against lines.csv."""
        lines = self.lines["lines.csv"]
        made = "".join(self.rows).encode()
        if lines.buffer.read(len(made)) != made:
            self.explain_rows(made.splitlines())
        self.counts["postings"] += len(self.rows)
        lines.number += 2 * len(self.rows)
        self.rows.clear()

    def told(self) -> dict[str, Any]:
        """What was looked at, in numbers."""
        if self.begin:
            self.notes.append("what stood before the range is as signed: --prior proves it; nor is it known which keys were used, or which days closed")
        done = {source: self.last.get(source, 0) - self.first.get(source, 1) + 1 for source in SOURCES}
        return self.counts | {
            "files": len(self.pack.files), "leaves": self.end - self.begin, "size": self.end, "root": self.pack.root.hex(),
            "checkpoints": len(self.roots), "journals": done["journal"], "acts": done["act"], "accounts": len(self.by_id),
            "rows": 2 * self.counts["postings"], "open_holds": len(self.holds),
        }

    def explain_rows(self, made: list[bytes]) -> None:
        lines, number = Lines(self.pack, "lines.csv"), self.lines["lines.csv"].number
        for _ in range(number):
            lines.next()
        for must in made:
            if (says := lines.next(must.decode())) != must:
                raise Wrong(lines.name, lines.number, says.decode(errors="replace"), must.decode())

    def read_closing(self) -> None:
        """What stands after the range, from what was done anew."""
        for act in self.acts:
            self.apply(*act, early=True)
        self.lines["proposals.jsonl"].end()
        name = "trial_balance.jsonl"
        for account in self.by_id:
            must = account.line(account.active)
            says = self.lines[name].next(must.decode())
            around = range(account.active - account.guessed, account.active + account.guessed + 1)
            if says != must and says not in [account.line(active) for active in around]:
                raise self.wrong(name, says.decode(errors="replace"), must.decode())
        self.lines[name].end()
        name = "holds.jsonl"
        for id_ in sorted(self.holds):
            must = self.holds[id_].line()
            if (says := self.lines[name].next(must.decode())) != must:
                raise self.wrong(name, says.decode(errors="replace"), must.decode())
        self.lines[name].end()

    def check_once(self) -> None:
        """What looked repeated is read again: two lines may have one hash, but not one key."""
        ids, sources, placed = self.ids.repeated(), self.sources.repeated(), self.placed.repeated()
        if not (ids or sources or placed):
            return
        lines, seen = Lines(self.pack, "journal.jsonl"), dict[tuple[str, str], int]()
        for line in lines.rest():
            found = self.form(line.decode())
            hold = json.loads(found[2])["id"] if found[2] and '"action":"place"' in found[2] else ""
            for what, text, wanted in (("id", found[3], ids), ("source", found[10], sources), ("placed hold", hold, placed)):
                if hash(text) in wanted and seen.setdefault((what, text), lines.number) != lines.number:
                    raise Wrong(lines.name, lines.number, f"{what} {text}", f"another one: line {seen[what, text]} has it")


def prove(args: argparse.Namespace) -> tuple[Pack | None, Proof | None, Wrong | None]:
    pack = proof = None
    try:
        pack, prior = Pack(args.pack), None
        pack.open_manifest()
        roots: dict[int, tuple[str, int | None, bytes]] = {}
        if args.prior:
            prior = Pack(args.prior)
            prior.open_manifest()
            prior.check_signatures(None, None)
            size, name = prior.manifest["to_index"], args.prior.name
            if not pack.manifest["from_index"] <= size <= pack.manifest["to_index"]:
                raise Wrong("manifest.json", 1, f"leaves from {pack.manifest['from_index']}", f"from {size}, where {name} ends, or with it inside")
            roots[size] = (name, None, prior.root)
        pack.check_signatures(args.key, prior)
        if prior and prior.manifest["to_index"] == pack.manifest["from_index"]:
            for mine, its in (("opening.jsonl", "trial_balance.jsonl"), ("opening_holds.jsonl", "holds.jsonl")):
                if pack.files[mine]["sha256"] != prior.files[its]["sha256"]:
                    raise Wrong(mine, None, pack.files[mine]["sha256"], f"{prior.files[its]['sha256']}, that of {its} of {args.prior.name}")
        proof = Proof(pack, roots)
        proof.run()
    except Wrong as wrong:
        return pack, proof, (pack.culprit() if pack and pack.manifest and wrong.report["file"] != "manifest.sig" else None) or wrong
    except DAMAGED as error:
        return pack, proof, (pack.culprit() if pack else None) or Wrong(args.pack.name, None, f"damaged: {error}", "whole")
    except OSError as error:
        raise Unreadable(f"{args.pack}: {error.strerror or error}") from None
    return pack, proof, None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pack", type=Path, help="a zip, or a directory")
    parser.add_argument("--key", metavar="VKEY", help="the log's key, as known from elsewhere")
    parser.add_argument("--prior", type=Path, metavar="PACK", help="an earlier pack of the same log")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    try:
        pack, proof, wrong = prove(args)
    except Unreadable as error:
        print(error, file=sys.stderr)
        return 2
    report(args, pack, proof, wrong, time.perf_counter() - started)
    return 1 if wrong else 0


PROVEN = """container and manifest: {files} files, nothing else, every byte signed
log: {leaves} leaves, {size} in all, give the root {root}
checkpoints: {checkpoints} signed ones, each at its size; each of {days} days ends at one
journals: {journals} in canonical form and order, {postings} postings, each a debit and a credit of open accounts
balances: {rows} running balances as stored, no floor broken, {accounts} closing balances
holds: {holds} placed, none over its ceiling or out of time, {open_holds} open
reversals: {reversals} mirror images; source keys, ids and holds unique
periods: {closes} closes with the trial balance that they hashed; nothing counts on a closed day; {acts} acts in order"""


def report(args: argparse.Namespace, pack: Pack | None, proof: Proof | None, wrong: Wrong | None, seconds: float) -> None:
    manifest = pack.manifest if pack else {}
    told: dict[str, Any] = {"pack": str(args.pack), "verdict": "wrong" if wrong else "right", "wrong": wrong and wrong.report}
    told |= {key: manifest.get(key) for key in ("book", "origin", "root", "from", "to", "from_index", "to_index")}
    told |= {"seconds": round(seconds, 3), "vouched_by": None, "proven": None, "not_proven": []}
    if pack and proof and not wrong:
        told |= {"vouched_by": pack.vouched, "proven": proof.told(), "not_proven": proof.notes}
    if args.json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    elif wrong:
        print(f"WRONG  {args.pack}\n  {wrong}")
    elif pack and proof:
        print(f"Book {told['book']} of the log {told['origin']}, leaves {told['from_index']} to {told['to_index']}")
        print(re.sub("^", "  proven  ", PROVEN.format(**told["proven"]), flags=re.M))
        for note in proof.notes:
            print(f"  not proven  {note}")
        print(f"  vouched for by {pack.vouched}\nRIGHT  {args.pack} ({seconds:.1f} s)")


if __name__ == "__main__":
    sys.exit(main())
