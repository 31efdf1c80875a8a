"""The key hidden in a form that makes sending it twice harmless.

Each rendering of the card form gets a new key; it is made with the session's token, so a key of another session, or
one that somebody made up, is not accepted. Nothing is stored until it is used.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable

_NONCE_BYTES = 16
_MAC_BYTES = 16


def _mac(session_token: str, nonce: bytes) -> bytes:
    return hmac.digest(session_token.encode(), b"khata/form-key\n" + nonce, hashlib.sha256)[:_MAC_BYTES]


def new_key(session_token: str, random: Callable[[int], bytes]) -> str:
    """43 URL-safe characters."""
    nonce = random(_NONCE_BYTES)
    return base64.urlsafe_b64encode(nonce + _mac(session_token, nonce)).decode().rstrip("=")


def is_key_of(session_token: str, key: str) -> bool:
    try:
        made = base64.b64decode(key.encode("ascii") + b"=", altchars=b"-_", validate=True)
    except ValueError:
        return False
    nonce, mac = made[:_NONCE_BYTES], made[_NONCE_BYTES:]
    return hmac.compare_digest(mac, _mac(session_token, nonce))
