"""What the HTTP edge itself refuses: one root, facts as attributes, a stable ``code``.

Status numbers live in ``api.problems`` beside those of the packages below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class ApiError(Exception):
    """Root of every error of this package. ``code`` never changes once published."""

    code: ClassVar[str] = "api_error"


class TokenMissing(ApiError):
    code: ClassVar[str] = "token_missing"

    def __str__(self) -> str:
        return "This operation needs an access token: Authorization: Bearer …"


@dataclass(unsafe_hash=True)
class TokenInvalid(ApiError):
    """Expired, forged, for somebody else, or not a token of ours."""

    code: ClassVar[str] = "token_invalid"
    reason: str

    def __str__(self) -> str:
        return f"The access token is not accepted: {self.reason}"


@dataclass(unsafe_hash=True)
class ScopeMissing(ApiError):
    code: ClassVar[str] = "scope_missing"
    scope: str

    def __str__(self) -> str:
        return f"The access token lacks the scope {self.scope}"


@dataclass(unsafe_hash=True)
class AudienceWrong(ApiError):
    """A platform client on a merchant's operation, or the reverse. ``audience``: who may call it."""

    code: ClassVar[str] = "client_kind_wrong"
    audience: str

    def __str__(self) -> str:
        return f"Only a {self.audience} client may call this operation"


@dataclass(unsafe_hash=True)
class AccountManaged(ApiError):
    """An account that payments, settlement and payouts keep: a hold on it from outside would part it from them."""

    code: ClassVar[str] = "account_managed"
    account: str

    def __str__(self) -> str:
        return f"{self.account} is kept by the platform: this client may not place or change holds on it"


class ItemRefused(ApiError):
    """One of several things asked for at once is refused, so none of them was done.

    ``pointer``: JSON pointer (RFC 6901) to it; ``reason``: why, which also gives the status and the code.
    """

    code: ClassVar[str] = "item_refused"

    def __init__(self, pointer: str, reason: Exception) -> None:
        super().__init__(pointer, reason)
        self.pointer = pointer
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.pointer}: {self.reason}"


class MerchantRequired(ApiError):
    """A platform client asks for what each merchant has of its own."""

    code: ClassVar[str] = "merchant_required"

    def __str__(self) -> str:
        return "A platform client says whose with ?merchant=mer_…"


class NotFound(ApiError):
    """No such object, or another merchant's: the answer does not tell which."""

    code: ClassVar[str] = "not_found"

    def __str__(self) -> str:
        return "There is no such object"


class RouteUnknown(ApiError):
    code: ClassVar[str] = "route_unknown"

    def __str__(self) -> str:
        return "There is no such route"


@dataclass(unsafe_hash=True)
class MethodNotAllowed(ApiError):
    code: ClassVar[str] = "method_not_allowed"
    allowed: str

    def __str__(self) -> str:
        return "This route does not answer that method"


@dataclass(unsafe_hash=True)
class MalformedRequest(ApiError):
    """The request cannot be read at all, so nothing in it can be judged."""

    code: ClassVar[str] = "malformed_request"
    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class FieldError:
    """``pointer``: JSON pointer (RFC 6901) into the body, or ``query/NAME``, ``path/NAME``, ``header/NAME``."""

    pointer: str
    code: str
    detail: str


@dataclass(unsafe_hash=True)
class ValidationFailed(ApiError):
    code: ClassVar[str] = "validation_failed"
    errors: tuple[FieldError, ...]

    def __str__(self) -> str:
        return "The request was read, but some of its values are not acceptable"


@dataclass(unsafe_hash=True)
class MediaTypeUnsupported(ApiError):
    code: ClassVar[str] = "media_type_unsupported"
    expected: str

    def __str__(self) -> str:
        return f"The body must be {self.expected}"


class BodyTooLarge(ApiError):
    code: ClassVar[str] = "body_too_large"

    def __str__(self) -> str:
        return "The body is larger than this operation accepts"


class IdempotencyKeyMissing(ApiError):
    code: ClassVar[str] = "idempotency_key_missing"

    def __str__(self) -> str:
        return "Send an Idempotency-Key header of 1 to 255 visible ASCII characters"


@dataclass(unsafe_hash=True)
class StatementTooLong(ApiError):
    """A document that is made as a whole, of too many lines."""

    code: ClassVar[str] = "statement_too_long"
    most_lines: int

    def __str__(self) -> str:
        return (
            f"A statement of more than {self.most_lines} lines, or of as much text:"
            " ask for fewer days, or for csv, camt.053 or html"
        )


@dataclass(unsafe_hash=True)
class EntryTooLong(ApiError):
    """An entry bundle tells an entry's length in two bytes (c2sp.org/tlog-tiles)."""

    code: ClassVar[str] = "entry_too_long"
    length: int

    def __str__(self) -> str:
        return f"An entry of {self.length} bytes is among them, more than a bundle can hold: read the export"


class LogNotBegun(ApiError):
    """The log of a book gets its key when the worker first seals it."""

    code: ClassVar[str] = "log_not_begun"

    def __str__(self) -> str:
        return "The book's log has not begun yet"


@dataclass(unsafe_hash=True)
class CallerGone(ApiError):
    """Nobody reads the answer, or too slowly: it is given up where it is."""

    code: ClassVar[str] = "caller_gone"
    reason: str

    def __str__(self) -> str:
        return f"The answer was given up: {self.reason}"


@dataclass(unsafe_hash=True)
class RateLimited(ApiError):
    code: ClassVar[str] = "rate_limited"
    retry_after_s: int

    def __str__(self) -> str:
        return f"Too many requests: try again in {self.retry_after_s} s"


class DatabaseUnavailable(ApiError):
    """The database cannot be reached; what a request in flight did is settled by its idempotency key."""

    code: ClassVar[str] = "database_unavailable"

    def __str__(self) -> str:
        return "The service cannot reach its database; repeat the request with the same Idempotency-Key"


@dataclass(unsafe_hash=True)
class PolicyMissing(ApiError):
    """A route that does not say who may call it; raised while the application is built."""

    code: ClassVar[str] = "policy_missing"
    route: str

    def __str__(self) -> str:
        return f"{self.route} declares no policy: use requires(...) or public()"


@dataclass(unsafe_hash=True)
class OAuthError(ApiError):
    """A refusal of the token endpoint in the words of RFC 6749 §5.2 (``error`` is one of its codes)."""

    code: ClassVar[str] = "oauth_error"
    error: str
    description: str

    def __str__(self) -> str:
        return f"{self.error}: {self.description}"


@dataclass(unsafe_hash=True)
class ClientLocked(ApiError):
    """Too many wrong secrets in a row for this client from this address."""

    code: ClassVar[str] = "client_locked"
    retry_after_s: int

    def __str__(self) -> str:
        return f"Too many failed attempts: try again in {self.retry_after_s} s"


@dataclass(unsafe_hash=True)
class KeyUnusable(ApiError):
    """A stored signing key cannot be opened: it was sealed under another master key."""

    code: ClassVar[str] = "key_unusable"
    kid: str

    def __str__(self) -> str:
        return f"signing key {self.kid} does not open with this installation's master key"


class SignedOut(ApiError):
    """Nobody is signed in to the merchant's pages, or no longer."""

    code: ClassVar[str] = "signed_out"

    def __str__(self) -> str:
        return "Sign in first"


class FormForged(ApiError):
    """A form that was not made for the browser that sent it."""

    code: ClassVar[str] = "form_forged"

    def __str__(self) -> str:
        return "The form was not made for this browser"
