-- What people do to the books: the log of their acts, procedures that need two of them, closing and reopening periods.
-- Everything here is written by functions that take the book's lock first, as every writer does.

-- ---------------------------------------------------------------- acts

-- One row a deed, numbered without gaps. leaf_hash covers the other columns (ledger.act_line).
CREATE TABLE ledger.act (
  book_id     integer NOT NULL REFERENCES ledger.book,
  act         bigint NOT NULL CHECK (act > 0),
  recorded_at timestamptz NOT NULL,
  person      text COLLATE "C" NOT NULL CHECK (person ~ '^[!-~]{1,64}$'),
  action      text COLLATE "C" NOT NULL CHECK (action ~ '^[a-z][a-z0-9_]{0,39}$'),
  subject     text COLLATE "C" NOT NULL CHECK (length(subject) BETWEEN 1 AND 600),   -- what it was done to: a path, an id, a day
  reason      text NOT NULL CHECK (reason ~ '[^[:space:]]' AND length(reason) <= 500),
  detail      text COLLATE "C" NOT NULL,   -- one line of RFC 8785 JSON
  leaf_hash   bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
  PRIMARY KEY (book_id, act)
);

-- RFC 8785 (JCS) of what acts hold: objects with ASCII keys, strings, integers below 2^53, booleans and null.
CREATE FUNCTION ledger.jcs(given jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN
  RETURN CASE jsonb_typeof(given)
    WHEN 'object' THEN (
      SELECT '{' || coalesce(string_agg(to_json(e.key)::text || ':' || ledger.jcs(e.value), ',' ORDER BY e.key COLLATE "C"), '') || '}'
        FROM jsonb_each(given) e)
    WHEN 'array' THEN (
      SELECT '[' || coalesce(string_agg(ledger.jcs(e.value), ',' ORDER BY e.n), '') || ']'
        FROM jsonb_array_elements(given) WITH ORDINALITY AS e(value, n))
    ELSE given::text END;
END $$;

-- The line an act's leaf hash covers.
CREATE FUNCTION ledger.act_line(a ledger.act, book text) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN ledger.jcs(jsonb_build_object(
  'act', a.act, 'action', a.action, 'book', book, 'detail', a.detail::jsonb, 'person', a.person, 'reason', a.reason,
  'recorded_at', to_char(a.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'subject', a.subject));

-- Records what somebody did, in the transaction that does it; returns the act's number. Takes the book's lock.
-- For the functions that do such things: no role may call it by itself.
CREATE FUNCTION ledger.record_act(of_book integer, person text, action text, subject text, reason text, detail jsonb, at timestamptz)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$ DECLARE b record; a ledger.act; BEGIN
  IF (person ~ '^[!-~]{1,64}$') IS NOT TRUE THEN
    PERFORM ledger.refuse('KH025', 'a person is 1 to 64 printable characters without spaces');
  ELSIF (reason ~ '[^[:space:]]' AND reason !~ '[[:cntrl:]]' AND length(reason) <= 500) IS NOT TRUE THEN
    PERFORM ledger.refuse('KH025', format('%s needs a reason of 1 to 500 characters', action));
  END IF;
  UPDATE ledger.book SET acts = acts + 1, recorded_at = greatest(recorded_at, at) WHERE book_id = of_book
  RETURNING name, acts, recorded_at INTO b;
  IF NOT FOUND THEN PERFORM ledger.refuse('KH005', format('there is no book %s', of_book)); END IF;
  a := (of_book, b.acts, b.recorded_at, person, action, subject, reason, ledger.jcs(coalesce(detail, '{}')), NULL);
  a.leaf_hash := sha256('\x00'::bytea || convert_to(ledger.act_line(a, b.name), 'UTF8'));
  INSERT INTO ledger.act SELECT a.*;
  RETURN a.act;
END $$;

-- ---------------------------------------------------------------- who may do what

DO $$ DECLARE t text; BEGIN
  FOREACH t IN ARRAY ARRAY['act'] LOOP
    EXECUTE format('CREATE TRIGGER immutable_row BEFORE UPDATE OR DELETE ON ledger.%I
                    FOR EACH ROW EXECUTE FUNCTION ledger.immutable()', t);
    EXECUTE format('CREATE TRIGGER immutable_table BEFORE TRUNCATE ON ledger.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION ledger.immutable()', t);
    EXECUTE format('REVOKE ALL ON ledger.%I FROM PUBLIC', t);
    EXECUTE format('GRANT SELECT ON ledger.%I TO khata_app, khata_audit', t);
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION ledger.jcs, ledger.act_line, ledger.record_act FROM PUBLIC;
