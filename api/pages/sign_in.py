"""Signing in and out: with a client's id and secret, for now."""

from __future__ import annotations

from litestar import Response, get, post

from api.clients import Client
from api.errors import AudienceWrong, ClientLocked
from api.oauth.authenticate import Secret, authenticate
from api.operation import ApiRequest
from api.pages import cookies, sessions
from api.pages.errors import SIGN_IN
from api.pages.forms import LIMIT
from api.pages.render import page, see_other
from api.pages.viewer import NEEDED, guarded_form
from api.policy import public
from api.problems import mark_denied, note_claim

HOME = "/merchant"
_WRONG = (
    "The client id or the secret is wrong.",
    "After ten wrong tries, signing in is closed for 15 minutes.",
)
_LOCKED = (
    "Too many wrong tries.",
    "Signing in with this client id is closed for a while. Try again in 15 minutes.",
)
_UNFIT = (
    "This client cannot sign in here.",
    "It must belong to a merchant and may read payments, accounts and journals.",
)


@get(SIGN_IN, **public())
async def show_sign_in(request: ApiRequest) -> Response[bytes]:
    """The form. The browser gets a token before it signs in, so that the form is guarded like any other."""
    token = cookies.token_of(request)
    if not sessions.is_token(token):
        token = sessions.new_token(request.deps.gateway.random)
    return _form(request, token)


@post(SIGN_IN, status_code=303, request_max_body_size=LIMIT, **public())
async def sign_in(request: ApiRequest) -> Response[bytes]:
    """A new token for the session: whatever the browser held before it signed in is worth nothing after."""
    deps, old = request.deps, cookies.token_of(request)
    deps.token_rate.take(request.address)
    form = await guarded_form(request)
    client_id = form.get("client_id", "")
    proof = Secret(client_id, form.get("client_secret", ""))
    note_claim(request, client_id)
    now, token = deps.clock(), sessions.new_token(deps.gateway.random)
    async with deps.pool.connection() as conn:
        try:
            client = await authenticate(conn, deps.secrets, proof, address=request.address, now=now)
        except ClientLocked as locked:
            mark_denied(request, locked.code)
            return _form(request, old, 429, _LOCKED, client_id, retry_after_s=locked.retry_after_s)
        if client is not None and _may_read(client):
            await sessions.end(conn, old)
            await sessions.start(conn, token, client.client_id, now=now)
    if client is None:
        mark_denied(request, "invalid_client")
        return _form(request, old, 422, _WRONG, client_id)
    if not _may_read(client):
        mark_denied(request, AudienceWrong.code)
        return _form(request, old, 422, _UNFIT, client_id)
    answer = see_other(HOME)
    answer.set_cookie(cookies.holding(deps, token))
    return answer


@post("/merchant/sign-out", status_code=303, request_max_body_size=LIMIT, **public())
async def sign_out(request: ApiRequest) -> Response[bytes]:
    """The session is gone on our side, not only in the browser."""
    await guarded_form(request)
    async with request.deps.pool.connection() as conn:
        await sessions.end(conn, cookies.token_of(request))
    answer = see_other(SIGN_IN)
    answer.set_cookie(cookies.gone(request.deps))
    return answer


def _may_read(client: Client) -> bool:
    return client.merchant_id is not None and set(client.scopes) >= NEEDED


def _form(
    request: ApiRequest,
    token: str,
    status: int = 200,
    problem: tuple[str, str] = ("", ""),
    client_id: str = "",
    *,
    retry_after_s: int | None = None,
) -> Response[bytes]:
    answer = page(
        "merchant/sign_in.html",
        status=status,
        headers={} if retry_after_s is None else {"Retry-After": str(retry_after_s)},
        problem=problem[0],
        advice=problem[1],
        client_id=client_id[:64],
        csrf=sessions.csrf_token(token),
    )
    answer.set_cookie(cookies.holding(request.deps, token))
    return answer


routes = (show_sign_in, sign_in, sign_out)
