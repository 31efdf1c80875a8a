-- Payments are written by the batch: what many requests write is one call, given as a JSON array with one object a
-- request. Rows are objects with the columns' names; a bytea is text ('\x…').
-- Both functions run with their caller's rights: grants, policies and constraints of the tables hold as ever.
-- Everything is found by key, however young the tables or old the plan.

-- Begins payments, each object all or nothing: {id, merchant_id, currency, terms} and arrays of rows {key, card,
-- payment, attempt, operation, event}. An object whose terms are no longer those of its merchant is not among the
-- rows returned; one whose key somebody else has (or had) does not stand.
CREATE FUNCTION gateway.open_payments(asked jsonb) RETURNS TABLE (payment_id uuid, stands boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$ DECLARE
  fresh uuid[];
  keyed uuid[];
  claimed uuid[];
  standing uuid[];
BEGIN
  -- A row's xmin is the transaction that wrote it as it is.
  SELECT array_agg(r.id) INTO fresh
    FROM jsonb_to_recordset(asked) AS r (id uuid, merchant_id uuid, currency text, terms text)
   CROSS JOIN LATERAL (SELECT xmin::text AS version FROM gateway.merchant WHERE id = r.merchant_id OFFSET 0) AS m
   CROSS JOIN LATERAL (
     SELECT xmin::text AS version FROM gateway.fee_plan
      WHERE merchant_id = r.merchant_id AND method = 'card' AND currency = r.currency OFFSET 0) AS f
   WHERE r.terms = m.version || ':' || f.version;

  SELECT array_agg(k.object_id) INTO keyed
    FROM jsonb_to_recordset(jsonb_path_query_array(asked, '$[*].key[*]')) AS k (object_id uuid);
  -- In one order of keys, so that two processes given the same ones do not wait for each other in a circle.
  WITH made AS (
    INSERT INTO gateway.idempotency
    SELECT k.* FROM jsonb_populate_recordset(NULL::gateway.idempotency,
                                             jsonb_path_query_array(asked, '$[*].key[*]')) AS k
     WHERE k.object_id = ANY (fresh)
     ORDER BY k.merchant_id, k.route, k.key
    ON CONFLICT DO NOTHING RETURNING object_id)
  SELECT array_agg(object_id) INTO claimed FROM made;

  standing := ARRAY (SELECT id FROM unnest(fresh) AS f (id)
                      WHERE id <> ALL (coalesce(keyed, '{}')) OR id = ANY (claimed));
  IF cardinality(standing) < jsonb_array_length(asked) THEN
    asked := coalesce((SELECT jsonb_agg(o) FROM jsonb_array_elements(asked) AS o
                        WHERE (o ->> 'id')::uuid = ANY (standing)), '[]');
  END IF;

  INSERT INTO gateway.vault_card SELECT * FROM jsonb_populate_recordset(
    NULL::gateway.vault_card, jsonb_path_query_array(asked, '$[*].card[*]'));
  INSERT INTO gateway.payment SELECT * FROM jsonb_populate_recordset(
    NULL::gateway.payment, jsonb_path_query_array(asked, '$[*].payment[*]'));
  INSERT INTO gateway.attempt SELECT * FROM jsonb_populate_recordset(
    NULL::gateway.attempt, jsonb_path_query_array(asked, '$[*].attempt[*]'));
  INSERT INTO gateway.operation SELECT * FROM jsonb_populate_recordset(
    NULL::gateway.operation, jsonb_path_query_array(asked, '$[*].operation[*]'));
  INSERT INTO gateway.event SELECT * FROM jsonb_populate_recordset(
    NULL::gateway.event, jsonb_path_query_array(asked, '$[*].event[*]'));
  RETURN QUERY SELECT id, id = ANY (standing) FROM unnest(fresh) AS f (id);
END $$;

-- Changes payments: {payment, attempt, operation, new_attempt, new_operation, fund, expected, event, answer}, each
-- an array of rows or missing. A row of the first three is one that must be there as its was_… say; the function
-- returns as many rows as were, and the caller who counts fewer rolls back. Payments first, and what belongs to
-- them after: everybody takes locks in this order.
CREATE FUNCTION gateway.change_payments(changes jsonb) RETURNS SETOF boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$ DECLARE
  payments bigint;
  attempts bigint;
  operations bigint;
BEGIN
  -- Rows are found one by one (OFFSET 0) and changed together. Joined at once, a few rows with a young table would be
  -- planned to read all of that table; changed one by one, each would have the table's checks prepared anew. What
  -- somebody else changes meanwhile is not where it was found, and is not changed: its version or state is another.
  UPDATE gateway.payment AS t
     SET status = r.status, ended = r.ended, authorized = r.authorized, capturing = r.capturing,
         captured = r.captured, voiding = r.voiding, voided = r.voided, refunding = r.refunding,
         refunded = r.refunded, unknown_since = r.unknown_since, next_check_at = r.next_check_at,
         updated_at = r.updated_at, version = r.version
    FROM jsonb_to_recordset(jsonb_path_query_array(changes, '$[*].payment[*]')) AS r (
           id uuid, was_version bigint, was_status text, status text, ended text, authorized bigint,
           capturing bigint, captured bigint, voiding bigint, voided bigint, refunding bigint, refunded bigint,
           unknown_since timestamptz, next_check_at timestamptz, updated_at timestamptz, version bigint)
   CROSS JOIN LATERAL (
     SELECT p.ctid AS place FROM gateway.payment p
      WHERE p.id = r.id AND p.version = r.was_version AND p.status = r.was_status OFFSET 0) AS found
   WHERE t.ctid = found.place;
  GET DIAGNOSTICS payments = ROW_COUNT;

  UPDATE gateway.attempt AS t
     SET state = r.state, hold_expires_at = r.hold_expires_at, expired_at = r.expired_at
    FROM jsonb_to_recordset(jsonb_path_query_array(changes, '$[*].attempt[*]')) AS r (
           id uuid, was_state text, state text, hold_expires_at timestamptz, expired_at timestamptz)
   CROSS JOIN LATERAL (
     SELECT p.ctid AS place FROM gateway.attempt p WHERE p.id = r.id AND p.state = r.was_state OFFSET 0) AS found
   WHERE t.ctid = found.place;
  GET DIAGNOSTICS attempts = ROW_COUNT;

  -- Recovery, which does not lock the payment, may be claiming them: that changes no state, and is waited for here.
  PERFORM FROM jsonb_to_recordset(jsonb_path_query_array(changes, '$[*].operation[*]')) AS r (id uuid)
    CROSS JOIN LATERAL (SELECT FROM gateway.operation p WHERE p.id = r.id FOR NO KEY UPDATE) AS locked;
  UPDATE gateway.operation AS t
     SET state = r.state, authorization_code = r.authorization_code, response_code = r.response_code,
         reason = r.reason, retryable = r.retryable, conflicted = r.conflicted, fee = r.fee, tax = r.tax,
         tries = r.tries, unknown_since = r.unknown_since, next_check_at = r.next_check_at, review = r.review,
         ended_at = r.ended_at
    FROM jsonb_to_recordset(jsonb_path_query_array(changes, '$[*].operation[*]')) AS r (
           id uuid, was_state text, state text, authorization_code text, response_code text, reason text,
           retryable boolean, conflicted boolean, fee bigint, tax bigint, tries integer,
           unknown_since timestamptz, next_check_at timestamptz, review boolean, ended_at timestamptz)
   CROSS JOIN LATERAL (
     SELECT p.ctid AS place FROM gateway.operation p WHERE p.id = r.id AND p.state = r.was_state OFFSET 0) AS found
   WHERE t.ctid = found.place;
  GET DIAGNOSTICS operations = ROW_COUNT;

  INSERT INTO gateway.attempt SELECT * FROM jsonb_populate_recordset(
    NULL::gateway.attempt, jsonb_path_query_array(changes, '$[*].new_attempt[*]'));
  INSERT INTO gateway.operation SELECT * FROM jsonb_populate_recordset(
    NULL::gateway.operation, jsonb_path_query_array(changes, '$[*].new_operation[*]'));
  INSERT INTO gateway.fund SELECT * FROM jsonb_populate_recordset(
    NULL::gateway.fund, jsonb_path_query_array(changes, '$[*].fund[*]'));
  INSERT INTO banks.expected_item SELECT * FROM jsonb_populate_recordset(
    NULL::banks.expected_item, jsonb_path_query_array(changes, '$[*].expected[*]'));
  INSERT INTO gateway.event SELECT * FROM jsonb_populate_recordset(
    NULL::gateway.event, jsonb_path_query_array(changes, '$[*].event[*]'));
  -- Not counted: a retry after the lease may have answered first, and then that answer stays.
  UPDATE gateway.idempotency AS t SET status = r.status, body = r.body
    FROM jsonb_to_recordset(jsonb_path_query_array(changes, '$[*].answer[*]')) AS r (
           merchant_id uuid, route text, key text, status integer, body bytea)
   CROSS JOIN LATERAL (
     SELECT p.ctid AS place FROM gateway.idempotency p
      WHERE p.merchant_id = r.merchant_id AND p.route = r.route AND p.key = r.key AND p.status IS NULL
     OFFSET 0) AS found
   WHERE t.ctid = found.place;
  RETURN QUERY SELECT true FROM generate_series(1, payments + attempts + operations);
END $$;

REVOKE ALL ON FUNCTION gateway.open_payments(jsonb), gateway.change_payments(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gateway.open_payments(jsonb), gateway.change_payments(jsonb) TO khata_app;
