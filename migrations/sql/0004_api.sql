-- Who may call the API, and the keys their access tokens are signed with. No secret is stored in the clear:
-- client secrets as HMAC-SHA256 under a pepper the database never sees, private keys sealed with AES-256-GCM.

CREATE TABLE api.client (
    client_id   text PRIMARY KEY CHECK (client_id ~ '^cli_[a-z2-7]{26}$'),
    name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    merchant_id uuid,                                   -- null: a platform client (auditor, operator)
    scopes      text[] NOT NULL CHECK (cardinality(scopes) > 0),
    public_keys jsonb,                                  -- JWKS of a private_key_jwt client
    status      text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    created_at  timestamptz NOT NULL
);
CREATE INDEX client_by_merchant ON api.client (merchant_id);

-- Several at a time, so that a secret can be changed while both are in use.
CREATE TABLE api.client_secret (
    client_id  text NOT NULL REFERENCES api.client,
    secret_mac bytea NOT NULL CHECK (octet_length(secret_mac) = 32),
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (client_id, secret_mac)
);

-- Counted by client and address: a stranger who knows a client id locks out himself, not the client.
CREATE TABLE api.failed_attempt (
    client_id    text NOT NULL REFERENCES api.client,
    address      text NOT NULL,
    failures     integer NOT NULL CHECK (failures > 0),
    locked_until timestamptz,
    last_at      timestamptz NOT NULL,
    PRIMARY KEY (client_id, address)
);
CREATE INDEX failed_attempt_by_age ON api.failed_attempt (last_at);

-- A client assertion (RFC 7523) is good once.
CREATE TABLE api.used_assertion (
    client_id  text NOT NULL REFERENCES api.client,
    jti_hash   bytea NOT NULL CHECK (octet_length(jti_hash) = 32),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (client_id, jti_hash)
);
CREATE INDEX used_assertion_by_age ON api.used_assertion (expires_at);

-- A key is published before it signs and stays published until its last token has expired.
CREATE TABLE api.signing_key (
    kid             text PRIMARY KEY CHECK (length(kid) BETWEEN 1 AND 64),
    public_key      jsonb NOT NULL,
    sealed_private  bytea NOT NULL,
    created_at      timestamptz NOT NULL,
    signs_from      timestamptz NOT NULL,
    published_until timestamptz,
    CHECK (signs_from >= created_at),
    CHECK (published_until IS NULL OR published_until > signs_from)
);

-- First answers of the POSTs that are not the gateway's (holds, checkout sessions). The row is written with the effect; the answer,
-- read off the books right after it, is filled in once and never changes.
CREATE TABLE api.idempotency (
    caller       text NOT NULL CHECK (length(caller) BETWEEN 1 AND 64),   -- the merchant, or a platform client
    route        text NOT NULL CHECK (length(route) BETWEEN 1 AND 100),
    key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_hash bytea NOT NULL CHECK (octet_length(request_hash) = 32),
    status       integer CHECK (status BETWEEN 200 AND 499),
    sealed_body  bytea,                                                   -- AES-256-GCM
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (caller, route, key),
    CHECK ((status IS NULL) = (sealed_body IS NULL))
);
CREATE INDEX idempotency_by_age ON api.idempotency (created_at);

GRANT USAGE ON SCHEMA api TO khata_app, khata_audit;
GRANT SELECT, INSERT ON api.client, api.client_secret, api.signing_key TO khata_app;
GRANT UPDATE (name, scopes, public_keys, status) ON api.client TO khata_app;
GRANT UPDATE (expires_at) ON api.client_secret TO khata_app;
GRANT UPDATE (published_until) ON api.signing_key TO khata_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON api.failed_attempt TO khata_app;
GRANT SELECT, INSERT, DELETE ON api.used_assertion TO khata_app;
GRANT SELECT, INSERT, DELETE ON api.idempotency TO khata_app;
GRANT UPDATE (status, sealed_body) ON api.idempotency TO khata_app;
-- An auditor sees who may call and which keys signed, never the sealed keys or the secrets' codes.
GRANT SELECT ON api.client, api.failed_attempt TO khata_audit;
GRANT SELECT (client_id, created_at, expires_at) ON api.client_secret TO khata_audit;
GRANT SELECT (kid, public_key, created_at, signs_from, published_until) ON api.signing_key TO khata_audit;

-- Pages (api/pages): browsers that a merchant has signed in. Only a hash of the cookie is kept.
CREATE TABLE api.web_session (
    token_hash   bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    client_id    text NOT NULL REFERENCES api.client,
    created_at   timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    CHECK (last_seen_at >= created_at),
    CHECK (expires_at > created_at)
);
CREATE INDEX web_session_by_age ON api.web_session (expires_at);
GRANT SELECT, INSERT, DELETE ON api.web_session TO khata_app;
GRANT UPDATE (last_seen_at) ON api.web_session TO khata_app;
GRANT SELECT (client_id, created_at, last_seen_at, expires_at) ON api.web_session TO khata_audit;
