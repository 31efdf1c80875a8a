#!/usr/bin/env python3
"""Proves an audit pack of Khata (docs/pack.md) without Khata, its database or a word of its operator.

    python khata_verify.py pack.zip --key VKEY [--prior earlier.zip] [--json]

It needs Python 3.11 and `cryptography` (for Ed25519). It reads each line once, in the order in which the log took it, does the
bookkeeping anew and compares what comes out with what the pack says. Memory: one object an account and an open hold, and 24 to 32 bytes a
journal (keyed 64-bit hashes of what may come only once: what looks like a repetition is read again before it is called one).
Exit codes: 0 all is right; 1 something is wrong, and the first wrong line is named; 2 it could not be read.
"""
from __future__ import annotations

import argparse, array, base64, contextlib, functools, io, json, re, sys, zipfile
from collections import Counter, deque
from datetime import date
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# What lines look like, and no other way: RFC 8785 (JCS) leaves one form for each content. A word in capitals stands for its pattern.
WORDS = {
    "TEXT": r'"(?:[^"\\\x00-\x1f\ud800-\udfff]+|\\(?:["\\bfnrt]|u00(?:0[0-7bef]|1[0-9a-f])))*+"', "CURRENCY": "[A-Z]{3}",
    "TIME": r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z", "WORD": "[a-z][a-z0-9_]{0,39}",
    "UUID": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID": r'(?:[!#-\[\]-~]|\\["\\]){1,64}', "PAIR": r'"([a-z][a-z0-9_.]{0,39})":TEXT',
    "PATH": r"(?:Assets|Liabilities|Equity|Income|Expenses)(?::[A-Za-z0-9][A-Za-z0-9_-]{0,63}){1,7}+", "POSITIVE": r"[1-9]\d*+",
    "NATURAL": r"(?:0|[1-9]\d*+)", "FLOOR": r'(?:null|"(?:0|-?[1-9]\d*+)")', "BPS": r"(?:0|[1-9]\d{0,3}|10000)", "END": '(?:null|"TIME")',
    "POSTING": r'{"amount":"(-?POSITIVE)","credit":"(PATH)","currency":"(CURRENCY)","debit":"(PATH)"'
    r'(?:,"hold":"(place|increase|capture|release|expire)")?,"layer":"(posted|pending)"(?:,"up_to":"(POSITIVE)")?}',
}
BALANCE = (r'{"account":"PATH","account_id":POSITIVE,"active_limits":NATURAL,"currency":"CURRENCY","floor":FLOOR,(?:"p[a-z_]+":"NATURAL",){4}'
           r'"seq":NATURAL,"status":"(?:open|frozen|closed)"}')
OPEN_HOLD = (r'{(?:"c[a-z]+":"NATURAL",){2}"credit":"PATH","currency":"CURRENCY","debit":"PATH","expired":"NATURAL","expires_at":END,'
             r'"held":"POSITIVE","id":"UUID","released":"NATURAL","tolerance_bps":BPS}')
FORMS = {
    "journal.jsonl": r'{"book":BOOK,"description":TEXT,"effective_at":"(TIME)",(?:"hold":({[^{}]*+}),)?"id":"(UUID)","kind":"WORD",'
    r'"metadata":{((?:PAIR(?:,PAIR)*+)?)},"postings":\[(POSTING(?:,POSTING)*+)\],"recorded_at":"(TIME)"'
    r'(?:,"requested_effective_at":"TIME")?(?:,"reverses":(POSITIVE))?,"seq":(POSITIVE),"source":({"event":"WORD","id":"ID","type":"WORD"})}',
    "accounts.jsonl": r'{"account":"PATH","account_id":POSITIVE,"book":BOOK,"currency":"CURRENCY","floor":FLOOR,"opened_at":"TIME",'
    r'"owner":(?:null|TEXT)}', "proposals.jsonl": '{"act":POSITIVE,"content":{.*},"id":TEXT,"kind":TEXT}', "lines.csv": ".*",
    "acts.jsonl": r'{"act":POSITIVE,"action":"WORD","book":BOOK,"detail":{.*},"person":TEXT,"reason":(?:null|TEXT),"recorded_at":"TIME",'
    r'"subject":TEXT}', "opening.jsonl": BALANCE, "trial_balance.jsonl": BALANCE, "opening_holds.jsonl": OPEN_HOLD, "holds.jsonl": OPEN_HOLD,
    "log/runs.jsonl": '{"count":POSITIVE,"first_index":NATURAL,"first_number":POSITIVE,"source":"(?:account|act|journal)"}',
    "log/frontier.json": r'{"hashes":\[(?:"[0-9a-f]{64}",?)*+\],"size":NATURAL}', "log/checkpoints.jsonl": '{"note":TEXT,"size":NATURAL}',
    "log/keys.jsonl": '{"endorsement":(?:null|TEXT),"from":"TIME","until":END,"vkey":TEXT}',
}
HOLD = (r'{"action":"(?:place","amount":"POSITIVE","credit":"PATH","currency":"CURRENCY","debit":"PATH","expires_at":END,"id":"UUID",'
        r'"tolerance_bps":BPS|increase","amount":"POSITIVE","id":"UUID"|release","amount":(?:null|"POSITIVE"),"id":"UUID"|expire","id":"UUID"|'
        r'capture","amount":"POSITIVE","credit":(?:null|"PATH"),"debit":(?:null|"PATH"),"final":(?:true|false),"id":"UUID")}')
CHANGE = r'{"account":POSITIVE,"after":(?:0|POSITIVE),"fact":POSITIVE,"floor":FLOOR,"status":"(?:open|frozen|closed)"}'
SOURCES = {"account": "accounts.jsonl", "act": "acts.jsonl", "journal": "journal.jsonl"}
SUMS, SIDES = ("posted_debits", "posted_credits", "pending_debits", "pending_credits"), ("debit", "credit")
USES, NEWLINE = ("captured", "consumed", "expired", "held", "released"), b"\n"
COUNTED = ("accounts", "acts", "journals", "rows", "holds", "reversals", "closes", "days")

class Wrong(Exception):
    """``line`` of ``file`` says what it must not."""
    def __init__(self, file: str, line: int | None, says: object, wanted: object) -> None:
        texts = [text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in (says, wanted, file)]
        texts = ["".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:400]) for text in texts]
        self.report: dict[str, Any] = {"file": texts[2], "line": line, "says": texts[0], "must": texts[1]}

def must(right: object, file: str, line: int | None, says: object, wanted: object) -> None:
    if not right: raise Wrong(file, line, says, wanted)

def canonical(value: Any) -> bytes:
    """RFC 8785 of what a pack holds: no number but integers, and keys in ASCII."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode()

@functools.cache
def pattern(form: str, book: str = "") -> re.Pattern[str]:
    """The pattern that a form stands for; of the forms inside it, the groups are dropped."""
    inner = {word: re.sub(r"(?<!\\)\((?!\?)", "(?:", text) for word, text in WORDS.items()} | {"BOOK": re.escape(book)}
    for _ in range(3):
        form = re.sub("[A-Z]{2,}", lambda word: inner.get(word[0], word[0]), form)
    return re.compile(form, re.ASCII | re.DOTALL)

POSTINGS, KEYS = pattern(WORDS["POSTING"]).findall, pattern(WORDS["PAIR"]).findall

def opened(file: str, line: int | None, note: str, vkeys: list[str], others: list[str] | None = None) -> str:
    """The text of a signed note that one of the keys signed, and none of them wrongly; if others are given, nobody but they besides."""
    text, _, signatures = note.rpartition("\n\n")
    must(re.fullmatch(r"(?:— \S+ [A-Za-z0-9+/]{8,}={0,2}\n)+", signatures), file, line, repr(note), "a signed note")
    signers, wanted = 0, "signed by " + " or ".join(vkeys)
    for name, value in (signature.split(" ")[1:] for signature in signatures.splitlines()):
        data = base64.b64decode(value + "==")
        vkey = next((vkey for vkey in (*vkeys, *(others or ())) if vkey.startswith(f"{name}+{data[:4].hex()}+")), None)
        must(base64.b64encode(data).decode() == value and (vkey or others is None), file, line, f"signed — {name} {value}", wanted)
        if not vkey: continue
        try:
            Ed25519PublicKey.from_public_bytes(base64.b64decode(vkey[-44:])[1:]).verify(data[4:], f"{text}\n".encode())
        except (InvalidSignature, ValueError):
            raise Wrong(file, line, f"a signature that is not that of {vkey}", wanted) from None
        signers += vkey in vkeys
    must(signers, file, line, repr(signatures), wanted)
    return f"{text}\n"

class Lines:
    """The lines of a file, one after the other; ``number``: of the last one read."""
    def __init__(self, pack: Pack, name: str) -> None:
        self.name, self.number, self.fits = name, 0, pattern(FORMS[name], canonical(pack.manifest["book"]).decode()).fullmatch
        self.buffer = pack.stack.enter_context(io.BufferedReader(pack.open(name), 1 << 17))
    def must(self, right: object, says: object, wanted: object) -> None:
        if not right: raise Wrong(self.name, self.number, says, wanted)
    def next(self, wanted: object = "another line") -> bytes:
        line, self.number = self.buffer.readline(1 << 22), self.number + 1
        Pack.at = (self.name, self.number)
        if line[-1:] != b"\n": self.must(False, repr(line) if line else "nothing: the file ends", wanted)
        return line[:-1]
    def match(self) -> tuple[bytes, re.Match[str]]:
        """The next line and how it fits its form."""
        line = self.next()
        match = self.fits(line.decode(errors="surrogateescape"))
        if match is None: raise Wrong(self.name, self.number, line, f"a line of {self.name} in canonical form (RFC 8785)")
        return line, match
    def take(self) -> tuple[bytes, dict[str, Any]]:
        """The next line and the object in it."""
        line, match = self.match()
        value: dict[str, Any] = json.loads(match[0], parse_float=str)
        self.must(canonical(value) == line, line, canonical(value))
        return line, value
    def all(self) -> Any:
        while self.buffer.peek(1):
            yield self.take()
    def compare(self, wanted: bytes) -> None:
        if (says := self.next(wanted)) != wanted: self.must(False, says, wanted)
    def end(self) -> None:
        if self.buffer.peek(1): self.must(False, self.next(), "no line: the file ends before it")

class Pack:
    """The container and what a trusted key signed: the keys, the manifest, the files that it lists as they are, and no others."""
    now, at = Path(), ("", 0)  # of all packs: which is being read, and at which file and line
    def __init__(self, path: Path, stack: contextlib.ExitStack, pinned: str | None, prior: Pack | None) -> None:
        self.path, self.stack, self.zip, Pack.now, Pack.at = path, stack, None, path, (path.name, None)
        if path.is_dir():
            found = [file for file in path.rglob("*") if file.is_symlink() or not file.is_dir()]
            self.names = Counter(file.relative_to(path).as_posix() for file in found)
            for file in found:
                must(file.is_file() and not file.is_symlink(), str(file), None, "a link or a device", "a plain file")
        else:
            with path.open("rb") as file:
                if file.read(24).startswith((b"age-encryption.org/", b"-----BEGIN AGE")):
                    raise OSError(0, f"encrypted; decrypt it first: age --decrypt --output pack.zip {path}", path)
            self.zip = stack.enter_context(zipfile.ZipFile(path))
            self.names = Counter(self.zip.namelist())
        text = self.read("manifest.json")
        self.manifest = json.loads(text)
        self.origin, self.begin, self.end, files = (self.manifest[name] for name in ("origin", "from_index", "to_index", "files"))
        self.files = {file["name"]: file for file in files}
        right = canonical(self.manifest) + NEWLINE == text and self.manifest["format"] == "khata-pack/1" and list(self.files) == sorted(self.files)
        right = right and len(self.files) == len(files) and type(self.begin) is type(self.end) is int and 0 <= self.begin <= self.end
        must(right, "manifest.json", 1, text, "canonical JSON (RFC 8785) of khata-pack/1, of a range of leaves, each file once, by name")
        self.read_keys(pinned, prior)
        self.check_note("manifest.sig", self.read("manifest.sig"), f"khata pack\n{self.origin}\n{sha256(text).hexdigest()}\n", "manifest.json")
        must(self.vkeys[0].startswith(f"{self.origin}+"), "log/keys.jsonl", 1, self.vkeys[0], f"a key of {self.origin}, as in the manifest")
        for name in sorted({*self.names, *self.files, *FORMS, "log/checkpoint"} - {"manifest.json", "manifest.sig"}):
            says = f"there {self.names[name]} times, {'' if name in self.files else 'not '}in the manifest"
            must(self.names[name] == 1 and name in self.files, name, None, says, "there once, as in the manifest")
        for name, listed in self.files.items():
            with self.open(name) as file:
                says = file_digest(file, "sha256").hexdigest()
            must(says == listed["sha256"], name, None, f"SHA-256 {says}", f"{listed['sha256']}, as in the manifest")
        self.check_container()
        if prior: self.check_prior(prior)
    def open(self, name: str) -> Any:
        must(self.names[name] == 1, name, None, f"there {self.names[name]} times", "there once")
        Pack.at = (name, None)
        return self.zip.open(name) if self.zip else (self.path / name).open("rb", buffering=0)
    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read(1 << 24)
    def read_keys(self, pinned: str | None, prior: Pack | None) -> None:
        """Each key was endorsed by the one before; trusted are the pinned one and those after it."""
        lines, vkeys, since, known = Lines(self, "log/keys.jsonl"), list[str](), "", prior.vkeys if prior else []
        for _, said in lines.all():
            vkey, data, name = said["vkey"], base64.b64decode(said["vkey"][-44:]), said["vkey"].split("+")[0]
            text = wanted = f"khata log key\n{name}\n{vkey}\n"
            if vkeys: text = opened(lines.name, lines.number, str(said["endorsement"]), vkeys[-1:])
            right = vkey[:-44] == f"{name}+{sha256(name.encode() + NEWLINE + data).digest()[:4].hex()}+" and data[0] == 1 and len(data) == 33
            right = right and text == wanted and said["from"] >= since and all(vkey.startswith(f"{name}+") for vkey in vkeys)
            lines.must(right, f"{vkey} from {said['from']}, {text!r}", f"a later key of the log {name}, endorsed by the one before")
            vkeys, since = [*vkeys, vkey], said["from"]
        must(vkeys[: len(known)] == known, lines.name, None, vkeys, f"{known} and those that they endorsed, as in the earlier pack")
        must(not pinned or pinned in vkeys, lines.name, None, vkeys, f"{pinned}, which was pinned, and those it endorsed")
        self.vkeys, self.trusted = vkeys, vkeys[vkeys.index(pinned) :] if pinned else vkeys
        self.vouched = f"the keys of {prior.path.name}" if prior else "nobody: neither --key nor --prior was given"
        if pinned: self.vouched = f"the pinned key {pinned}"
    def check_note(self, file: str, note: bytes, wanted: str, of: str) -> None:
        text = opened(file, None, note.decode(errors="replace"), self.trusted, self.vkeys)
        must(text == wanted, of, None, repr(text), repr(wanted))
    def check_container(self) -> None:
        """Every byte of a zip before its comment was signed in the comment; and the checkpoint is the manifest's."""
        if self.zip:
            digest, left = sha256(), self.path.stat().st_size - len(self.zip.comment)
            with self.path.open("rb") as file:
                while data := file.read(min(left, 1 << 20)):
                    digest.update(data)
                    left -= len(data)
                must(file.read() == self.zip.comment, self.path.name, None, "bytes after its end", "a whole zip")
            self.check_note(self.path.name, self.zip.comment, f"khata zip\n{self.origin}\n{digest.hexdigest()}\n", self.path.name)
        self.root = self.checkpoint("log/checkpoint", None, self.read("log/checkpoint").decode(), self.end, self.vkeys)
        must(self.root.hex() == self.manifest["root"], "manifest.json", 1, self.manifest["root"], f"{self.root.hex()}, as log/checkpoint")
    def check_prior(self, prior: Pack) -> None:
        """It ends within the range; where it begins, what it closed with is what this one opens with."""
        must(self.begin <= prior.end <= self.end, "manifest.json", 1, f"leaves {self.begin} to {self.end}", f"from {prior.end}, its prior's end")
        for mine, its in (("opening.jsonl", "trial_balance.jsonl"), ("opening_holds.jsonl", "holds.jsonl")):
            says, wanted = self.files[mine]["sha256"], prior.files[its]["sha256"]
            must(prior.end > self.begin or says == wanted, mine, None, says, f"{wanted}, that of {its} of the earlier pack")
    def checkpoint(self, file: str, line: int | None, note: str, size: int, vkeys: list[str]) -> bytes:
        """The root that a checkpoint states for this size of this log."""
        text = opened(file, line, note, vkeys)
        match = re.fullmatch(re.escape(f"{self.origin}\n{size}\n") + r"([A-Za-z0-9+/]{43}=)\n", text)
        must(match, file, line, repr(text), f"a checkpoint of {size} leaves of {self.origin}")
        return base64.b64decode(match[1] if match else b"")

class Account:
    """``sums``: posted debits and credits, pending ones; ``normal``: which side its balance is on, 0 debit (assets, expenses), 1 credit."""
    __slots__ = ("id", "path", "currency", "floor", "status", "fact", "opened", "seq", "sums", "normal")
    def __init__(self, number: int, said: dict[str, Any]) -> None:
        self.id, self.path, self.currency, self.floor = number, said["account"], said["currency"], said["floor"] and int(said["floor"])
        self.status, self.seq, self.sums = said.get("status", "open"), said.get("seq", 0), [int(said.get(name, 0)) for name in SUMS]
        self.fact, self.opened, self.normal = "seq" not in said, said.get("opened_at", ""), 0 if self.path.startswith(("Assets:", "Expenses:")) else 1
    def line(self, active_limits: int) -> bytes:
        """As in trial_balance.jsonl."""
        told = {"account": self.path, "account_id": self.id, "active_limits": active_limits, "currency": self.currency, "seq": self.seq}
        told |= {"floor": None if self.floor is None else str(self.floor), "status": self.status}
        return canonical(told | dict(zip(SUMS, map(str, self.sums), strict=True)))

def left_of(hold: dict[str, Any]) -> int:
    return hold["held"] - hold["consumed"] - hold["released"] - hold["expired"]

class Proof:
    """The bookkeeping of the range, done anew in the order of the log. Raises ``Wrong`` at the first line that lies."""
    def __init__(self, pack: Pack, prior: Pack | None) -> None:
        self.pack, self.size, self.end = pack, pack.begin, pack.end
        self.lines = {name: Lines(pack, name) for name in FORMS if name != "log/keys.jsonl"}
        self.rows, self.act_lines, self.limits = self.lines["lines.csv"], self.lines["acts.jsonl"], dict[tuple[int, str], bool]()
        self.accounts, self.by_id, self.holds = dict[tuple[str, str], Account](), list[Account](), dict[str, dict[str, Any]]()
        self.acts = deque[tuple[int, int, dict[str, Any]]]()  # not yet in force: line, the journal it comes after, act
        self.seen = [array.array("q") for _ in range(64)]  # keyed hashes of what may come only once
        self.mirrors = array.array("q")  # hashes of each journal's postings, 0 of one with a hold
        self.proposed, self.act_at, self.clocks, self.last = dict[str, Any](), 0, dict.fromkeys(SOURCES, ""), dict.fromkeys(SOURCES, 0)
        self.clock, self.day, self.closed, self.counts = "", "", "", Counter(dict.fromkeys(COUNTED, 0))
        self.read_tree(prior)
        self.read_opening()
        self.read_runs()
        self.read_closing()
        self.check_once()
    def read_tree(self, prior: Pack | None) -> None:
        """What the tree starts from, and what it must come to at which size. ``parts``: the roots of its full subtrees."""
        pack, lines = self.pack, self.lines["log/frontier.json"]
        line, start = lines.take()
        self.parts = [bytes.fromhex(part) for part in start["hashes"]]
        right = start["size"] == pack.begin and len(self.parts) == pack.begin.bit_count()
        lines.must(right, line, f"the {pack.begin.bit_count()} subtrees of {pack.begin} leaves")
        self.sizes: dict[int, list[tuple[str, int | None, bytes]]] = {self.end: [("log/checkpoint", None, pack.root)]}
        if prior: self.sizes.setdefault(prior.end, []).append((prior.path.name, None, prior.root))
        if pack.begin:
            root = pack.checkpoint("log/prior", None, pack.read("log/prior").decode(), pack.begin, pack.vkeys)
            self.sizes.setdefault(pack.begin, []).append(("log/prior", None, root))
        lines, size = self.lines["log/checkpoints.jsonl"], pack.begin - 1
        for _, said in lines.all():
            lines.must(size < said["size"] <= self.end, f"{said['size']} leaves", f"more than {size}, up to {self.end}")
            size, at = said["size"], (lines.name, lines.number)
            self.sizes.setdefault(size, []).append((*at, pack.checkpoint(*at, said["note"], size, pack.vkeys)))
        self.check_roots()
    def check_roots(self) -> None:
        """A tree of RFC 9162 at this size."""
        root = self.parts[-1] if self.parts else sha256().digest()
        for part in self.parts[-2::-1]:
            root = sha256(b"\1" + part + root).digest()
        for file, line, says in self.sizes.get(self.size, ()):
            must(says == root, file, line, f"{self.size} leaves of the root {says.hex()}", f"{root.hex()}, by the lines")
    def read_opening(self) -> None:
        """What stood before the range, as stated."""
        lines, last = self.lines["opening_holds.jsonl"], ""
        for line, said in lines.all():
            hold = self.holds[said["id"]] = said | {name: int(said[name]) for name in USES}
            lines.must(self.pack.begin and said["id"] > last and left_of(hold) > 0, line, "a hold that was open before the range, by id")
            last = said["id"]
        lines = self.lines["opening.jsonl"]
        for line, said in lines.all():
            account = Account(len(self.by_id) + 1, said)
            lines.must(self.pack.begin and line == account.line(said["active_limits"]), line, account.line(said["active_limits"]))
            self.open_account(lines, account)
    def open_account(self, lines: Lines, account: Account) -> None:
        same = self.accounts.setdefault((account.path, account.currency), account)
        lines.must(same is account, f"{account.path} {account.currency}", f"another one: account {same.id} is that")
        self.by_id.append(account)
        self.last["account"] = account.id
    def read_runs(self) -> None:
        """All leaves, run by run."""
        take, lines = {"account": self.take_account, "act": self.take_act, "journal": self.take_journal}, self.lines["log/runs.jsonl"]
        self.rows.compare(b"seq,line,side,account,currency,layer,amount,account_seq,posted,available,incoming")
        for line, run in lines.all():
            source, index, first, count = run["source"], run["first_index"], run["first_number"], run["count"]
            if self.pack.begin and source != "account" and not self.last[source]: self.last[source] = first - 1
            wanted = (self.size, self.last[source] + 1)
            lines.must((index, first) == wanted and 0 < count <= self.end - index, line, f"the next leaves: {wanted} of {self.end}")
            for number in range(first, first + count):
                take[source](self.lines[SOURCES[source]], number)
            self.last[source], self.counts[f"{source}s"] = first + count - 1, self.counts[f"{source}s"] + count
        lines.must(self.size == self.end, f"the last run, at {self.size} leaves", f"another: there are {self.end}")
    def leaf(self, lines: Lines, source: str, line: bytes, at: str) -> None:
        """Every leaf: the clock never goes back, nor the log to an earlier day; each day that has ended has its checkpoint."""
        if at < self.clocks[source] or at[:10] != self.day:
            since, until = max(self.pack.manifest["from"] or "", self.clocks[source], self.day), self.pack.manifest["to"] or "9"
            lines.must(since <= at < until and date.fromisoformat(at[:10]), at, f"from {since} to before {until}: the clock never goes back")
            right = not self.day or self.size in self.sizes
            must(right, "log/checkpoints.jsonl", None, f"no checkpoint of {self.size} leaves", f"one: {self.day} ends there")
            self.day, self.counts["days"] = at[:10], self.counts["days"] + 1
        self.clocks[source], self.size, node = at, self.size + 1, sha256(b"\0" + line).digest()
        for _ in range((self.size & -self.size).bit_length() - 1):
            node = sha256(b"\1" + self.parts.pop() + node).digest()
        self.parts.append(node)
        if self.size in self.sizes: self.check_roots()
    def take_account(self, lines: Lines, number: int) -> None:
        line, said = lines.take()
        lines.must(said["account_id"] == number, f"account {said['account_id']}", number)
        self.leaf(lines, "account", line, said["opened_at"])
        self.open_account(lines, Account(number, said))
    def take_act(self, lines: Lines, number: int) -> None:
        """Acts stand in the log before the journals that they hold for, and after those before them."""
        line, act = lines.take()
        action, detail, least = act["action"], act["detail"], max(self.act_at, self.last["journal"])
        at = detail.get("after", detail.get("head", least if action.endswith("_proposed") else None))
        right = action != "change_account" or pattern(CHANGE).fullmatch(canonical(detail).decode())
        right = right and len(act) == 8 and act["act"] == number and type(at) is int and at >= least
        lines.must(right, line, f"act {number}, after journal {least} or later, in its form")
        self.leaf(lines, "act", line, act["recorded_at"])
        if action.endswith("_proposed"):
            lines, must = self.lines["proposals.jsonl"], [number, detail.get("content_hash"), act["subject"], detail.get("kind")]
            says = [(told := lines.take()[1])["act"], sha256(canonical(told["content"])).hexdigest(), told["id"], told["kind"]]
            known = action[:-9] + act["subject"]  # what is proposed, and its id
            lines.must(says == must and known not in self.proposed and len(told) == 4, says, f"{must}, once, in its form")
            self.proposed[known] = (act["person"], told["content"])
        self.act_at = at
        self.acts.append((self.act_lines.number, at, act))
    def apply(self, lines: Lines, number: int, at: int, act: dict[str, Any]) -> None:
        """The act in line ``number`` comes into force after journal ``at``."""
        Pack.at, action, detail, subject, time_ = (lines.name, number), act["action"], act["detail"], act["subject"], act["recorded_at"]
        right, wanted = True, "in time"
        if action in ("change_account", "set_limit"):
            account = self.by_id[min(detail["account"], len(self.by_id)) - 1]
            right = detail["account"] == account.id and subject == f"{account.path} {account.currency}"
            wanted = f"of account {account.id}, {account.path} {account.currency}, {account.status} so far, fact {account.fact + 1}"
        if action == "change_account":
            right = right and account.status != "closed" and detail["fact"] == (account.fact + 1 if account.fact else detail["fact"])
            account.floor, account.status, account.fact = detail["floor"] and int(detail["floor"]), detail["status"], detail["fact"]
        elif action == "set_limit": self.limits[account.id, detail["name"]] = detail["active"] is True
        elif action == "period_closed":
            right = self.closed < date.fromisoformat(subject).isoformat() == subject < time_[:10]
            wanted = f"through a day after {self.closed or 'none'} that was over on {time_[:10]}"
            self.closed, self.counts["closes"] = subject, self.counts["closes"] + 1
        elif action.endswith(("_approved", "_rejected")):
            person, content = self.proposed.pop(action[:-9] + subject, ("", {}))
            right, opens = (person or self.pack.begin) and person != act["person"], str(content.get("through") or "")
            wanted = f"proposed, by another than {person or 'nobody'}; what is opened was closed, through {self.closed or 'no day'}"
            if action == "reopening_approved": right, self.closed = right and (self.pack.begin or opens < self.closed), opens
        must(right and time_ >= self.clock, lines.name, number, canonical(act), f"{wanted}; {self.clock} or later, as journal {at}")
        self.clock = time_
    def take_journal(self, lines: Lines, seq: int) -> None:
        """What a journal says is booked, and each running balance compared."""
        line, match = lines.match()
        effective, hold, id_, metadata, text, recorded, reverses, number, source = match.groups()
        if number != str(seq): lines.must(False, f"seq {number}", seq)
        while self.acts and self.acts[0][1] < seq:
            self.apply(self.act_lines, *self.acts.popleft())
        if recorded < self.clock: lines.must(False, recorded, f"{self.clock} or later: the clock never goes back")
        self.clock = recorded
        self.leaf(lines, "journal", line, recorded)
        self.once(source)
        self.once(id_)
        if str(date.fromisoformat(effective[:10])) <= self.closed: lines.must(False, f"effective {effective}", f"after {self.closed}: closed")
        if metadata and (keys := KEYS(metadata)) != sorted(set(keys)): lines.must(False, f"metadata {keys}", sorted(set(keys)))
        postings, made = POSTINGS(text), self.use_hold(lines, hold, recorded) if hold else []
        right = postings[: len(made)] == made and (not made or not any(p[4] or p[5] == "pending" for p in postings[len(made) :]))
        if not right or (not hold and ('"hold"' in text or '"pending"' in text)):
            lines.must(False, f"{hold} by {postings}", f"{made}, then posted lines of its own")
        self.mirrors.append(0 if hold else hash(tuple([posting[:4] for posting in postings])) | 1)
        if reverses: self.reverse(lines, seq, int(reverses), postings)
        for place, (amount_text, credit, currency, debit, of_hold, layer, _) in enumerate(postings, 1):
            amount, at = int(amount_text), 0 if layer == "posted" else 2
            if credit == debit or (amount < 0 and not of_hold): lines.must(False, text, "more than nothing, between two accounts")
            for side, path in enumerate((debit, credit)):
                account = self.accounts.get((path, currency))
                shut = account is None or account.opened > recorded or (account.status != "open" and (amount > 0 or account.status == "closed"))
                if shut: lines.must(False, f"{path} {currency}: {account and account.status}", "an open account, opened before, in its currency")
                sums, normal = account.sums, account.normal
                sums[at + side] += amount
                account.seq += 1
                posted = sums[normal] - sums[1 - normal]
                left = posted - sums[3 - normal]
                if account.floor is not None and left < account.floor:
                    lines.must(False, f"{path} {currency} left with {left} by posting {place}", f"{account.floor} or more")
                row = f"{seq},{place},{SIDES[side]},{path},{currency},{layer},{amount_text},{account.seq},{posted},{left},{sums[2 + normal]}"
                self.rows.compare(row.encode())
        self.counts["rows"] += 2 * len(postings)
    def reverse(self, lines: Lines, seq: int, of: int, postings: list[tuple[str, ...]]) -> None:
        """The mirror image of one earlier journal without a hold, the last posting first."""
        back, mirror = seq - of, hash(tuple([(p[0], p[3], p[2], p[1]) for p in reversed(postings)])) | 1
        right = back > 0 and self.mirrors[-1] and (back >= len(self.mirrors) or self.mirrors[-1 - back] == mirror)
        lines.must(right, f"reverses {of}: {postings}", "the mirror image of an earlier journal")
        self.once(f"reverses {of}", "reversals")
    def use_hold(self, lines: Lines, text: str, recorded: str) -> list[tuple[str, ...]]:
        """The first postings of a journal: what the action makes of the hold, by its terms and what is left of it."""
        asks: dict[str, Any] = json.loads(text)
        action, id_ = asks["action"], asks["id"]
        right = pattern(HOLD).fullmatch(text) and (id_ in self.holds) == (action != "place")
        lines.must(right, text, "a new hold, or what one can be asked that has not ended")
        if action == "place":
            self.holds[id_] = {name: asks[name] for name in asks if name not in ("action", "amount")} | dict.fromkeys(USES, 0)
            self.once(f"hold {id_}", "holds")
        hold, gain = self.holds[id_], 1 if action in ("place", "increase") else -1
        over = hold["expires_at"] is not None and recorded >= hold["expires_at"]
        lines.must(action == "release" or over == (action == "expire"), f"{action} at {recorded}", f"expire from {hold['expires_at']} on")
        left, kept = left_of(hold), hold["held"] - hold["released"] - hold["expired"]
        most = kept + kept * hold["tolerance_bps"] // 10_000 - hold["captured"]  # with the tolerance on what was never given back
        amount = int(asks.get("amount") or left)
        used = min(amount, left) if action == "capture" else amount
        hold[{"capture": "consumed", "release": "released", "expire": "expired"}.get(action, "held")] += used
        terms = (hold["credit"], hold["currency"], hold["debit"])
        made = [(str(gain * used), *terms, action, "pending", "")]
        if asks.get("final") and left > used:
            hold["released"] += left - used
            made.append((str(used - left), *terms, "release", "pending", ""))
        if action == "capture":
            hold["captured"] += amount
            made.append((str(amount), asks["credit"] or terms[0], terms[1], asks["debit"] or terms[2], action, "posted", ""))
        right = amount > 0 and left_of(hold) >= 0 and (action != "capture" or amount <= most)
        lines.must(right, f"{action} of {amount}", f"no more than was left: {left}, {most} to capture")
        if not left_of(hold): del self.holds[id_]
        return made
    def read_closing(self) -> None:
        """What stands after the range, from what was done anew; if it has a before, how many limits are active is as stated."""
        for act in self.acts:
            self.apply(self.act_lines, *act)
        limits = Counter(account for (account, _), active in self.limits.items() if active)
        lines, holds = self.lines["trial_balance.jsonl"], self.lines["holds.jsonl"]
        for account in self.by_id:
            line, said = lines.take()
            wanted = account.line(said["active_limits"] if self.pack.begin else limits[account.id])
            lines.must(line == wanted, line, wanted)
        for _, hold in sorted(self.holds.items()):
            holds.compare(canonical(hold | {name: str(hold[name]) for name in USES}))
        for lines in self.lines.values():
            lines.end()
    def once(self, text: str, counted: str = "") -> None:
        self.seen[(value := hash(text)) & 63].append(value)
        if counted: self.counts[counted] += 1
    def check_once(self) -> None:
        """What looked repeated is read again: two texts may have one hash."""
        doubtful = {value for part in self.seen if len(set(part)) < len(part) for value, times in Counter(part).items() if times > 1}
        lines, seen = Lines(self.pack, "journal.jsonl"), dict[str, int]()
        while doubtful and lines.buffer.peek(1):
            _, hold, id_, _, _, _, reverses, _, source = lines.match()[1].groups()
            placed = f"hold {json.loads(hold)['id']}" if hold and '"place"' in hold else ""
            for text in (text for text in (source, id_, f"reverses {reverses}", placed) if hash(text) in doubtful):
                lines.must(seen.setdefault(text, lines.number) == lines.number, text, f"another one: line {seen[text]} has it")

def prove(args: argparse.Namespace, stack: contextlib.ExitStack) -> dict[str, Any]:
    """What there is to tell of a right pack."""
    prior = Pack(args.prior, stack, None, None) if args.prior else None
    pack = Pack(args.pack, stack, args.key, prior)
    proof = Proof(pack, prior)
    notes = ["keys used, days closed and journals reversed before the range: a whole pack proves them"] if pack.begin else []
    if pack.begin and not (prior and prior.end == pack.begin):
        notes.insert(0, "what stood before the range is as signed: the earlier pack proves it (--prior)")
    counts = proof.counts | {"files": len(pack.files), "checkpoints": len(proof.sizes), "open_holds": len(proof.holds)}
    told = {key: pack.manifest[key] for key in ("book", "origin", "root", "from", "to", "from_index", "to_index")}
    return told | {"vouched_by": pack.vouched, "proven": counts, "not_proven": notes, "verdict": "right"}

def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Proves an audit pack of Khata.", epilog="Example: khata_verify.py pack.zip --key VKEY")
    parser.add_argument("pack", type=Path, help="a zip, or a directory")
    parser.add_argument("--key", metavar="VKEY", help="a key of the log, as known from elsewhere")
    parser.add_argument("--prior", type=Path, metavar="PACK", help="an earlier pack of the same log, as kept by you")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    args = parser.parse_args(argv)
    told: dict[str, Any] = {"pack": str(args.pack), "verdict": "wrong", "wrong": None}
    try:
        with contextlib.ExitStack() as stack:
            told |= prove(args, stack)
    except Wrong as wrong:
        told["wrong"] = wrong.report
    except Exception as error:  # whatever comes of files that are nothing of the kind
        if isinstance(error, OSError) and error.filename:
            print(f"{error.filename}: {error.strerror}", file=sys.stderr)
            return 2
        told["wrong"] = Wrong(*Pack.at, f"damaged: {error!r}", "whole and in its form").report
    if told["wrong"] and Pack.now == args.prior: told["wrong"]["file"] = f"{args.prior.name}: {told['wrong']['file']}"
    if args.json: print(json.dumps(told, indent=2, ensure_ascii=False))
    elif told["wrong"]: print("  {file}, line {line}: says {says}; must be {must}\nWRONG".format(**told["wrong"]).replace(", line None:", ":"))
    else: print(*(f"  {name}: {value}" for name, value in (told | told["proven"]).items() if name not in ("proven", "wrong")), "RIGHT", sep="\n")
    return 1 if told["wrong"] else 0

if __name__ == "__main__":
    sys.exit(main())
