#!/usr/bin/env python3
"""Proves an audit pack of Khata (docs/pack.md) without Khata, its database or a word of its operator.

    python khata_verify.py pack.zip --key VKEY [--prior earlier.zip] [--json]

It needs Python 3.11 and `cryptography` (for Ed25519). It reads each line once, in the order in which the log took it, does the
bookkeeping anew and compares what comes out with what the pack says, byte by byte. Memory: one object an account and an open hold,
and 24 to 32 bytes a journal (Python's keyed 64-bit hashes of its source key, its id and its postings: equal texts have equal hashes,
and what looks like a repetition is read again before it is called one).
Exit codes: 0 all is right; 1 something is wrong, and the first wrong line is named; 2 it could not be read.
"""
from __future__ import annotations

import argparse, base64, io, json, re, sys, time, zipfile, zlib
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# What lines look like, and no other way: RFC 8785 (JCS) leaves one form for each content. A word in capitals stands for its pattern.
WORDS = {
    "TEXT": r'"(?:[^"\\\x00-\x1f]+|\\(?:["\\bfnrt]|u00(?:0[0-7bef]|1[0-9a-f])))*+"',
    "TIME": r"(?:19|[2-8]\d)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z",
    "UUID": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "WORD": r"[a-z][a-z0-9_]{0,39}", "CURRENCY": r"[A-Z]{3}",
    "PATH": r"(?:Assets|Liabilities|Equity|Income|Expenses)(?::[A-Za-z0-9][A-Za-z0-9_-]{0,63}){1,7}+",
    "POSITIVE": r"[1-9]\d*+", "NATURAL": r"(?:0|[1-9]\d*+)", "INTEGER": r"(?:0|-?[1-9]\d*+)", "ID": r'(?:[!#-\[\]-~]|\\["\\]){1,64}',
    "PAIR": r'"([a-z][a-z0-9_.]{0,39})":TEXT',
    "POSTING": r'{"amount":"(-?POSITIVE)","credit":"(PATH)","currency":"(CURRENCY)","debit":"(PATH)"'
    r'(?:,"hold":"(place|increase|capture|release|expire)")?,"layer":"(posted|pending)"(?:,"up_to":"(POSITIVE)")?}',
}
FORMS = {
    "journal.jsonl": r'{"book":BOOK,"description":TEXT,"effective_at":"(TIME)",(?:"hold":({[^{}]*+}),)?"id":"(UUID)","kind":"WORD",'
    r'"metadata":{((?:PAIR(?:,PAIR)*+)?)},"postings":\[(POSTING(?:,POSTING)*+)\],"recorded_at":"(TIME)"'
    r'(?:,"requested_effective_at":"(TIME)")?(?:,"reverses":(POSITIVE))?,"seq":(POSITIVE),'
    r'"source":({"event":"WORD","id":"ID","type":"WORD"})}',
    "accounts.jsonl": r'{"account":"(PATH)","account_id":(POSITIVE),"book":BOOK,"currency":"(CURRENCY)","floor":(null|"INTEGER"),'
    r'"opened_at":"(TIME)","owner":(?:null|TEXT)}',
    "opening.jsonl": r'{"account":"(PATH)","account_id":(POSITIVE),"active_limits":(NATURAL),"currency":"(CURRENCY)",'
    r'"floor":(null|"INTEGER"),"pending_credits":"(NATURAL)","pending_debits":"(NATURAL)","posted_credits":"(NATURAL)",'
    r'"posted_debits":"(NATURAL)","seq":(NATURAL),"status":"(open|frozen|closed)"}',
    "opening_holds.jsonl": r'{"captured":"(NATURAL)","consumed":"(NATURAL)","credit":"(PATH)","currency":"(CURRENCY)","debit":"(PATH)",'
    r'"expired":"(NATURAL)","expires_at":(null|"TIME"),"held":"(NATURAL)","id":"(UUID)","released":"(NATURAL)","tolerance_bps":(NATURAL)}',
    "log/runs.jsonl": r'{"count":(POSITIVE),"first_index":(NATURAL),"first_number":(POSITIVE),"source":"(account|act|journal)"}',
    "log/checkpoints.jsonl": r'{"note":(TEXT),"size":(NATURAL)}',
    "log/keys.jsonl": r'{"endorsement":(null|TEXT),"from":"(TIME)","until":(?:null|"TIME"),"vkey":(TEXT)}',
    "log/frontier.json": r'{"hashes":(\[(?:"[0-9a-f]{64}"(?:,"[0-9a-f]{64}")*+)?\]),"size":(NATURAL)}',
    "acts.jsonl": r"(.*)", "proposals.jsonl": r"(.*)", "trial_balance.jsonl": r"(.*)", "holds.jsonl": r"(.*)", "lines.csv": r"(.*)",
    "place": r'{"action":"place","amount":"POSITIVE","credit":"PATH","currency":"CURRENCY","debit":"PATH","expires_at":(null|"TIME"),'
    r'"id":"UUID","tolerance_bps":(?:0|[1-9]\d{0,3}|10000)}',
    "increase": r'{"action":"increase","amount":"POSITIVE","id":"UUID"}', "expire": r'{"action":"expire","id":"UUID"}',
    "capture": r'{"action":"capture","amount":"POSITIVE","credit":(?:null|"PATH"),"debit":(?:null|"PATH"),"final":(?:true|false),"id":"UUID"}',
    "release": r'{"action":"release","amount":(?:null|"POSITIVE"),"id":"UUID"}',
}
SOURCES = {"account": "accounts.jsonl", "act": "acts.jsonl", "journal": "journal.jsonl"}
NEEDED = {"log/checkpoint", *list(FORMS)[:13]}
CSV_HEADER = b"seq,line,side,account,currency,layer,amount,account_seq,posted,available,incoming"
MIRROR = '{{"amount":"{0}","credit":"{3}","currency":"{2}","debit":"{1}","layer":"posted"}}'
PLACED = ("change_account", "set_limit", "period_closed", "adjustment_approved", "adjustment_rejected", "reopening_approved",
          "reopening_rejected")  # acts that say after which journal they came
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, LookupError, OverflowError, TypeError,
           AttributeError)  # what comes of files that are nothing of the kind
BLOCK = 2048  # postings whose rows are compared with lines.csv at a time


@cache
def pattern(form: str, book: str = "") -> re.Pattern[str]:
    """The pattern that a form stands for; of the forms inside it, the groups are dropped."""
    inner = {word: re.sub(r"(?<!\\)\((?!\?)", "(?:", text) for word, text in WORDS.items()} | {"BOOK": re.escape(book)}
    for _ in range(3):
        form = re.sub("[A-Z]{2,}", lambda word: inner.get(word[0], word[0]), form)
    return re.compile(form, re.ASCII)


POSTINGS, KEYS = pattern(WORDS["POSTING"]).findall, pattern(WORDS["PAIR"]).findall


class Wrong(Exception):
    """``line`` of ``file`` says what it must not."""

    def __init__(self, file: str, line: int | None, says: object, must: object) -> None:
        says, must = (text if len(text) < 400 else text[:400] + "…" for text in (str(says), str(must)))
        self.report = {"file": file, "line": line, "says": says, "must": must}

    def __str__(self) -> str:
        return ("{file}" + ", line {line}" * (self.report["line"] is not None) + ": says {says}; must be {must}").format(**self.report)


class Unreadable(Exception):
    """What was given is no pack that can be looked into."""


def canonical(value: Any) -> bytes:
    """RFC 8785 of what a pack holds: no number but integers, and keys in ASCII."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def parse(file: str, number: int, line: bytes, keys: str) -> dict[str, Any]:
    """A canonical JSON object with exactly these keys."""
    try:
        value = json.loads(line, parse_float=str)
        right = isinstance(value, dict) and canonical(value) == line and sorted(value) == keys.split()
    except (ValueError, RecursionError):
        right = False
    if not right: raise Wrong(file, number, line.decode(errors="replace"), f"in canonical form (RFC 8785), of the keys {keys}")
    return value


class Key:
    """``NAME+KEY ID in hex+BASE64(1, public key)``, the id the first bytes of the key's hash."""

    def __init__(self, line: int, vkey: str) -> None:
        self.vkey, (self.name, _, rest) = vkey, vkey.partition("+")
        try:
            data = base64.b64decode(rest[9:], validate=True)
        except ValueError:
            data = b""
        self.id, self.public = sha256(self.name.encode() + b"\n" + data).digest()[:4], data[1:]
        right = data[:1] == b"\1" and len(data) == 33 and vkey == f"{self.name}+{self.id.hex()}+{base64.b64encode(data).decode()}"
        if not right: raise Wrong("log/keys.jsonl", line, vkey, "a verifier key (NAME+ID+BASE64) of Ed25519")


def opened(file: str, line: int | None, note: str, keys: list[Key], *, strict: bool = False) -> str:
    """The text of a signed note that one of the keys signed, and none of them wrongly; strictly: nobody else either."""
    text, _, signatures = note.rpartition("\n\n")
    if not re.fullmatch(r"(?:— \S+ [A-Za-z0-9+/]{8,}={0,2}\n)+", signatures): raise Wrong(file, line, repr(note), "a signed note")
    signers, must = 0, "signed by " + " or ".join(key.vkey for key in keys)
    for name, value in (signature.split(" ")[1:] for signature in signatures.splitlines()):
        data = base64.b64decode(value + "==")
        key = next((key for key in keys if (key.name, key.id) == (name, data[:4])), None)
        if base64.b64encode(data).decode() != value or (strict and not key): raise Wrong(file, line, f"signed — {name} {value}", must)
        if key:
            try:
                Ed25519PublicKey.from_public_bytes(key.public).verify(data[4:], f"{text}\n".encode())
            except (InvalidSignature, ValueError):
                raise Wrong(file, line, f"a signature that is not that of {key.vkey}", must) from None
            signers += 1
    if not signers: raise Wrong(file, line, repr(signatures), must)
    return f"{text}\n"


def checkpoint(file: str, line: int | None, note: str, keys: list[Key], origin: str, size: int) -> bytes:
    """The root that a checkpoint states for this size of this log."""
    text = opened(file, line, note, keys)
    match = re.fullmatch(re.escape(f"{origin}\n{size}\n") + r"([A-Za-z0-9+/]{43}=)\n", text)
    if not match: raise Wrong(file, line, repr(text), f"a checkpoint of {size} leaves of {origin}")
    return base64.b64decode(match[1])


class Lines:
    """The lines of a file, one after the other; ``number``: of the last one read."""

    def __init__(self, pack: Pack, name: str) -> None:
        self.name, self.number = name, 0
        self.buffer = pack.stack.enter_context(io.BufferedReader(pack.open(name), 1 << 17))
        self.form = pattern(FORMS[name], canonical(pack.manifest["book"]).decode()).fullmatch

    def next(self, must: str = "another line") -> bytes:
        line = self.buffer.readline(1 << 22)
        self.number += 1
        if line[-1:] != b"\n": raise self.wrong(repr(line) if line else "nothing: the file ends", must)
        return line[:-1]

    def take(self) -> tuple[bytes, tuple[Any, ...]]:
        """The next line and the parts of its form."""
        line = self.next()
        try:
            match = self.form(line.decode())
        except UnicodeDecodeError:
            match = None
        if match is None: raise self.wrong(line.decode(errors="replace"), f"a line of {self.name} in canonical form (RFC 8785)")
        return line, match.groups()

    def all(self) -> Iterator[tuple[bytes, tuple[Any, ...]]]:
        while self.buffer.peek(1):
            yield self.take()

    def compare(self, must: bytes) -> None:
        if (says := self.next(must.decode())) != must: raise self.wrong(says.decode(errors="replace"), must.decode())

    def end(self) -> None:
        if self.buffer.peek(1): raise self.wrong(self.next().decode(errors="replace"), "no line: the file ends before it")

    def wrong(self, says: object, must: object) -> Wrong:
        return Wrong(self.name, self.number, says, must)


class Pack:
    """The container, its manifest and keys: the files that were signed and no others."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.stack, self.path, self.zip, self.digest, self.comment, self.files = stack, path, None, "", "", dict[str, Any]()
        self.manifest: dict[str, Any] = {}
        if path.is_dir():
            found = [file for file in path.rglob("*") if file.is_symlink() or not file.is_dir()]
            self.names = [file.relative_to(path).as_posix() for file in found]
            for file in found:
                if file.is_symlink() or not file.is_file(): raise Wrong(str(file), None, "a link or a device", "a plain file")
        else:
            self.open_zip()
        self.open_manifest()

    def open_zip(self) -> None:
        """Every byte before the zip's comment is what the comment's digest says."""
        file = io.BytesIO() if not self.path.stat().st_size else self.path.open("rb")
        with file:
            if file.read(24).startswith((b"age-encryption.org/", b"-----BEGIN AGE")):
                raise Unreadable(f"{self.path} is encrypted; decrypt it first: age --decrypt --output pack.zip {self.path}")
            size = file.seek(0, 2)
            start = file.seek(max(0, size - 66_000))
            tail = file.read()
            at = tail.rfind(b"PK\5\6") + 22
            whole = at >= 22 and at + int.from_bytes(tail[at - 2 : at], "little") == len(tail)
            if not whole: raise Wrong(self.path.name, None, "no end record, or one of another length", "a whole zip file")
            file.seek(0)
            digest, left = sha256(), start + at
            while left:
                left -= len(data := file.read(min(left, 1 << 20)))
                digest.update(data)
        self.digest, self.comment = digest.hexdigest(), tail[at:].decode(errors="replace")
        try:
            self.zip = self.stack.enter_context(zipfile.ZipFile(self.path))
            self.names = self.zip.namelist()
        except (*DAMAGED, OSError) as error:
            raise Wrong(self.path.name, None, f"damaged: {error}", "a whole zip file") from None
        if (says := self.comment.split("\n")[2:3]) != [self.digest]:
            try:
                self.open_manifest()
            except (*DAMAGED, OSError) as error:
                raise Wrong("manifest.json", None, f"damaged: {error}", "whole") from None
            raise self.altered() or Wrong(self.path.name, None, f"bytes of SHA-256 {self.digest}", f"{says}, as its comment says")

    def open_manifest(self) -> None:
        """The manifest in its form, and the files that it lists; its signature comes later."""
        keys = "book created_at files format from from_index origin root to to_index"
        found = self.manifest = parse("manifest.json", 1, self.read("manifest.json")[:-1], keys)
        begin, end, files = found["from_index"], found["to_index"], found["files"]
        right = found["format"] == "khata-pack/1" and type(begin) is type(end) is int and 0 <= begin <= end
        right = right and all(sorted(file) == ["bytes", "lines", "name", "sha256"] for file in files)
        self.files = {str(file["name"]): file for file in files} if right else {}
        right = right and [file["name"] for file in files] == sorted(self.files) and self.files.keys() >= NEEDED
        if not right: raise Wrong("manifest.json", 1, canonical(found).decode(), f"of a range of leaves, each file once: {sorted(NEEDED)}")
        for name in sorted({*self.names, *self.files} - {"manifest.json", "manifest.sig"}):
            if self.names.count(name) != 1 or name not in self.files:
                listed = "" if name in self.files else ", and not in the manifest"
                raise Wrong(name, None, f"there {self.names.count(name)} times{listed}", "there once, as in the manifest")

    def open(self, name: str) -> Any:
        if self.names.count(name) != 1: raise Wrong(name, None, f"there {self.names.count(name)} times", "there once")
        return self.zip.open(name) if self.zip else (self.path / name).open("rb", buffering=0)

    def read(self, name: str) -> bytes:
        """All of a small file."""
        with self.open(name) as file:
            return file.read(1 << 24)

    def altered(self, *names: str) -> Wrong | None:
        """The first of the files that is not the one in the manifest."""
        for name in names or self.files:
            digest, size, lines = sha256(), 0, 0
            try:
                with self.open(name) as file:
                    while data := file.read(1 << 18):
                        digest.update(data)
                        size, lines = size + len(data), lines + data.count(b"\n")
            except (*DAMAGED, OSError) as error:
                return Wrong(name, None, f"damaged: {error}", "whole")
            says = {"bytes": size, "lines": None if name.endswith(".parquet") else lines, "name": name, "sha256": digest.hexdigest()}
            if says != self.files[name]: return Wrong(name, None, canonical(says).decode(), canonical(self.files[name]).decode())
        return None

    def check_signatures(self, pinned: str | None, prior: Pack | None) -> None:
        """The keys hang together and one of them is vouched for; those from it on signed container and manifest."""
        origin, sig = self.manifest["origin"], self.read("manifest.sig").decode(errors="replace")
        digest = sha256(self.read("manifest.json")).hexdigest()
        if digest in sig and (wrong := self.altered("log/keys.jsonl")): raise wrong
        self.keys: list[Key] = []
        lines, since = Lines(self, "log/keys.jsonl"), ""
        for _, (endorsement, at, vkey) in lines.all():
            key, note = Key(lines.number, json.loads(vkey)), str(json.loads(endorsement))
            must = f"khata log key\n{key.name}\n{key.vkey}\n"
            text = opened(lines.name, lines.number, note, self.keys[-1:]) if self.keys else must
            right = text == must and key.name == (self.keys or [key])[0].name and at >= since
            if not right: raise lines.wrong(f"{key.vkey} from {at}, {text!r}", "a key of this log, later than the one before, which endorsed it")
            since = at
            self.keys.append(key)
        vkeys, trusted = [key.vkey for key in self.keys], self.keys
        self.vouched = f"the keys of {prior.path.name}" if prior else "nobody: no key was pinned (--key), no earlier pack given (--prior)"
        if prior and vkeys[: len(prior.keys)] != (known := [key.vkey for key in prior.keys]):
            raise Wrong(lines.name, None, vkeys, f"{known} and those they endorsed, as in {prior.path.name}")
        if pinned:
            if pinned not in vkeys: raise Wrong(lines.name, None, vkeys, f"{pinned}, which was pinned, and those it endorsed")
            trusted, self.vouched = self.keys[vkeys.index(pinned) :], f"the pinned key {pinned}"
        text, must = opened("manifest.sig", None, sig, trusted, strict=True), f"khata pack\n{origin}\n{digest}\n"
        if text != must: raise Wrong("manifest.json", None, repr(text), repr(must))
        if trusted[0].name != origin: raise Wrong(lines.name, 1, trusted[0].name, f"{origin}, as in the manifest")
        if self.zip:
            text, must = opened(self.path.name, None, self.comment, trusted, strict=True), f"khata zip\n{origin}\n{self.digest}\n"
            if text != must: raise Wrong(self.path.name, None, repr(text), repr(must))
        note = self.read("log/checkpoint").decode(errors="replace")
        self.root = checkpoint("log/checkpoint", None, note, trusted, origin, self.manifest["to_index"])
        if self.root.hex() != self.manifest["root"]: raise Wrong("manifest.json", 1, self.manifest["root"], f"{self.root.hex()}, as the checkpoint")


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
        node = self.parts[-1] if self.parts else sha256().digest()
        for left in self.parts[-2::-1]:
            node = sha256(b"\1" + left + node).digest()
        return node


class Account:
    """``sign``: 1 of an account whose balance is on the debit side (assets, expenses), else -1. ``posted`` is signed by it."""

    __slots__ = ("id", "path", "currency", "floor", "sign", "status", "fact", "limits", "active", "guessed", "seq", "debits", "credits",
                 "posted", "incoming", "outgoing")

    def __init__(self, number: int, path: str, currency: str, floor: str) -> None:
        self.id, self.path, self.currency, self.sign = number, path, currency, 1 if path.startswith(("Assets:", "Expenses:")) else -1
        self.floor, self.status, self.fact, self.limits = None if floor == "null" else int(floor.strip('"')), "open", 1, dict[str, bool]()
        self.active = self.guessed = self.seq = self.debits = self.credits = self.posted = self.incoming = self.outgoing = 0

    def line(self, active: int) -> bytes:
        """As in trial_balance.jsonl."""
        debits, credits = (self.incoming, self.outgoing)[:: self.sign]
        floor = "null" if self.floor is None else f'"{self.floor}"'
        return (f'{{"account":"{self.path}","account_id":{self.id},"active_limits":{active},"currency":"{self.currency}","floor":{floor},'
                f'"pending_credits":"{credits}","pending_debits":"{debits}","posted_credits":"{self.credits}",'
                f'"posted_debits":"{self.debits}","seq":{self.seq},"status":"{self.status}"}}').encode()


class Hold:
    """Terms and sums, named as in holds.jsonl; ``expires``: the text of its JSON."""

    def __init__(self, *fields: str) -> None:
        captured, consumed, self.credit, self.currency, self.debit, expired, self.expires, held, self.id, released, tolerance = fields
        self.captured, self.consumed, self.expired, self.held, self.released = map(int, (captured, consumed, expired, held, released))
        self.tolerance = int(tolerance)

    def line(self) -> bytes:
        return (f'{{"captured":"{self.captured}","consumed":"{self.consumed}","credit":"{self.credit}","currency":"{self.currency}",'
                f'"debit":"{self.debit}","expired":"{self.expired}","expires_at":{self.expires},"held":"{self.held}","id":"{self.id}",'
                f'"released":"{self.released}","tolerance_bps":{self.tolerance}}}').encode()

    def left(self) -> int:
        return self.held - self.consumed - self.released - self.expired

    def capturable(self) -> int:
        """What was never given back, with the tolerance, less what was captured."""
        kept = self.held - self.released - self.expired
        return kept + kept * self.tolerance // 10_000 - self.captured


class Closes:
    """What each close must hash: net debits by account, in parts between the days of the closes to come."""

    def __init__(self, days: list[str]) -> None:
        self.waiting, self.days, self.lowest = days, sorted(set(days)), 0
        self.sums: list[dict[Account, int]] = [{} for _ in self.days]

    def add(self, day: str, account: Account, amount: int) -> None:
        part = max(self.lowest, bisect_left(self.days, day))
        if part < len(self.sums): self.sums[part][account] = self.sums[part].get(account, 0) + amount

    def hash(self, book: str, head: int, through: str) -> str:
        """Of the next close (ledger/periods.py); what no later one tells apart goes together afterwards."""
        total: dict[Account, int] = {}
        for part in self.sums[: bisect_left(self.days, through) + 1]:
            for account, amount in part.items():
                total[account] = total.get(account, 0) + amount
        text = canonical({"book": book, "head": head, "through": through}) + b"\n"
        for account in sorted((a for a in total if total[a]), key=lambda a: (a.path, a.currency)):
            sides = {"credit": str(max(-total[account], 0)), "debit": str(max(total[account], 0))}
            text += canonical({"account": account.path, "currency": account.currency} | sides) + b"\n"
        self.waiting.pop(0)
        before, self.lowest = self.lowest, bisect_left(self.days, min(self.waiting, default=""))
        for part in range(before, self.lowest):
            moved, self.sums[part] = self.sums[part], {}
            for account, amount in moved.items():
                self.add("", account, amount)
        return sha256(text).hexdigest()


class Seen:
    """Keyed hashes of texts that may come only once, in parts, so that looking for repetitions takes little memory."""

    def __init__(self) -> None:
        self.parts = [array("q") for _ in range(64)]

    def add(self, text: str) -> None:
        value = hash(text)
        self.parts[value & 63].append(value)

    def repeated(self) -> set[int]:
        once: set[int] = set()
        doubtful = (part for part in self.parts if len(set(part)) < len(part))
        return {value for part in doubtful for value in part if value in once or once.add(value)}


class Proof:
    """The bookkeeping of the range, done anew in the order of the log. Raises ``Wrong`` at the first line that lies."""

    def __init__(self, pack: Pack, prior: Pack | None) -> None:
        self.pack, self.prior, self.book = pack, prior, pack.manifest["book"]
        self.begin, self.end, self.origin = (pack.manifest[key] for key in ("from_index", "to_index", "origin"))
        self.lines = {name: Lines(pack, name) for name in FORMS if "." in name}
        self.journal, self.rows_file, self.act_file = (self.lines[name] for name in ("journal.jsonl", "lines.csv", "acts.jsonl"))
        self.accounts, self.by_id, self.holds = dict[tuple[str, str], Account](), list[Account](), dict[str, Hold]()
        self.acts: deque[tuple[int, int, dict[str, Any]]] = deque()  # not yet in force: line, the journal it comes after, act
        self.proposed: dict[str, tuple[str, Any]] = {}
        self.mirrors, self.sources, self.ids, self.placed = array("q"), Seen(), Seen(), Seen()
        self.first, self.last, self.opened, self.reversed_before = dict[str, int](), dict[str, int](), "", set[int]()
        self.clock = self.act_clock = self.day = self.closed = ""
        self.act_at, self.rows, self.days, self.proven, self.notes = 0, list[str](), set[str](), set[int](), list[str]()
        self.counts = dict.fromkeys(("postings", "holds", "reversals", "closes", "days"), 0)

    def run(self) -> None:
        self.read_log()
        self.read_opening()
        self.replay()
        self.read_closing()
        self.check_once()
        if wrong := self.pack.altered(): raise wrong
        if self.begin and not (self.prior and self.prior.manifest["to_index"] == self.begin):
            self.notes.append("what stood before the range is as signed: the earlier pack proves it (--prior)")
        if self.begin: self.notes.append("keys used, days closed and journals reversed before the range are not in it: a whole pack proves them")

    def read_log(self) -> None:
        """What the tree starts from, and what it must come to at which size."""
        (_, (hashes, size)), = self.lines["log/frontier.json"].all()
        self.tree = Tree(self.begin, [bytes.fromhex(part) for part in json.loads(hashes)])
        if int(size) != self.begin or len(self.tree.parts) != self.begin.bit_count():
            raise Wrong("log/frontier.json", 1, f"{len(self.tree.parts)} subtrees of {size} leaves", f"those of {self.begin}")
        lines, keys = self.lines["log/checkpoints.jsonl"], self.pack.keys
        self.roots = [(self.end, "log/checkpoint", None, self.pack.root)]
        if self.prior: self.roots.append((self.prior.manifest["to_index"], self.prior.path.name, None, self.prior.root))
        if self.begin:
            note = self.pack.read("log/prior").decode(errors="replace")
            self.roots.append((self.begin, "log/prior", None, checkpoint("log/prior", None, note, keys, self.origin, self.begin)))
        listed = self.begin - 1
        for _, (note, size) in lines.all():
            if not listed < int(size) <= self.end: raise lines.wrong(f"{size} leaves", f"more than {listed}, up to {self.end}")
            listed, root = int(size), checkpoint(lines.name, lines.number, json.loads(note), keys, self.origin, int(size))
            self.roots.append((int(size), lines.name, lines.number, root))
        self.sizes = {size for size, *_ in self.roots}
        self.check_roots()

    def check_roots(self) -> None:
        size, root = self.tree.size, self.tree.root() if self.tree.size in self.sizes else b""
        for at, file, line, must in self.roots if root else ():
            if at == size and must != root:
                where = ", ".join(f"{name} line {self.lines[name].number}" for name in SOURCES.values())
                raise Wrong(file, line, f"{size} leaves of the root {must.hex()}", f"{root.hex()}, by the lines up to {where}")
        self.proven.add(size)

    def read_opening(self) -> None:
        """What stood before the range, as stated; a whole log starts from nothing. What is pending is what open holds have left."""
        lines, left = self.lines["opening_holds.jsonl"], dict[tuple[str, str, int], int]()
        for line, groups in lines.all():
            hold = Hold(*groups)
            if hold.line() != line or hold.left() <= 0 or hold.id <= max(self.holds, default="") or not self.begin:
                raise lines.wrong(line.decode(), "an open hold, by id, if the range has a before")
            self.holds[hold.id] = hold
            for side, path in ((1, hold.debit), (-1, hold.credit)):
                left[path, hold.currency, side] = left.get((path, hold.currency, side), 0) + hold.left()
        lines = self.lines["opening.jsonl"]
        for line, (path, _, active, currency, floor, p_credits, p_debits, credits, debits, seq, status) in lines.all():
            account = Account(len(self.by_id) + 1, path, currency, floor)
            account.active, account.seq, account.status, account.fact = int(active), int(seq), status, 0
            account.debits, account.credits, account.posted = int(debits), int(credits), (int(debits) - int(credits)) * account.sign
            account.incoming, account.outgoing = (int(p_debits), int(p_credits))[:: account.sign]
            pending = [str(left.get((path, currency, side), 0)) for side in (1, -1)]
            if [p_debits, p_credits] != pending or account.line(account.active) != line or not self.begin:
                raise lines.wrong(line.decode(), f"account {account.id}, pending {pending}, if the range has a before")
            self.open_account(lines, account)

    def open_account(self, lines: Lines, account: Account) -> None:
        same = self.accounts.setdefault((account.path, account.currency), account)
        if same is not account: raise lines.wrong(f"{account.path} {account.currency}", f"another one: account {same.id} is that")
        self.by_id.append(account)

    def replay(self) -> None:
        """All leaves, run by run."""
        acts = Lines(self.pack, "acts.jsonl")
        closes = (json.loads(line) for line, _ in acts.all() if b'"action":"period_closed"' in line)
        self.closes = Closes([str(act["subject"]) for act in closes if act["action"] == "period_closed"])
        for account in self.by_id if self.closes.days else ():
            self.closes.add("", account, account.debits - account.credits)
        self.rows_file.compare(CSV_HEADER)
        take = {"account": self.take_account, "act": self.take_act}
        lines = self.lines["log/runs.jsonl"]
        for line, (count, index, first, source) in lines.all():
            known = len(self.by_id) if source == "account" else self.last.get(source, 0 if not self.begin else int(first) - 1)
            if (int(index), int(first)) != (self.tree.size, known + 1) or int(count) > self.end - self.tree.size:
                raise lines.wrong(line.decode(), f"the next leaves: index {self.tree.size} of {self.end}, {source} {known + 1}")
            self.first.setdefault(source, known + 1)
            if source == "journal":
                self.take_journals(known + 1, int(count))
            else:
                for number in range(known + 1, known + 1 + int(count)):
                    take[source](number)
            self.last[source] = known + int(count)
            self.check_roots()
        lines.number += 1
        if self.tree.size != self.end: raise lines.wrong(f"nothing: {self.tree.size} leaves", f"the run of leaf {self.tree.size}")
        for size, file, number, _ in self.roots:  # one inside a run was not come by
            if size not in self.proven: raise Wrong(file, number, f"{size} leaves", "at the end of a run")
        self.compare_rows()
        for name in (*SOURCES.values(), "lines.csv", "proposals.jsonl"):
            self.lines[name].end()

    def leaf(self, lines: Lines, line: bytes, at: str, clock: str) -> None:
        """Every leaf: the clock never goes back, nor the log to an earlier day; each day that has ended has its checkpoint."""
        if at < clock: raise lines.wrong(at, f"{clock} or later: the clock never goes back")
        if at[:10] != self.day:
            first, until = self.pack.manifest["from"] or "", self.pack.manifest["to"] or "9"
            if not max(first, self.day) <= at[:10] < until: raise lines.wrong(at, f"from {max(first, self.day)} to before {until}")
            if self.day and self.tree.size not in self.sizes:
                raise Wrong("log/checkpoints.jsonl", None, f"no checkpoint of {self.tree.size} leaves", f"one: {self.day} ends there")
            self.day, self.counts["days"] = at[:10], self.counts["days"] + 1
        self.tree.append(line)

    def take_account(self, number: int) -> None:
        lines = self.lines["accounts.jsonl"]
        line, (path, id_, currency, floor, at) = lines.take()
        if id_ != str(number): raise lines.wrong(f"account {id_}", number)
        self.leaf(lines, line, at, self.opened)
        self.opened = at
        self.open_account(lines, Account(number, path, currency, floor))

    def take_act(self, number: int) -> None:
        """Acts stand in the log before the journals that they hold for, and after those before them."""
        lines = self.act_file
        act = parse(lines.name, lines.number + 1, line := lines.next(), "act action book detail person reason recorded_at subject")
        if (act["act"], type(act["act"]), act["book"]) != (number, int, self.book): raise lines.wrong(line.decode(), f"act {number} of {self.book}")
        detail, time_, least = act["detail"], str(act["recorded_at"]), max(self.act_at, self.last.get("journal", 0))
        known = isinstance(detail, dict) and isinstance(act["subject"], str)
        at = detail.get("after", detail.get("head", None if act["action"] in PLACED else least)) if known else None
        if type(at) is not int or at < least: raise lines.wrong(f"after journal {at}", f"after {least} or later")
        if not re.fullmatch(WORDS["TIME"], time_, re.ASCII): raise lines.wrong(time_, "a time in UTC to the microsecond")
        self.leaf(lines, line, time_, self.act_clock)
        self.act_at, self.act_clock = at, time_
        if str(act["action"]).endswith("_proposed"):
            lines = self.lines["proposals.jsonl"]
            told = parse(lines.name, lines.number + 1, lines.next(f"proposal {act['subject']}, act {number}"), "act content id kind")
            says = [told["act"], sha256(canonical(told["content"])).hexdigest(), told["id"], told["kind"]]
            must = [number, detail.get("content_hash"), act["subject"], detail.get("kind")]
            if says != must: raise lines.wrong(says, must)
            self.proposed[str(act["subject"])] = (str(act["person"]), told["content"])
        self.acts.append((self.act_file.number, at, act))

    def apply(self, number: int, at: int, act: dict[str, Any], early: bool = False) -> None:
        """An act comes into force after journal ``at``; ``early``: not all up to there are in the pack, which ends before."""
        def check(right: object, says: object, must: object) -> None:
            if not right: raise Wrong("acts.jsonl", number, says, must)
        action, detail, subject, time_ = str(act["action"]), act["detail"], str(act["subject"]), act["recorded_at"]
        check(time_ >= self.clock, time_, f"{self.clock} or later, as journal {at}: the clock never goes back")
        self.clock = time_
        if action in ("change_account", "set_limit"):
            id_, fact = detail.get("account"), detail.get("fact")
            account = self.by_id[id_ - 1] if type(id_) is int and 0 < id_ <= len(self.by_id) else Account(0, "", "", "null")
            check(subject == f"{account.path} {account.currency}", f"account {id_}, {subject}", f"an account: {account.path} {account.currency}")
        if action == "change_account":
            floor, status, available = detail.get("floor"), detail.get("status"), account.posted - account.outgoing
            right = floor is None or (isinstance(floor, str) and re.fullmatch(r"0|-?[1-9]\d*", floor, re.ASCII))
            check(right and type(fact) is int, f"floor {floor!r}, fact {fact!r}", "an amount or null, a number")
            check(status in ("open", "frozen", "closed") and account.status != "closed", f"{status} after {account.status}", "no end or the last")
            check(fact == account.fact + 1 or not account.fact, f"fact {fact}", account.fact + 1)
            check(early or floor is None or int(floor) <= available, f"floor {floor}", f"at most {available}, which was available")
            empty = not (account.posted or account.incoming or account.outgoing)
            check(early or status != "closed" or empty, f"closed with {account.posted} posted", "closed when it is empty")
            account.floor, account.status, account.fact = None if floor is None else int(floor), str(status), int(fact)
        elif action == "set_limit":  # of one that was there before the range it is not known whether it was active
            name, active, known = detail.get("name"), detail.get("active") is True, detail.get("name") in account.limits or fact == 1
            account.active += (active - account.limits.get(name, False)) if known else 0
            account.guessed, account.limits[name] = account.guessed + (not known), active
        elif action == "period_closed" and not early:
            right = re.fullmatch(WORDS["TIME"], f"{subject}T00:00:00.000000Z", re.ASCII) and self.closed < subject < time_[:10]
            check(right, f"closed through {subject}", f"a day after {self.closed or 'none'} that was over on {time_[:10]}")
            says, self.closed, must = detail.get("trial_balance_hash"), subject, self.closes.hash(self.book, at, subject)
            check(says == must or self.begin, f"a trial balance of hash {says}", f"{must}, by the lines")
            self.counts["closes"] += says == must
            if says != must: self.notes.append(f"act {act['act']}: the trial balance it closed needs what was recorded before the range")
        elif action.endswith(("_approved", "_rejected")):
            person, content = self.proposed.pop(subject, ("", {}))
            check((person or self.begin) and person != act["person"], f"{action} {subject} by {act['person']}", f"proposed, by another than {person}")
            if action == "reopening_approved" and not early:
                through = (content.get("through") or "") if isinstance(content, dict) else ""
                check(through < self.closed or self.begin, f"closed through {through}", f"less than through {self.closed}")
                self.closed = through

    def take_journals(self, first: int, count: int) -> None:
        lines, accounts, rows, closes = self.journal, self.accounts, self.rows, self.closes
        for seq in range(first, first + count):
            line, (effective, hold, id_, metadata, text, recorded, requested, reverses, number, source) = lines.take()
            if number != str(seq): raise lines.wrong(f"seq {number}", seq)
            while self.acts and self.acts[0][1] < seq:
                self.apply(*self.acts.popleft())
            self.leaf(lines, line, recorded, self.clock)
            self.clock, day = recorded, effective[:10]
            self.sources.add(source)
            self.ids.add(id_)
            if day not in self.days or day <= self.closed or requested: self.check_day(day, requested, effective)
            if metadata and (keys := KEYS(metadata)) != sorted(set(keys)): raise lines.wrong(f"metadata {keys}", sorted(set(keys)))
            postings = POSTINGS(text)
            if reverses: self.reverse(seq, int(reverses), hold, postings)
            self.mirrors.append(0 if hold else hash(re.sub(r',"up_to":"\d+"', "", text) if '"up_to"' in text else text) | 2)
            if hold: self.use_hold(hold, recorded, postings)
            elif '"hold"' in text or '"pending"' in text: raise lines.wrong(text, "posted lines of no hold")
            for place, (amount_text, credit, currency, debit, of_hold, layer, up_to) in enumerate(postings, 1):
                d, c, amount = accounts.get((debit, currency)), accounts.get((credit, currency)), int(amount_text)
                if d is None or c is None or d.status != "open" or c.status != "open" or d is c or (amount < 0 and not of_hold):
                    self.check_accounts(d, c, amount, of_hold, f"{debit}, {credit} in {currency}")
                if layer == "posted":
                    if up_to: self.check_up_to(d, c, amount, int(up_to))
                    d.debits += amount
                    c.credits += amount
                    d.posted += amount * d.sign
                    c.posted -= amount * c.sign
                    if closes.waiting:
                        closes.add(day, d, amount)
                        closes.add(day, c, -amount)
                else:
                    if d.sign > 0: d.incoming += amount
                    else: d.outgoing += amount
                    if c.sign > 0: c.outgoing += amount
                    else: c.incoming += amount
                d.seq += 1
                c.seq += 1
                d_left, c_left = d.posted - d.outgoing, c.posted - c.outgoing
                for account, left in ((d, d_left), (c, c_left)):
                    if account.floor is not None and left < account.floor:
                        raise lines.wrong(f"{account.path} {account.currency} left with {left} by posting {place}", f"{account.floor} or more")
                rows.append(f"{seq},{place},debit,{debit},{currency},{layer},{amount_text},{d.seq},{d.posted},{d_left},{d.incoming}\n"
                            f"{seq},{place},credit,{credit},{currency},{layer},{amount_text},{c.seq},{c.posted},{c_left},{c.incoming}\n")
            if len(rows) >= BLOCK: self.compare_rows()

    def check_day(self, day: str, requested: str | None, effective: str) -> None:
        try:
            self.days.add(date.fromisoformat(day).isoformat())
        except ValueError:
            raise self.journal.wrong(day, "a day") from None
        if day <= self.closed: raise self.journal.wrong(f"effective on {day}", f"after {self.closed}: it was closed")
        if requested and (self.closed or not self.begin):
            opens = f"{date.fromisoformat(self.closed) + timedelta(days=1)}T00:00:00.000000Z" if self.closed else "asked: no day is closed"
            if effective != opens or requested[:10] > self.closed: raise self.journal.wrong(f"effective {effective}, asked {requested}", opens)

    def check_accounts(self, d: Account | None, c: Account | None, amount: int, of_hold: str, says: str) -> None:
        if d is None or c is None: raise self.journal.wrong(says, "accounts that were opened before, in their currency")
        if d is c or (amount < 0 and not of_hold): raise self.journal.wrong(f"{amount} on {says}", "more than nothing, between two accounts")
        for account in (d, c):
            if account.status == "closed" or (account.status == "frozen" and amount > 0):
                raise self.journal.wrong(f"{amount} on {says}", f"open accounts: {account.path} is {account.status}")

    def check_up_to(self, d: Account, c: Account, amount: int, asked: int) -> None:
        falling = [account for account, sign in ((d, -1), (c, 1)) if account.sign == sign]
        must = min([asked, *(account.posted - account.outgoing - (account.floor or 0) for account in falling)])
        if amount != must: raise self.journal.wrong(f"{amount} of up to {asked}", f"{must}, as was available")

    def reverse(self, seq: int, of: int, hold: str | None, postings: list[tuple[str, ...]]) -> None:
        """The mirror image of one earlier journal without a hold, the last posting first; and the only one."""
        place, mirror = of - self.first["journal"], ",".join(MIRROR.format(*posting) for posting in reversed(postings))
        kept = 1 if of in self.reversed_before else hash(mirror) | 2 if place < 0 else self.mirrors[place] if of < seq else 0
        if kept in (0, 1) or hold: raise self.journal.wrong(f"reverses {of}", "an earlier journal without a hold, not reversed before")
        if kept != hash(mirror) | 2 or any(p[6] for p in postings): raise self.journal.wrong(f"reverses {of}: {postings}", "its mirror image")
        if place < 0: self.reversed_before.add(of)
        else: self.mirrors[place] = 1
        self.counts["reversals"] += 1

    def use_hold(self, text: str, recorded: str, postings: list[tuple[str, ...]]) -> None:
        """The journal's first lines are what the action makes of the hold, by its terms and what is left of it; the others are its own."""
        action = text[11 : text.find('"', 11)]
        match = ASKS[action](text) if action in ASKS else None
        if match is None: raise self.journal.wrong(text, "what a hold can be asked, with its terms, in canonical form")
        asks = json.loads(text)
        amount, hold = int(asks.get("amount") or 0), self.holds.get(asks["id"])
        if action == "place":
            if hold: raise self.journal.wrong(f"places {hold.id}", "another hold: this one is there")
            hold = self.holds[asks["id"]] = Hold(
                "0", "0", asks["credit"], asks["currency"], asks["debit"], "0", match[1], "0", asks["id"], "0", asks["tolerance_bps"])
            self.placed.add(hold.id)
            self.counts["holds"] += 1
        if hold is None: raise self.journal.wrong(f"{action} of {asks['id']}", "a hold that was placed and has not ended")
        over = hold.expires != "null" and recorded >= hold.expires.strip('"')
        if action != "release" and over != (action == "expire"):
            raise self.journal.wrong(f"{action} at {recorded}", f"expire from {hold.expires} on, and nothing but a release besides")
        left, capturable, made = hold.left(), hold.capturable(), [(-amount, action)]
        if action in ("place", "increase"):
            hold.held, made = hold.held + amount, [(amount, action)]
        elif action == "capture":
            used = min(amount, left)
            hold.consumed, hold.captured, made = hold.consumed + used, hold.captured + amount, [(-used, action)]
            if asks["final"] and left > used: hold.released, made = hold.released + left - used, [*made, (used - left, "release")]
        else:
            amount = amount or left
            made = [(-amount, action)]
            if action == "release": hold.released += amount
            else: hold.expired += amount
        must = [(str(value), hold.credit, hold.currency, hold.debit, what, "pending", "") for value, what in made]
        if action == "capture":
            must.append((str(amount), asks["credit"] or hold.credit, hold.currency, asks["debit"] or hold.debit, action, "posted", ""))
        if (action == "capture" and amount > capturable) or hold.left() < 0:
            raise self.journal.wrong(f"{action} of {amount}", f"at most {capturable if action == 'capture' else left}: no more was left")
        if postings[: len(must)] != must or any(p[4] or p[5] == "pending" for p in postings[len(must) :]):
            raise self.journal.wrong(f"{action} of {hold.id} by {postings}", f"{must}, then posted lines of its own")
        if not hold.left(): del self.holds[hold.id]

    def compare_rows(self) -> None:
        """What was made of the lines so far against lines.csv; where it differs, line by line."""
        lines, made = self.rows_file, "".join(self.rows).encode()
        if lines.buffer.read(len(made)) != made:
            again = Lines(self.pack, "lines.csv")
            for _ in range(lines.number):
                again.next()
            for row in made.splitlines():
                again.compare(row)
        lines.number += 2 * len(self.rows)
        self.counts["postings"] += len(self.rows)
        self.rows.clear()

    def read_closing(self) -> None:
        """What stands after the range, from what was done anew."""
        for act in self.acts:
            self.apply(*act, early=True)
        lines, holds = self.lines["trial_balance.jsonl"], self.lines["holds.jsonl"]
        for account in self.by_id:
            stated = re.match(rb'.*"active_limits":(\d{1,9}),', lines.buffer.peek(1 << 12)[:400]) if account.guessed else None
            guess = int(stated[1]) if stated else account.active
            lines.compare(account.line(guess if abs(guess - account.active) <= account.guessed else account.active))
        for id_ in sorted(self.holds):
            holds.compare(self.holds[id_].line())
        lines.end()
        holds.end()

    def check_once(self) -> None:
        """What looked repeated is read again: two texts may have one hash."""
        doubtful = self.ids.repeated() | self.sources.repeated() | self.placed.repeated()
        lines, seen = Lines(self.pack, "journal.jsonl"), dict[str, int]()
        for _, groups in lines.all() if doubtful else ():
            placed = [json.loads(groups[1])["id"]] if groups[1] and '"place"' in groups[1] else []
            for what, text in [("id", groups[2]), ("source", groups[9]), *(("hold", id_) for id_ in placed)]:
                before = seen.setdefault(f"{what} {text}", lines.number) if hash(text) in doubtful else lines.number
                if before != lines.number: raise lines.wrong(f"{what} {text}", f"another one: line {before} has it")


ASKS = {action: pattern(FORMS[action]).fullmatch for action in ("place", "increase", "capture", "release", "expire")}
PROVEN = """container and manifest: {files} files and nothing else, every byte signed
log: {leaves} leaves, {to_index} in all, of the root {root}
checkpoints: {checkpoints}, each signed and of that size; each of {days} days ends at one
journals: {journals} in canonical form and order, {postings} postings, each a debit and a credit of open accounts
balances: {rows} running ones as stored, no floor broken; those of {accounts} accounts at the end
holds: {holds} placed, none captured over its ceiling or out of its time; {open_holds} open
reversals: {reversals} mirror images; source keys, ids and holds come once
periods: {closes} closes with the trial balance that they hashed, nothing counts on a closed day; {acts} acts in order"""


def prove(args: argparse.Namespace, stack: ExitStack, told: dict[str, Any]) -> None:
    """Fills in what there is to tell. Raises ``Wrong`` and ``Unreadable``."""
    pack, prior, proof = None, None, None
    try:
        pack = Pack(args.pack, stack)
        told |= {key: pack.manifest[key] for key in ("book", "origin", "root", "from", "to", "from_index", "to_index")}
        if args.prior:
            try:
                prior = Pack(args.prior, stack)
                prior.check_signatures(None, None)
            except Wrong as wrong:
                raise Wrong(f"{args.prior.name}: {wrong.report['file']}", *list(wrong.report.values())[1:]) from None
        pack.check_signatures(args.key, prior)
        if prior:
            begin, size, end = told["from_index"], prior.manifest["to_index"], told["to_index"]
            if not begin <= size <= end: raise Wrong("manifest.json", 1, f"leaves {begin} to {end}", f"from {size}, where {prior.path.name} ends")
            for mine, its in (("opening.jsonl", "trial_balance.jsonl"), ("opening_holds.jsonl", "holds.jsonl")):
                if size == begin and (says := pack.files[mine]["sha256"]) != (must := prior.files[its]["sha256"]):
                    raise Wrong(mine, None, f"SHA-256 {says}", f"{must}, that of {its} of {prior.path.name}")
        proof = Proof(pack, prior)
        proof.run()
    except Wrong as wrong:  # a line may look wrong because another file was changed: that one is named
        altered = pack.altered() if pack and hasattr(pack, "root") else None
        raise altered if altered and altered.report["file"] != wrong.report["file"] else wrong from None
    except DAMAGED as error:
        raise (pack.altered() if pack else None) or Wrong(args.pack.name, None, f"damaged: {error!r}", "whole") from None
    except OSError as error:
        raise Unreadable(f"{error.filename or args.pack}: {error.strerror or error}") from None
    done = {f"{source}s": proof.last.get(source, 0) - proof.first.get(source, 1) + 1 for source in ("journal", "act")}
    counts = {"files": len(pack.files), "leaves": proof.end - proof.begin, "checkpoints": len(proof.sizes), "accounts": len(proof.by_id)}
    counts |= {"rows": 2 * proof.counts["postings"], "open_holds": len(proof.holds)}
    told |= {"vouched_by": pack.vouched, "proven": proof.counts | done | counts, "not_proven": proof.notes, "verdict": "right"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Proves an audit pack of Khata.", epilog="Example: khata_verify.py pack.zip --key VKEY")
    parser.add_argument("pack", type=Path, help="a zip, or a directory")
    parser.add_argument("--key", metavar="VKEY", help="a key of the log, as known from elsewhere")
    parser.add_argument("--prior", type=Path, metavar="PACK", help="an earlier pack of the same log, as kept by you")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    args, started = parser.parse_args(argv), time.perf_counter()
    told: dict[str, Any] = {"pack": str(args.pack), "verdict": "wrong", "wrong": None}
    try:
        with ExitStack() as stack:
            prove(args, stack, told)
    except Unreadable as error:
        print(error, file=sys.stderr)
        return 2
    except Wrong as wrong:
        told["wrong"], text = wrong.report, f"WRONG  {args.pack}\n  {wrong}"
    else:
        lines = [*(f"  proven  {line}" for line in PROVEN.format(**told, **told["proven"]).splitlines()),
                 *(f"  not proven  {note}" for note in told["not_proven"]), f"  vouched for by {told['vouched_by']}"]
        text = f"Book {told['book']} of the log {told['origin']}, from leaf {told['from_index']}\n" + "\n".join(lines) + f"\nRIGHT  {args.pack}"
    told["seconds"] = round(time.perf_counter() - started, 3)
    print(json.dumps(told, indent=2, ensure_ascii=False) if args.json else f"{text} ({told['seconds']} s)")
    return 1 if told["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
