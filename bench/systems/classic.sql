-- The usual hand-rolled ledger, fairly written: accounts, payments, entries and one function call a payment.
-- Kept in its favour: one prepared call a payment, locks in one order (no deadlocks), ascending keys, HOT balance
-- updates, and no foreign keys on the entries (they would cost it more; measured in docs/adr/0005).

CREATE SCHEMA classic;

CREATE TABLE classic.account (
  id       integer PRIMARY KEY,
  path     text NOT NULL UNIQUE,
  currency text NOT NULL,
  balance  bigint NOT NULL DEFAULT 0,
  floor    bigint
) WITH (fillfactor = 50);

CREATE TABLE classic.payment (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  idempotency_key text NOT NULL UNIQUE,
  metadata        jsonb NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE classic.entry (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  payment_id    bigint NOT NULL,
  account_id    integer NOT NULL,
  amount        bigint NOT NULL CHECK (amount <> 0),
  balance_after bigint NOT NULL
);
CREATE INDEX entry_account ON classic.entry (account_id, id);

-- The payment's id; of a known key, the payment that exists. Raises when the payer's floor forbids it.
CREATE FUNCTION classic.pay(key text, payer integer, payee integer, amount bigint, about jsonb) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  new_id bigint;
  payer_before bigint;
  payee_before bigint;
  payer_floor bigint;
  a record;
BEGIN
  FOR a IN SELECT id, balance, floor FROM classic.account WHERE id IN (payer, payee) ORDER BY id FOR UPDATE LOOP
    IF a.id = payer THEN
      payer_before := a.balance;
      payer_floor := a.floor;
    ELSE
      payee_before := a.balance;
    END IF;
  END LOOP;
  INSERT INTO classic.payment (idempotency_key, metadata) VALUES (key, about)
  ON CONFLICT (idempotency_key) DO NOTHING RETURNING id INTO new_id;
  IF new_id IS NULL THEN
    RETURN (SELECT id FROM classic.payment WHERE idempotency_key = key);
  END IF;
  IF payer_before - amount < payer_floor THEN
    RAISE EXCEPTION 'insufficient funds' USING ERRCODE = 'P0402';
  END IF;
  INSERT INTO classic.entry (payment_id, account_id, amount, balance_after)
  VALUES (new_id, payer, -amount, payer_before - amount), (new_id, payee, amount, payee_before + amount);
  UPDATE classic.account SET balance = balance + CASE WHEN id = payer THEN -amount ELSE amount END
   WHERE id IN (payer, payee);
  RETURN new_id;
END $$;

GRANT USAGE ON SCHEMA classic TO khata_app;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA classic TO khata_app;
GRANT EXECUTE ON FUNCTION classic.pay TO khata_app;
