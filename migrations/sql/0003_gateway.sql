-- gateway: merchants, payments, attempts, operations, refunds, funds, card vault, events.
-- The constraints repeat the rules of gateway/: what the code would get wrong is refused here.

CREATE SCHEMA IF NOT EXISTS gateway;

CREATE DOMAIN gateway.currency AS char(3) CHECK (VALUE ~ '^[A-Z]{3}$');
CREATE DOMAIN gateway.minor AS bigint CHECK (VALUE BETWEEN 0 AND 1000000000000000);

CREATE SEQUENCE gateway.acceptor AS bigint;  -- the bank's names for a merchant and its terminal

CREATE TABLE gateway.merchant (
  id              uuid PRIMARY KEY,
  owner           text NOT NULL UNIQUE CHECK (owner ~ '^mer_[0-9a-z]{26}$'),  -- its public id, as in account paths
  book_id         bigint NOT NULL,
  name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  bank            text NOT NULL REFERENCES banks.bank,
  acceptor_id     text NOT NULL UNIQUE CHECK (acceptor_id ~ '^[A-Z0-9]{1,15}$'),
  terminal_id     text NOT NULL UNIQUE CHECK (terminal_id ~ '^[A-Z0-9]{1,8}$'),
  currencies      text[] NOT NULL CHECK (cardinality(currencies) BETWEEN 1 AND 50),
  settlement_days integer NOT NULL CHECK (settlement_days BETWEEN 0 AND 60),
  tolerance_bps   integer NOT NULL CHECK (tolerance_bps BETWEEN 0 AND 10000),
  fee_returned    boolean NOT NULL,
  created_at      timestamptz NOT NULL
);

CREATE TABLE gateway.fee_plan (
  merchant_id uuid NOT NULL REFERENCES gateway.merchant,
  method      text NOT NULL CHECK (method IN ('card')),
  currency    gateway.currency NOT NULL,
  bps         integer NOT NULL CHECK (bps BETWEEN 0 AND 10000),
  fixed       gateway.minor NOT NULL,
  gst_bps     integer NOT NULL CHECK (gst_bps BETWEEN 0 AND 10000),
  PRIMARY KEY (merchant_id, method, currency)
);

CREATE TABLE gateway.vault_card (
  token       text PRIMARY KEY CHECK (token ~ '^card_[0-9a-z]{26}$'),
  merchant_id uuid NOT NULL REFERENCES gateway.merchant,
  key_id      text NOT NULL,                                    -- of the key that wraps this card's own key
  wrapped_key bytea NOT NULL CHECK (length(wrapped_key) = 60),  -- nonce, AES-256-GCM of 32 bytes, tag
  sealed      bytea NOT NULL CHECK (length(sealed) > 28),       -- nonce, AES-256-GCM of number and expiry, tag
  fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),  -- HMAC: the same card of the same merchant
  brand       text NOT NULL,
  last4       text NOT NULL CHECK (last4 ~ '^[0-9]{4}$'),
  created_at  timestamptz NOT NULL
);
CREATE INDEX ON gateway.vault_card (merchant_id, fingerprint);
CREATE INDEX ON gateway.vault_card (key_id);

CREATE TABLE gateway.payment (
  id             uuid PRIMARY KEY,
  merchant_id    uuid NOT NULL REFERENCES gateway.merchant,
  book_id        bigint NOT NULL,
  status         text NOT NULL CHECK (status IN (
                   'requires_payment_method', 'requires_action', 'processing', 'requires_capture',
                   'partially_captured', 'succeeded', 'canceled', 'expired', 'failed')),
  ended          text CHECK (ended IN ('canceled', 'expired')),
  amount         gateway.minor NOT NULL CHECK (amount > 0),
  currency       gateway.currency NOT NULL,
  capture_method text NOT NULL CHECK (capture_method IN ('automatic', 'manual')),
  method         text NOT NULL CHECK (method IN ('card')),
  fee_bps        integer NOT NULL CHECK (fee_bps BETWEEN 0 AND 10000),
  fee_fixed      gateway.minor NOT NULL,
  gst_bps        integer NOT NULL CHECK (gst_bps BETWEEN 0 AND 10000),
  fee_returned   boolean NOT NULL,
  tolerance_bps  integer NOT NULL CHECK (tolerance_bps BETWEEN 0 AND 10000),
  max_attempts   integer NOT NULL CHECK (max_attempts BETWEEN 1 AND 100),
  hold_valid_s   integer NOT NULL CHECK (hold_valid_s > 0),
  authorized     gateway.minor NOT NULL,
  capturing      gateway.minor NOT NULL,
  captured       gateway.minor NOT NULL,
  voiding        gateway.minor NOT NULL,
  voided         gateway.minor NOT NULL,
  refunding      gateway.minor NOT NULL,
  refunded       gateway.minor NOT NULL,
  unknown_since  timestamptz,
  next_check_at  timestamptz,
  reference      text NOT NULL CHECK (length(reference) <= 64),
  description    text NOT NULL CHECK (length(description) <= 500),
  metadata       jsonb NOT NULL CHECK (jsonb_typeof(metadata) = 'object'),
  created_at     timestamptz NOT NULL,
  expires_at     timestamptz NOT NULL CHECK (expires_at > created_at),
  updated_at     timestamptz NOT NULL,
  version        bigint NOT NULL CHECK (version >= 0),
  -- What was captured and given back, and what may yet be, never exceeds what was authorized with its tolerance.
  CHECK ((captured + capturing + voided + voiding)::numeric * 10000 <= authorized::numeric * (10000 + tolerance_bps)),
  CHECK (refunded + refunding <= captured),
  CHECK (ended IS NULL OR authorized = 0)
);
CREATE INDEX ON gateway.payment (merchant_id, id DESC);
CREATE INDEX payment_unpaid ON gateway.payment (expires_at)
  WHERE status IN ('requires_payment_method', 'requires_action');

CREATE TABLE gateway.attempt (
  id              uuid PRIMARY KEY,  -- also the id of its hold in the ledger
  payment_id      uuid NOT NULL REFERENCES gateway.payment,
  merchant_id     uuid NOT NULL REFERENCES gateway.merchant,
  number          integer NOT NULL CHECK (number >= 1),
  state           text NOT NULL CHECK (state IN (
                    'started', 'action_required', 'authorizing', 'authorized', 'capturing', 'captured', 'voiding',
                    'voided', 'declined', 'reversed', 'expired', 'unknown', 'conflicted')),
  bank            text NOT NULL REFERENCES banks.bank,
  method          text NOT NULL CHECK (method IN ('card')),
  token           text NOT NULL REFERENCES gateway.vault_card,
  brand           text NOT NULL,
  last4           text NOT NULL CHECK (last4 ~ '^[0-9]{4}$'),
  created_at      timestamptz NOT NULL,
  hold_expires_at timestamptz,
  expired_at      timestamptz CHECK (expired_at >= hold_expires_at),
  UNIQUE (payment_id, number)
);
CREATE INDEX attempt_holding ON gateway.attempt (hold_expires_at) WHERE state = 'authorized';

CREATE TABLE gateway.operation (
  id                 uuid PRIMARY KEY,
  payment_id         uuid NOT NULL REFERENCES gateway.payment,
  attempt_id         uuid NOT NULL REFERENCES gateway.attempt,
  merchant_id        uuid NOT NULL REFERENCES gateway.merchant,
  kind               text NOT NULL CHECK (kind IN (
                       'authorize', 'sale', 'increment', 'capture', 'void', 'reversal', 'refund', 'enquiry')),
  state              text NOT NULL CHECK (state IN (
                       'created', 'sending', 'approved', 'declined', 'not_sent', 'pending', 'unknown', 'reversed',
                       'not_found', 'resolved_by_file', 'resolved_by_operator')),
  bank               text NOT NULL REFERENCES banks.bank,
  stan               text NOT NULL CHECK (stan ~ '^[0-9]{6}$'),
  rrn                text NOT NULL CHECK (rrn ~ '^[0-9A-Z]{12}$'),
  transmitted_at     timestamptz NOT NULL,
  amount             gateway.minor NOT NULL CHECK (amount > 0),
  target_id          uuid REFERENCES gateway.operation,
  final              boolean NOT NULL,
  authorization_code text CHECK (length(authorization_code) <= 6),
  response_code      text CHECK (length(response_code) <= 10),
  reason             text CHECK (length(reason) <= 200),
  retryable          boolean NOT NULL,
  conflicted         boolean NOT NULL,
  fee                gateway.minor NOT NULL,
  tax                gateway.minor NOT NULL,
  tries              integer NOT NULL CHECK (tries >= 0),
  unknown_since      timestamptz,
  next_check_at      timestamptz,
  review             boolean NOT NULL,
  created_at         timestamptz NOT NULL,
  ended_at           timestamptz,
  UNIQUE (bank, rrn),                    -- the reference that identifies it there
  UNIQUE (bank, stan, transmitted_at),
  CHECK (state <> 'unknown' OR unknown_since IS NOT NULL),
  CHECK ((ended_at IS NULL) = (state IN ('created', 'sending', 'pending', 'unknown'))),
  CHECK (ended_at IS NULL OR next_check_at IS NULL)
);
CREATE INDEX ON gateway.operation (payment_id);
CREATE UNIQUE INDEX operation_one_authorization ON gateway.operation (attempt_id) WHERE kind IN ('authorize', 'sale');
CREATE UNIQUE INDEX operation_one_void ON gateway.operation (attempt_id)
  WHERE kind = 'void' AND state IN ('created', 'sending', 'pending', 'unknown');
CREATE UNIQUE INDEX operation_one_reversal ON gateway.operation (target_id) WHERE kind = 'reversal';
CREATE INDEX operation_due ON gateway.operation (next_check_at) WHERE next_check_at IS NOT NULL;
CREATE INDEX operation_review ON gateway.operation (created_at) WHERE review;

CREATE TABLE gateway.refund (
  id             uuid PRIMARY KEY,
  payment_id     uuid NOT NULL REFERENCES gateway.payment,
  merchant_id    uuid NOT NULL REFERENCES gateway.merchant,
  operation_id   uuid NOT NULL UNIQUE REFERENCES gateway.operation,
  currency       gateway.currency NOT NULL,
  reason         text NOT NULL CHECK (length(reason) <= 200),
  from_pending   gateway.minor NOT NULL,
  from_available gateway.minor NOT NULL,
  from_debt      gateway.minor NOT NULL,
  created_at     timestamptz NOT NULL
);
CREATE INDEX ON gateway.refund (payment_id);

CREATE TABLE gateway.release (
  id          uuid PRIMARY KEY,
  merchant_id uuid NOT NULL REFERENCES gateway.merchant,
  currency    gateway.currency NOT NULL,
  amount      gateway.minor NOT NULL,
  released_on date NOT NULL,
  created_at  timestamptz NOT NULL
);
CREATE INDEX ON gateway.release (merchant_id, id DESC);

-- What a capture left in the merchant's Pending account; the open rows of a merchant sum to that account.
CREATE TABLE gateway.fund (
  operation_id uuid PRIMARY KEY REFERENCES gateway.operation,
  payment_id   uuid NOT NULL REFERENCES gateway.payment,
  merchant_id  uuid NOT NULL REFERENCES gateway.merchant,
  book_id      bigint NOT NULL,
  currency     gateway.currency NOT NULL,
  net          gateway.minor NOT NULL,
  taken        gateway.minor NOT NULL CHECK (taken <= net),  -- by refunds
  release_id   uuid REFERENCES gateway.release,
  created_at   timestamptz NOT NULL
);
CREATE INDEX ON gateway.fund (payment_id);
CREATE INDEX fund_open ON gateway.fund (merchant_id, currency) WHERE release_id IS NULL;

CREATE TABLE gateway.idempotency (
  merchant_id  uuid NOT NULL REFERENCES gateway.merchant,
  route        text NOT NULL CHECK (length(route) <= 100),
  key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  request_hash bytea NOT NULL CHECK (length(request_hash) = 32),
  object_kind  text NOT NULL CHECK (object_kind IN ('payment', 'refund')),
  object_id    uuid NOT NULL,
  lease_until  timestamptz NOT NULL,
  status       integer CHECK (status BETWEEN 200 AND 599),
  body         bytea,
  created_at   timestamptz NOT NULL,
  PRIMARY KEY (merchant_id, route, key),
  CHECK ((status IS NULL) = (body IS NULL))
);
CREATE INDEX ON gateway.idempotency (created_at);

CREATE TABLE gateway.event (
  id          uuid PRIMARY KEY,
  merchant_id uuid NOT NULL REFERENCES gateway.merchant,
  type        text NOT NULL CHECK (type ~ '^[a-z_]+\.[a-z_]+$'),
  object_id   text NOT NULL,
  payload     jsonb NOT NULL,
  created_at  timestamptz NOT NULL
);
CREATE INDEX ON gateway.event (merchant_id, id);

CREATE TABLE gateway.checkout_session (
  token_hash  bytea PRIMARY KEY CHECK (length(token_hash) = 32),  -- the token itself is with the customer only
  merchant_id uuid NOT NULL REFERENCES gateway.merchant,
  payment_id  uuid NOT NULL REFERENCES gateway.payment,
  return_url  text NOT NULL CHECK (length(return_url) <= 2000),
  created_at  timestamptz NOT NULL,
  expires_at  timestamptz NOT NULL
);
CREATE INDEX ON gateway.checkout_session (payment_id);

-- Who reads: a merchant's own login sees its rows; without the setting khata.owner it sees none.
CREATE FUNCTION gateway.reader() RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
  SELECT id FROM gateway.merchant WHERE owner = current_setting('khata.owner', true)
$$;
REVOKE ALL ON FUNCTION gateway.reader() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gateway.reader() TO khata_merchant;

DO $$
DECLARE
  readable text[] := ARRAY['merchant', 'fee_plan', 'payment', 'attempt', 'operation', 'refund', 'release', 'fund', 'event'];
  name text;
BEGIN
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'gateway' LOOP
    EXECUTE format('ALTER TABLE gateway.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY app ON gateway.%I TO khata_app USING (true) WITH CHECK (true)', name);
    EXECUTE format('CREATE POLICY audit ON gateway.%I FOR SELECT TO khata_audit USING (true)', name);
    IF name = ANY (readable) THEN
      EXECUTE format('CREATE POLICY own ON gateway.%I FOR SELECT TO khata_merchant USING (%I = gateway.reader())',
                     name, CASE name WHEN 'merchant' THEN 'id' ELSE 'merchant_id' END);
      EXECUTE format('GRANT SELECT ON gateway.%I TO khata_merchant', name);
    END IF;
  END LOOP;
END $$;

GRANT USAGE ON SCHEMA gateway TO khata_app, khata_audit, khata_merchant;
GRANT USAGE ON SEQUENCE gateway.acceptor TO khata_app;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA gateway TO khata_app;
GRANT SELECT ON ALL TABLES IN SCHEMA gateway TO khata_audit;
-- Sealed card data and stored answers are nobody's to read but the application's.
REVOKE SELECT ON gateway.vault_card, gateway.idempotency, gateway.checkout_session FROM khata_audit;
GRANT SELECT (token, merchant_id, key_id, brand, last4, created_at) ON gateway.vault_card TO khata_audit;
-- Facts stay; only what a state is made of may change, and nothing is ever deleted.
GRANT UPDATE (status, ended, authorized, capturing, captured, voiding, voided, refunding, refunded, unknown_since,
              next_check_at, updated_at, version) ON gateway.payment TO khata_app;
GRANT UPDATE (state, hold_expires_at, expired_at) ON gateway.attempt TO khata_app;
GRANT UPDATE (state, authorization_code, response_code, reason, retryable, conflicted, fee, tax, tries, unknown_since,
              next_check_at, review, ended_at) ON gateway.operation TO khata_app;
GRANT UPDATE (taken, release_id) ON gateway.fund TO khata_app;
GRANT UPDATE (status, body) ON gateway.idempotency TO khata_app;
GRANT UPDATE (key_id, wrapped_key) ON gateway.vault_card TO khata_app;
