"""The tables of schema ``gateway`` as SQLAlchemy Core sees them; the law is migrations/sql/0003_gateway.sql."""

# pyright: reportArgumentType=false, reportCallIssue=false
# SQLAlchemy's Column is generic in its type; a table of column groups is not expressible in it.

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

METADATA = MetaData(schema="gateway")

_TYPES = {
    "uuid": UUID(as_uuid=True),
    "text": Text(),
    "int": Integer(),
    "minor": BigInteger(),
    "flag": Boolean(),
    "time": DateTime(timezone=True),
    "date": Date(),
    "bytes": LargeBinary(),
    "json": JSONB(),
    "texts": ARRAY(Text()),
}


def _table(name: str, key: str, **columns: str) -> Table:
    """A table whose columns are given as groups: ``uuid="id merchant_id", text="name"``."""
    keys = key.split()
    made = [
        Column(column, _TYPES[group], primary_key=column in keys)
        for group, names in columns.items()
        for column in names.split()
    ]
    return Table(name, METADATA, *made)


merchant = _table(
    "merchant",
    "id",
    uuid="id",
    text="owner name bank acceptor_id terminal_id",
    minor="book_id",
    int="settlement_days tolerance_bps",
    texts="currencies",
    flag="fee_returned",
    time="created_at",
)
fee_plan = _table(
    "fee_plan",
    "merchant_id method currency",
    uuid="merchant_id",
    text="method currency",
    int="bps gst_bps",
    minor="fixed",
)
vault_card = _table(
    "vault_card",
    "token",
    text="token key_id brand last4",
    uuid="merchant_id",
    bytes="wrapped_key sealed fingerprint",
    time="created_at",
)
payment = _table(
    "payment",
    "id",
    uuid="id merchant_id",
    text="status ended currency capture_method method reference description",
    int="fee_bps gst_bps tolerance_bps max_attempts hold_valid_s",
    minor="book_id amount fee_fixed authorized capturing captured voiding voided refunding refunded version",
    flag="fee_returned",
    json="metadata",
    time="unknown_since next_check_at created_at expires_at updated_at",
)
attempt = _table(
    "attempt",
    "id",
    uuid="id payment_id merchant_id",
    int="number",
    text="state bank method token brand last4",
    time="created_at hold_expires_at expired_at",
)
operation = _table(
    "operation",
    "id",
    uuid="id payment_id attempt_id merchant_id target_id",
    text="kind state bank stan rrn authorization_code response_code reason",
    minor="amount fee tax",
    int="tries",
    flag="final retryable conflicted review",
    time="transmitted_at unknown_since next_check_at created_at ended_at",
)
refund = _table(
    "refund",
    "id",
    uuid="id payment_id merchant_id operation_id",
    text="currency reason",
    minor="from_pending from_available from_debt",
    time="created_at",
)
release = _table(
    "release",
    "id",
    uuid="id merchant_id",
    text="currency",
    minor="amount",
    date="released_on",
    time="created_at",
)
fund = _table(
    "fund",
    "operation_id",
    uuid="operation_id payment_id merchant_id release_id",
    text="currency",
    minor="book_id net taken",
    time="created_at",
)
idempotency = _table(
    "idempotency",
    "merchant_id route key",
    uuid="merchant_id object_id",
    text="route key object_kind",
    bytes="request_hash body",
    int="status",
    time="lease_until created_at",
)
event = _table(
    "event",
    "id",
    uuid="id merchant_id",
    text="type object_id",
    json="payload",
    time="created_at",
)
checkout_session = _table(
    "checkout_session",
    "token_hash",
    bytes="token_hash",
    uuid="merchant_id payment_id",
    text="return_url",
    time="created_at expires_at",
)
