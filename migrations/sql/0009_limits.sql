-- Velocity limits: how much, or how often, an account may be debited or credited within one calendar window.
-- Set and changed by facts that are only ever added; what a window has used is derived by the insert of journals.

-- What a limit is (side, measure, window) stays under its name; its maximum and whether it is active may change.
CREATE TABLE ledger.limit_fact (
  book_id     integer NOT NULL,
  account_id  integer NOT NULL,
  name        text COLLATE "C" NOT NULL
              CONSTRAINT limit_name CHECK (name ~ '^[a-z][a-z0-9_]{0,39}$' OR ledger.broken('KH022', 'limit_fact', 'limit_name')),
  fact        integer NOT NULL CONSTRAINT limit_number CHECK (fact > 0 OR ledger.broken('KH022', 'limit_fact', 'limit_number')),
  side        text COLLATE "C" NOT NULL
              CONSTRAINT limit_side CHECK (side IN ('debit', 'credit') OR ledger.broken('KH022', 'limit_fact', 'limit_side')),
  measure     text COLLATE "C" NOT NULL       -- sum: minor units; count: lines
              CONSTRAINT limit_measure CHECK (measure IN ('sum', 'count') OR ledger.broken('KH022', 'limit_fact', 'limit_measure')),
  maximum     bigint NOT NULL
              CONSTRAINT limit_maximum CHECK (maximum BETWEEN 0 AND 4611686018427387904
                                              OR ledger.broken('KH022', 'limit_fact', 'limit_maximum')),
  window_size text COLLATE "C" NOT NULL       -- calendar windows in UTC; a week begins on Monday
              CONSTRAINT limit_window CHECK (window_size IN ('minute', 'hour', 'day', 'week', 'month')
                                             OR ledger.broken('KH022', 'limit_fact', 'limit_window')),
  active      boolean NOT NULL,
  reason      text NOT NULL,
  person      text COLLATE "C" NOT NULL,
  recorded_at timestamptz NOT NULL,
  after_seq   bigint NOT NULL,                -- in force for the journals after this one
  act         bigint NOT NULL,                -- what the log of acts says of it
  PRIMARY KEY (book_id, account_id, name, fact),
  FOREIGN KEY (book_id, account_id) REFERENCES ledger.account
);

-- What the journals have used of a window, while the limit was active.
CREATE TABLE ledger.limit_use (
  book_id      integer NOT NULL,
  account_id   integer NOT NULL,
  name         text COLLATE "C" NOT NULL,
  window_start timestamptz NOT NULL,
  used         bigint NOT NULL CONSTRAINT limit_used CHECK (used > 0 OR ledger.broken('KH022', 'limit_use', 'limit_used')),
  PRIMARY KEY (book_id, account_id, name, window_start)
) WITH (fillfactor = 70);

-- The active limits of these accounts, with the window that holds the instant ``at``.
CREATE FUNCTION ledger.limits_in_force(of_book integer, of_accounts integer[], at timestamptz)
RETURNS TABLE (account_id integer, name text, side text, measure text, maximum bigint, window_start timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT f.account_id, f.name, f.side, f.measure, f.maximum, date_trunc(f.window_size, at, 'UTC')
    FROM (SELECT DISTINCT ON (l.account_id, l.name) l.* FROM ledger.limit_fact l
         WHERE l.book_id = of_book AND l.account_id = ANY (of_accounts)
         ORDER BY l.account_id, l.name, l.fact DESC) AS f
   WHERE f.active
$$;

-- Counts the posted lines of the journals first..last in the limits of these accounts, and refuses what exceeds one.
-- Called only for accounts that are marked as limited. One batch is of one instant, so of one window.
CREATE FUNCTION ledger.apply_limits(of_book integer, first bigint, last bigint, at timestamptz, limited integer[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_hashjoin = on   -- both sides are the batch's own
AS $$ DECLARE r record; BEGIN
  FOR r IN
    WITH l AS MATERIALIZED (
      SELECT * FROM ledger.limits_in_force(of_book, limited, at)
    ), p AS MATERIALIZED (
      SELECT debit_account, credit_account, amount FROM ledger.posting
       WHERE book_id = of_book AND journal_seq BETWEEN first AND last AND layer = 0
    ), leg AS (
      SELECT debit_account AS account_id, 'debit' AS side, amount FROM p
      UNION ALL
      SELECT credit_account, 'credit', amount FROM p
    ), moved AS (
      SELECT l.account_id, l.name, l.window_start,
             CASE min(l.measure) WHEN 'count' THEN count(*) ELSE ledger.total(leg.amount) END AS used
        FROM l JOIN leg ON leg.account_id = l.account_id AND leg.side = l.side
       GROUP BY l.account_id, l.name, l.window_start
    ), u AS (
      INSERT INTO ledger.limit_use AS w (book_id, account_id, name, window_start, used)
      SELECT of_book, m.account_id, m.name, m.window_start, m.used FROM moved m
      ON CONFLICT (book_id, account_id, name, window_start) DO UPDATE SET used = w.used + excluded.used
      RETURNING w.account_id, w.name, w.window_start, w.used)
    SELECT u.*, l.maximum FROM u JOIN l ON l.account_id = u.account_id AND l.name = u.name
     WHERE u.used > l.maximum ORDER BY u.account_id, u.name
  LOOP
    PERFORM ledger.refuse('KH020', format('account %s: %s would be used to %s of %s in the window of %s',
                                          r.account_id, r.name, r.used, r.maximum, r.window_start));
  END LOOP;
END $$;

-- What a batch must know of these accounts' limits, at the book's clock; by name.
CREATE FUNCTION ledger.find_limits(of_book integer, of_accounts integer[])
RETURNS TABLE (account_id integer, name text, side text, measure text, maximum bigint, window_start timestamptz, used bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
  SELECT l.account_id, l.name, l.side, l.measure, l.maximum, l.window_start, coalesce(u.used, 0)
    FROM ledger.book b
   CROSS JOIN LATERAL ledger.limits_in_force(of_book, of_accounts, b.recorded_at) l
    LEFT JOIN ledger.limit_use u ON u.book_id = of_book AND u.account_id = l.account_id AND u.name = l.name
                                AND u.window_start = l.window_start
   WHERE b.book_id = of_book
   ORDER BY l.account_id, l.name COLLATE "C"
$$;

-- Sets a limit, or changes one: its maximum, or whether it is active. It counts from here on, and while it is active;
-- a maximum below what the window has used already is allowed and bounds what follows.
CREATE FUNCTION ledger.set_limit(of_book integer, account integer, limit_name text, new_side text, new_measure text,
                                 new_maximum bigint, new_window text, switched_on boolean, why text, who text, at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE b record; old ledger.limit_fact; said_of text; number bigint; BEGIN
  UPDATE ledger.book SET recorded_at = greatest(recorded_at, at) WHERE book_id = of_book RETURNING recorded_at, head INTO b;
  SELECT a.path || ' ' || a.currency INTO said_of
    FROM ledger.account a JOIN ledger.balance s ON s.book_id = a.book_id AND s.account_id = a.account_id
   WHERE a.book_id = of_book AND a.account_id = account AND s.status <> 'closed';
  IF NOT FOUND THEN PERFORM ledger.refuse('KH012', format('account %s is closed or unknown', account)); END IF;
  IF limit_name IS NULL OR new_side IS NULL OR new_measure IS NULL OR new_maximum IS NULL OR new_window IS NULL
     OR switched_on IS NULL THEN
    PERFORM ledger.refuse('KH019', 'a limit needs a name, a side, a measure, a maximum, a window and whether it is active');
  END IF;
  SELECT * INTO old FROM ledger.limit_fact f
   WHERE f.book_id = of_book AND f.account_id = account AND f.name = limit_name ORDER BY f.fact DESC LIMIT 1;
  IF old.fact IS NOT NULL AND (old.side, old.measure, old.window_size) IS DISTINCT FROM (new_side, new_measure, new_window) THEN
    PERFORM ledger.refuse('KH021', format('limit %s of account %s bounds the %s of %ss in a %s: another needs another name',
                                          limit_name, account, old.measure, old.side, old.window_size));
  END IF;
  number := ledger.record_act(of_book, who, 'set_limit', said_of, why, jsonb_build_object(
    'account', account, 'active', switched_on, 'after', b.head, 'fact', coalesce(old.fact, 0) + 1, 'maximum', new_maximum::text,
    'measure', new_measure, 'name', limit_name, 'side', new_side, 'window', new_window), at);
  INSERT INTO ledger.limit_fact (book_id, account_id, name, fact, side, measure, maximum, window_size, active, reason, person,
                                 recorded_at, after_seq, act)
  VALUES (of_book, account, limit_name, coalesce(old.fact, 0) + 1, new_side, new_measure, new_maximum, new_window, switched_on,
          why, who, b.recorded_at, b.head, number);
  UPDATE ledger.balance SET limits = limits + switched_on::integer - coalesce(old.active, false)::integer
   WHERE book_id = of_book AND account_id = account;
END $$;

-- ---------------------------------------------------------------- who may do what

CREATE TRIGGER immutable_row BEFORE UPDATE OR DELETE ON ledger.limit_fact FOR EACH ROW EXECUTE FUNCTION ledger.immutable();
CREATE TRIGGER immutable_table BEFORE TRUNCATE ON ledger.limit_fact FOR EACH STATEMENT EXECUTE FUNCTION ledger.immutable();
CREATE TRIGGER never_deleted BEFORE DELETE ON ledger.limit_use FOR EACH ROW EXECUTE FUNCTION ledger.immutable();
CREATE TRIGGER immutable_table BEFORE TRUNCATE ON ledger.limit_use FOR EACH STATEMENT EXECUTE FUNCTION ledger.immutable();

REVOKE ALL ON ledger.limit_fact, ledger.limit_use FROM PUBLIC;
REVOKE ALL ON FUNCTION ledger.limits_in_force, ledger.apply_limits, ledger.find_limits, ledger.set_limit FROM PUBLIC;
GRANT SELECT ON ledger.limit_fact, ledger.limit_use TO khata_app, khata_audit;
GRANT EXECUTE ON FUNCTION ledger.set_limit, ledger.find_limits TO khata_app;
GRANT EXECUTE ON FUNCTION ledger.limits_in_force TO khata_app, khata_audit;
