"""A second writer of packs, from docs/pack.md alone, that signs whatever it is told: the operator who lies.

It keeps no rule: what the lines say is booked, hashed and signed. Packs here are directories in memory: name to bytes.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Files = dict[str, bytes]
Fields = dict[str, Any]
ORIGIN = "khata.test/main"
OPERATOR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
THIEF = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
SOURCES = {"account": ("accounts.jsonl", "opened_at"), "act": ("acts.jsonl", "recorded_at"),
           "journal": ("journal.jsonl", "recorded_at")}  # fmt: skip


def dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def rows(files: Files, name: str) -> list[Fields]:
    return [json.loads(line) for line in files[name].splitlines()]


def put(files: Files, name: str, values: Iterable[object]) -> None:
    files[name] = b"".join(dump(value) + b"\n" for value in values)


def root(leaves: Sequence[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, as it stands there."""
    if len(leaves) < 2:
        return sha256(b"\0" + leaves[0]).digest() if leaves else sha256(b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + root(leaves[:split]) + root(leaves[split:])).digest()


def key_data(key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    data = b"\1" + key.public_key().public_bytes_raw()
    return sha256(ORIGIN.encode() + b"\n" + data).digest()[:4], data


def vkey(key: Ed25519PrivateKey) -> str:
    id_, data = key_data(key)
    return f"{ORIGIN}+{id_.hex()}+{base64.b64encode(data).decode()}"


def sign(text: str, *keys: Ed25519PrivateKey) -> str:
    lines = [base64.b64encode(key_data(key)[0] + key.sign(text.encode())).decode() for key in keys]
    return text + "\n" + "".join(f"— {ORIGIN} {line}\n" for line in lines)


def checkpoint(leaves: Sequence[bytes], *keys: Ed25519PrivateKey) -> str:
    return sign(f"{ORIGIN}\n{len(leaves)}\n{base64.b64encode(root(leaves)).decode()}\n", *keys)


def booked(files: Files) -> Files:
    """lines.csv, trial_balance.jsonl and holds.jsonl as the journals say, whatever they say."""
    accounts: dict[tuple[str, str], Fields] = {}
    for opened in rows(files, "accounts.jsonl"):
        state = {"account_id": opened["account_id"], "floor": opened["floor"], "status": "open", "limits": {}}
        sums = dict.fromkeys(("seq", "debit posted", "credit posted", "debit pending", "credit pending"), 0)
        accounts.setdefault((opened["account"], opened["currency"]), state | sums)
    by_id = {state["account_id"]: state for state in accounts.values()}
    for act in rows(files, "acts.jsonl"):
        detail = act["detail"]
        if act["action"] == "change_account":
            by_id[detail["account"]] |= {"floor": detail["floor"], "status": detail["status"]}
        elif act["action"] == "set_limit":
            by_id[detail["account"]]["limits"][detail["name"]] = detail["active"]
    lines = ["seq,line,side,account,currency,layer,amount,account_seq,posted,available,incoming"]
    holds: dict[str, Fields] = {}
    for journal in rows(files, "journal.jsonl"):
        for number, posting in enumerate(journal["postings"], 1):
            for side in ("debit", "credit"):
                state = accounts.get((posting[side], posting["currency"]), dict.fromkeys(sums, 0))
                state["seq"] += 1
                state[f"{side} {posting['layer']}"] += int(posting["amount"])
                debit = posting[side].startswith(("Assets", "Expenses"))
                normal, other = ("debit", "credit") if debit else ("credit", "debit")
                posted = state[f"{normal} posted"] - state[f"{other} posted"]
                numbers = (
                    state["seq"],
                    posted,
                    posted - state[f"{other} pending"],
                    state[f"{normal} pending"],
                )
                line = (journal["seq"], number, side, posting[side], posting["currency"], posting["layer"])
                lines.append(",".join(map(str, (*line, posting["amount"], *numbers))))
        if "hold" in journal:
            _hold(holds, journal)
    put(files, "trial_balance.jsonl", [_state(*key, state) for key, state in accounts.items()])
    left = [h for h in holds.values() if h["held"] > h["consumed"] + h["released"] + h["expired"]]
    put(files, "holds.jsonl", [
        hold | {name: str(hold[name]) for name in ("captured", "consumed", "expired", "held", "released")}
        for hold in sorted(left, key=lambda hold: hold["id"])
    ])  # fmt: skip
    files["lines.csv"] = "".join(line + "\n" for line in lines).encode()
    return files


def _hold(holds: dict[str, Fields], journal: Fields) -> None:
    asked = journal["hold"]
    if asked["action"] == "place":
        terms = {
            name: asked[name] for name in ("credit", "currency", "debit", "expires_at", "id", "tolerance_bps")
        }
        holds[asked["id"]] = terms | dict.fromkeys(("captured", "consumed", "expired", "held", "released"), 0)
    hold = holds.setdefault(
        asked["id"], dict.fromkeys(("captured", "consumed", "expired", "held", "released"), 0)
    )
    names = {
        "place": "held",
        "increase": "held",
        "capture": "consumed",
        "release": "released",
        "expire": "expired",
    }
    for posting in journal["postings"]:
        if posting["layer"] == "pending":
            hold[names[posting["hold"]]] += abs(int(posting["amount"]))
        elif "hold" in posting:
            hold["captured"] += int(posting["amount"])


def _state(path: str, currency: str, state: Fields) -> Fields:
    kinds = [(layer, side) for layer in ("posted", "pending") for side in ("debit", "credit")]
    sums = {f"{layer}_{side}s": str(state[f"{side} {layer}"]) for layer, side in kinds}
    fields = {name: state[name] for name in ("account_id", "floor", "seq", "status")}
    return (
        fields
        | sums
        | {"account": path, "active_limits": sum(state["limits"].values()), "currency": currency}
    )


def logged(files: Files, *keys: Ed25519PrivateKey) -> Files:
    """The log of what the three sources say, from the first leaf: a pass and a checkpoint a day."""
    entries = [
        (fields[at][:10], source, line)
        for source, (name, at) in SOURCES.items()
        for line, fields in zip(files[name].splitlines(), rows(files, name), strict=True)
    ]
    entries.sort(key=lambda entry: (entry[0], list(SOURCES).index(entry[1])))
    leaves = [line for _, _, line in entries]
    numbers = dict.fromkeys(SOURCES, 1)
    runs: list[Fields] = []
    ends: list[int] = []
    for index, (day, source, _) in enumerate(entries):
        if index and entries[index - 1][0] != day:
            ends.append(index)
        if not index or entries[index - 1][:2] != (day, source):
            runs.append({"count": 0, "first_index": index, "first_number": numbers[source], "source": source})
        runs[-1]["count"] += 1
        numbers[source] += 1
    put(files, "log/runs.jsonl", runs)
    notes = [{"note": checkpoint(leaves[:n], *keys), "size": n} for n in [*ends, len(leaves)]]
    put(files, "log/checkpoints.jsonl", notes)
    files["log/checkpoint"] = checkpoint(leaves, *keys).encode()
    put(files, "log/frontier.json", [{"hashes": [], "size": 0}])
    first = {"endorsement": None, "from": "2026-01-01T00:00:00.000000Z", "until": None}
    listed = [first | {"vkey": vkey(key)} for key in keys]
    put(files, "log/keys.jsonl", listed)
    files.pop("log/prior", None)
    for name in ("opening.jsonl", "opening_holds.jsonl"):
        files[name] = b""
    return listed_in_manifest(files, *keys, from_index=0, to_index=len(leaves), root=root(leaves).hex())


def listed_in_manifest(files: Files, *keys: Ed25519PrivateKey, **said: object) -> Files:
    """The manifest of what the files are now, signed; ``said``: what it says besides."""
    manifest = json.loads(files.pop("manifest.json", b"{}"))
    files.pop("manifest.sig", None)
    listed = [
        {"bytes": len(data), "lines": None if name.endswith(".parquet") else data.count(b"\n"), "name": name,
         "sha256": sha256(data).hexdigest()}
        for name, data in sorted(files.items())
    ]  # fmt: skip
    default = {"book": "main", "created_at": "2026-01-01T00:00:00.000000Z", "from": None, "to": None}
    manifest = default | manifest | {"files": listed, "format": "khata-pack/1", "origin": ORIGIN} | said
    files["manifest.json"] = dump(manifest) + b"\n"
    digest = sha256(files["manifest.json"]).hexdigest()
    files["manifest.sig"] = sign(f"khata pack\n{ORIGIN}\n{digest}\n", *keys).encode()
    return files


def forged(files: Files, lie: Callable[[list[Fields]], None], name: str = "journal.jsonl") -> Files:
    """The pack of an operator who changed a source and did all the rest properly."""
    files = dict(files)
    changed = rows(files, name)
    lie(changed)
    put(files, name, changed)
    return logged(booked(files), OPERATOR)


def unzipped(pack: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: Files, *keys: Ed25519PrivateKey, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
        archive.comment = sign(f"khata zip\n{ORIGIN}\n{'0' * 64}\n", *keys).encode()
        length = len(archive.comment)
    body = out.getvalue()[:-length]
    return body + sign(f"khata zip\n{ORIGIN}\n{sha256(body).hexdigest()}\n", *keys).encode()


def write(files: Files, to: Path) -> Path:
    for name, data in files.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(data)
    return to
