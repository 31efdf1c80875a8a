"""Every error as an RFC 9457 problem document: one table, one door.

``PROBLEMS`` names each error class of every package with its status; a class that is missing answers like its
root, with 500 (a test refuses that). Below 500 ``detail`` is the error's own sentence, which never carries a
secret; from 500 on nothing of the error is told, it is logged instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import orjson
import psycopg
import sqlalchemy.exc
import structlog
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from api import errors as a
from api.access import CLAIMED
from api.clients import is_client_id
from banks import errors as b
from gateway import errors as g
from ledger import errors as l
from ledger.export.errors import BookAltered
from ledger.export.pack import errors as x
from ledger.import_pack import errors as i
from ledger.log import keys as k
from ledger.log import note as n
from ledger.log import proofs as p
from ledger.reports import errors as r

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:khata:problem:"
DENIED = "khata.denied"
"""In a request's scope: the code of a denial, which ``api.edge`` writes into the access log before it is told."""
_BROKEN = "Something went wrong on our side; the request id finds it in our log"
log = structlog.get_logger("khata.api")


class Problem(NamedTuple):
    """``title``: the same for every occurrence. ``retry_after_s``: when to come back, if that helps."""

    status: int
    title: str
    retry_after_s: int | None = None


_INTERNAL = Problem(500, "Internal error")

PROBLEMS: Mapping[type[Exception], Problem] = {
    # api
    a.ApiError: _INTERNAL,
    a.TokenMissing: Problem(401, "An access token is needed"),
    a.TokenInvalid: Problem(401, "The access token is not accepted"),
    a.ScopeMissing: Problem(403, "The access token lacks a scope"),
    a.AudienceWrong: Problem(403, "This kind of client may not do that"),
    a.AccountManaged: Problem(403, "The platform keeps that account"),
    a.ItemRefused: Problem(409, "One of several is refused"),
    a.MerchantRequired: Problem(422, "A merchant must be named"),
    a.NotFound: Problem(404, "Not found"),
    a.RouteUnknown: Problem(404, "No such route"),
    a.MethodNotAllowed: Problem(405, "Method not allowed"),
    a.MalformedRequest: Problem(400, "The request cannot be read"),
    a.ValidationFailed: Problem(422, "Some values are not acceptable"),
    a.MediaTypeUnsupported: Problem(415, "Unsupported media type"),
    a.BodyTooLarge: Problem(413, "The body is too large"),
    a.IdempotencyKeyMissing: Problem(400, "An Idempotency-Key is needed"),
    a.StatementTooLong: Problem(422, "The statement is too long"),
    a.EntryTooLong: Problem(422, "An entry is too long for a bundle"),
    a.LogNotBegun: Problem(503, "The book's log has not begun", 2),
    a.CallerGone: Problem(408, "The answer was not read in time"),
    a.RateLimited: Problem(429, "Too many requests"),
    a.ClientLocked: Problem(429, "Too many failed attempts"),
    a.OAuthError: Problem(400, "The token request is not acceptable"),
    a.SignedOut: Problem(401, "Nobody is signed in"),
    a.FormForged: Problem(403, "The form is not accepted"),
    a.DatabaseUnavailable: Problem(503, "The service is not available", 2),
    a.PolicyMissing: _INTERNAL,
    a.KeyUnusable: _INTERNAL,
    # gateway
    g.GatewayError: _INTERNAL,
    g.Invalid: Problem(422, "Some values are not acceptable"),
    g.IdInvalid: Problem(422, "An id is not well formed"),
    g.CardInvalid: Problem(422, "The card is not acceptable"),
    g.CurrencyUnknown: Problem(422, "The currency is not accepted"),
    g.MerchantNotFound: Problem(404, "No such merchant"),
    g.PaymentNotFound: Problem(404, "No such payment"),
    g.RefundNotFound: Problem(404, "No such refund"),
    g.TokenNotFound: Problem(404, "No such card token"),
    g.SessionNotFound: Problem(404, "No such checkout session"),
    g.SessionExpired: Problem(410, "The checkout session has expired"),
    g.VaultTampered: _INTERNAL,
    g.KeyUnknown: _INTERNAL,
    g.IllegalTransition: _INTERNAL,
    g.StateConflict: Problem(409, "The payment's state does not allow that"),
    g.OutcomeUnknown: Problem(409, "The bank has not answered yet"),
    g.AuthorizationExpired: Problem(409, "The authorization has expired"),
    g.PaymentExpired: Problem(409, "The payment has expired"),
    g.AmountExceeded: Problem(409, "The amount is more than is left"),
    g.IdempotencyMismatch: Problem(422, "The Idempotency-Key was used with another request"),
    g.IdempotencyInFlight: Problem(409, "The first request with this Idempotency-Key is still running", 1),
    g.Contended: Problem(409, "The payment is being changed by somebody else", 1),
    g.Unbookable: _INTERNAL,
    g.BankUnavailable: Problem(503, "The bank cannot be reached", 5),
    # banks
    b.BanksError: _INTERNAL,
    b.BankUnknown: _INTERNAL,
    b.MalformedMessage: _INTERNAL,
    b.SettlementRefused: Problem(422, "The settlement file is refused"),
    # ledger
    l.LedgerError: _INTERNAL,
    r.ReportBroken: _INTERNAL,
    r.NotRepresentable: Problem(422, "The format cannot hold that figure"),
    r.PeriodInvalid: Problem(422, "The days are no period"),
    l.Refusal: _INTERNAL,
    l.InvalidEntry: Problem(422, "The entry cannot be booked"),
    l.BookUnknown: Problem(404, "No such book"),
    l.FormatUnavailable: Problem(422, "This format cannot be written here"),
    l.NotRecorded: Problem(422, "That is not recorded yet"),
    l.TransferUnknown: Problem(404, "No such transfer between books"),
    l.Overloaded: Problem(503, "The service is overloaded", 1),
    l.WriterClosed: Problem(503, "The service is stopping", 2),
    l.LedgerUnavailable: Problem(503, "The books cannot be reached", 2),
    l.LimitFixed: Problem(409, "A limit of that name bounds something else"),
    l.FactRefused: Problem(409, "The account's state does not allow that"),
    l.DatabaseRefused: _INTERNAL,
    l.JournalUnreadable: _INTERNAL,
    l.EntryMissing: _INTERNAL,
    l.NotInTransaction: _INTERNAL,
    l.SourceConflict: Problem(409, "Another journal has this source"),
    l.AccountUnknown: Problem(404, "No such account"),
    l.AccountFrozen: Problem(409, "The account is frozen"),
    l.AccountClosed: Problem(409, "The account is closed"),
    l.PeriodClosed: Problem(409, "The period is closed"),
    l.InsufficientFunds: Problem(409, "Not enough is available"),
    l.VelocityExceeded: Problem(409, "A velocity limit is reached"),
    l.AmountTooLarge: Problem(422, "The amount is too large"),
    l.HoldUnknown: Problem(404, "No such hold"),
    l.HoldExists: Problem(409, "The hold exists already"),
    l.HoldEnded: Problem(409, "The hold has ended"),
    l.HoldExpired: Problem(409, "The hold has expired"),
    l.HoldNotExpired: Problem(409, "The hold has not expired yet"),
    l.HoldExceeded: Problem(409, "The amount is more than the hold allows"),
    l.AlreadyReversed: Problem(409, "The journal is reversed already"),
    l.JournalUnknown: Problem(404, "No such journal"),
    l.NotReversible: Problem(409, "The journal cannot be reversed"),
    l.StatementRefused: _INTERNAL,
    l.ProposalUnknown: Problem(404, "No such proposal"),
    l.ProposalConflict: Problem(409, "The id stands for another proposal"),
    l.ProposalDecided: Problem(409, "The proposal is decided already"),
    l.SamePerson: Problem(409, "Somebody else must decide"),
    l.PeriodNotOver: Problem(409, "The day is not over"),
    l.PeriodAlreadyClosed: Problem(409, "The day is closed already"),
    l.PeriodNotClosed: Problem(409, "There is nothing to reopen"),
    x.NothingSealed: Problem(409, "Nothing is in the log yet"),
    BookAltered: _INTERNAL,
    i.NotImportable: Problem(422, "No book can be made of this pack"),
    i.BookNotEmpty: Problem(409, "The book is not empty"),
    i.ImportDiffers: Problem(409, "The ledger does not take the pack"),
    k.LogKeyUnusable: _INTERNAL,
    n.NoteMalformed: _INTERNAL,
    n.SignatureInvalid: _INTERNAL,
    p.NotInLog: Problem(404, "The log has no such leaf or size"),
    l.ReopeningOutdated: Problem(409, "The period has changed since"),
}

# What a driver raises when the database is away, full or restarting, as against a bug in a query.
_DATABASE_AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.TimeoutError,
    ConnectionError,
)


def _from_validation(error: ValidationException) -> a.ApiError:
    """Litestar found a parameter missing or wrong."""
    found: list[dict[str, Any]] = error.extra if isinstance(error.extra, list) else []
    keys = {str(item.get("key", "")) for item in found}
    if "idempotency_key" in keys:
        return a.IdempotencyKeyMissing()
    if not found or "data" in keys:
        return a.MalformedRequest(
            "The body is missing" if "data" in keys else "A parameter is missing or malformed"
        )
    return a.ValidationFailed(tuple(_field_error(item) for item in found))


def _field_error(item: Mapping[str, Any]) -> a.FieldError:
    source = getattr(item.get("source"), "value", None) or str(item.get("source") or "query")
    return a.FieldError(f"{source}/{item.get('key', '')}", "invalid", str(item.get("message", "")))


def classified(error: Exception) -> Exception:
    """The error of ours that stands for ``error``; itself if it is ours or unknown."""
    match error:
        case NotFoundException():
            return a.RouteUnknown()
        case MethodNotAllowedException():
            return a.MethodNotAllowed((error.headers or {}).get("allow", ""))
        case RequestEntityTooLarge():
            return a.BodyTooLarge()
        case ValidationException():
            return _from_validation(error)
        case HTTPException() if error.status_code < 500:
            return a.MalformedRequest("The request cannot be read")
        case _ if isinstance(error, _DATABASE_AWAY):
            return a.DatabaseUnavailable()
        case _:
            return error


def problem_of(error: Exception) -> Problem:
    """The row of the nearest class in the table; 500 for what nobody has thought of."""
    return next((PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS), _INTERNAL)


def _headers(error: Exception, problem: Problem) -> dict[str, str]:
    headers: dict[str, str] = {}
    retry = getattr(error, "retry_after_s", None) or problem.retry_after_s
    if retry is not None:
        headers["Retry-After"] = str(retry)
    match error:
        case a.TokenMissing():
            headers["WWW-Authenticate"] = 'Bearer realm="khata"'
        case a.TokenInvalid():
            headers["WWW-Authenticate"] = 'Bearer realm="khata", error="invalid_token"'
        case a.ScopeMissing():
            headers["WWW-Authenticate"] = (
                f'Bearer realm="khata", error="insufficient_scope", scope="{error.scope}"'
            )
        case a.MethodNotAllowed():
            headers["Allow"] = error.allowed
        case _:
            pass
    return headers


def document(error: Exception, request_id: str) -> tuple[int, bytes, dict[str, str]]:
    """(status, problem document, headers) of any error at all."""
    ours = classified(error)
    item = ours if isinstance(ours, a.ItemRefused) else None
    if item is not None:
        ours = classified(item.reason)
    problem = problem_of(ours)
    code = str(getattr(ours, "code", "internal_error")) if problem is not _INTERNAL else "internal_error"
    body: dict[str, Any] = {
        "type": TYPE_PREFIX + code,
        "title": problem.title,
        "status": problem.status,
        "detail": str(ours) if problem.status < 500 or isinstance(ours, a.DatabaseUnavailable) else _BROKEN,
        "code": code,
        "instance": f"urn:uuid:{request_id}",
    }
    if problem.status == 503 and problem is not _INTERNAL:
        body["detail"] = f"{problem.title}; repeat the request, with the same Idempotency-Key, after a moment"
    if isinstance(ours, a.ValidationFailed):
        body["errors"] = [{"pointer": e.pointer, "code": e.code, "detail": e.detail} for e in ours.errors]
    if item is not None:
        body["errors"] = [{"pointer": item.pointer, "code": code, "detail": body["detail"]}]
    return problem.status, orjson.dumps(body), _headers(ours, problem)


def request_id_of(scope: Mapping[str, Any]) -> str:
    """Given to each request by ``api.edge``."""
    return str(scope.get("khata.request_id", "00000000-0000-0000-0000-000000000000"))


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything."""
    request_id = request_id_of(request.scope)
    status, body, headers = document(error, request_id)
    if status >= 500:
        report(error, request_id, status)
    note_denial(request, error)
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def note_denial(request: Request[Any, Any, Any], error: Exception) -> None:
    """Mark the request if ``error`` turns its caller away: a merchant's 404 may be somebody else's object."""
    ours = classified(error)
    ours = classified(ours.reason) if isinstance(ours, a.ItemRefused) else ours
    status = problem_of(ours).status
    merchant = getattr(request.scope.get("auth"), "merchant_id", None) is not None
    unfound = status == 404 and merchant and not isinstance(ours, a.RouteUnknown)
    if status in (401, 403) or unfound or isinstance(ours, a.ClientLocked):
        mark_denied(request, str(getattr(ours, "code", "internal_error")))


def mark_denied(request: Request[Any, Any, Any], code: str) -> None:
    cast("dict[str, Any]", request.scope)[DENIED] = code


def note_claim(request: Request[Any, Any, Any], client_id: str) -> None:
    """Whom the caller says to be, should that be denied; what is no client's id may be a secret in the wrong field."""
    if is_client_id(client_id):
        cast("dict[str, Any]", request.scope)[CLAIMED] = client_id


def report(error: Exception, request_id: str, status: int) -> None:
    """To our log: the class and, if nobody thought of it, where it came from. Never its arguments' values:
    a driver's message can repeat a row."""
    expected = status == 503
    log.log(
        30 if expected else 40,
        "request_failed",
        request_id=request_id,
        status=status,
        error=type(error).__qualname__,
        code=getattr(error, "code", None),
        frames=None if expected else _frames(error),
    )


def _frames(error: BaseException) -> list[str]:
    """File, line and function of each frame of ``error`` and of its causes; no source line, no value."""
    frames: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        trace = seen.__traceback__
        frames.append(type(seen).__qualname__)
        while trace is not None:
            code = trace.tb_frame.f_code
            frames.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
            trace = trace.tb_next
        seen = seen.__cause__ or seen.__context__
    return frames[-40:]
