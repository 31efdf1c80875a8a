-- One statement posts a batch: ledger.append inserts its rows before it takes the book, so that the rows of two
-- batches may be written side by side, then takes the book by compare-and-set on its version, and derives balances
-- and holds as the triggers of 0001 do for rows that are inserted by hand (ADR 34).
--
-- KH036 book at another version   KH037 snapshot from before the book's lock

-- Changes with every write of the book's row: journals, facts, limits, closes, accounts. Whoever knows the book as of a
-- version knows it still while the version is the same. ledger.append sets the one that its caller names: a hash of the version
-- before and of what it writes, so that a batch decided upon one that was never written cannot follow another of the same length.
ALTER TABLE ledger.book ADD COLUMN version bigint NOT NULL DEFAULT 0;

CREATE FUNCTION ledger.book_versioned() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN
  NEW.version := (OLD.version & 4611686018427387903) + 1;   -- also after the highest that there is
  RETURN NEW;
END $$;
CREATE TRIGGER book_versioned BEFORE UPDATE ON ledger.book FOR EACH ROW
  WHEN (current_user <> 'khata_poster') EXECUTE FUNCTION ledger.book_versioned();

-- What these triggers see to, ledger.append sees to itself. It alone runs as khata_poster, which nobody can log in as.
DROP TRIGGER book_written ON ledger.book;
CREATE TRIGGER book_written BEFORE UPDATE ON ledger.book FOR EACH ROW
  WHEN (current_user <> 'khata_poster') EXECUTE FUNCTION ledger.book_written();
DROP TRIGGER posting_appended ON ledger.posting;
CREATE TRIGGER posting_appended AFTER INSERT ON ledger.posting REFERENCING NEW TABLE AS added FOR EACH STATEMENT
  WHEN (current_user <> 'khata_poster') EXECUTE FUNCTION ledger.posting_appended();
DROP TRIGGER journal_appended ON ledger.journal;
CREATE TRIGGER journal_appended AFTER INSERT ON ledger.journal REFERENCING NEW TABLE AS added FOR EACH STATEMENT
  WHEN (current_user <> 'khata_poster') EXECUTE FUNCTION ledger.journal_appended();

-- A posting that is committed above the head while a journal is written, and that its snapshot does not show, would be below
-- the head and in no count once the journal stands. So each statement needs a snapshot of its own, whichever way journals come.
CREATE FUNCTION ledger.isolation_refused() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ BEGIN
  PERFORM ledger.refuse('KH037', format('journals are written in READ COMMITTED, not in %s', upper(current_setting('transaction_isolation'))));
  RETURN NULL;
END $$;
CREATE TRIGGER isolation_refused BEFORE INSERT ON ledger.journal FOR EACH STATEMENT
  WHEN (current_setting('transaction_isolation') <> 'read committed') EXECUTE FUNCTION ledger.isolation_refused();

-- A statement sets up every CHECK of its table anew, from text, and the words in each took longer than what it checks (ADR 13):
-- a number stands for them.
CREATE FUNCTION ledger.broken(rule integer) RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ DECLARE r record; BEGIN
  SELECT * INTO r FROM (VALUES
    (1, 'KH014', 'book', 'book_number'), (2, 'KH014', 'book', 'book_name'), (3, 'KH014', 'book', 'book_head'),
    (4, 'KH014', 'book', 'book_clock'), (5, 'KH014', 'book', 'book_closed_through'),
    (11, 'KH006', 'balance', 'balance_floor'), (12, 'KH017', 'balance', 'balance_closed'), (13, 'KH018', 'balance', 'balance_sums'),
    (21, 'KH014', 'journal', 'journal_number'), (22, 'KH014', 'journal', 'journal_effective'),
    (23, 'KH014', 'journal', 'journal_reversed'), (24, 'KH014', 'journal', 'journal_lines'), (25, 'KH014', 'journal', 'journal_leaf'),
    (31, 'KH015', 'posting', 'posting_sides'), (32, 'KH015', 'posting', 'posting_amount'),
    (33, 'KH015', 'posting', 'posting_currency'), (34, 'KH015', 'posting', 'posting_line'),
    (35, 'KH015', 'posting', 'posting_layer'), (36, 'KH015', 'posting', 'posting_action'), (37, 'KH015', 'posting', 'posting_hold'),
    (41, 'KH014', 'hold', 'hold_tolerance'), (42, 'KH014', 'hold', 'hold_expiry'), (43, 'KH016', 'hold', 'hold_sums'),
    (44, 'KH016', 'hold', 'hold_remaining'), (45, 'KH016', 'hold', 'hold_taken'), (46, 'KH016', 'hold', 'hold_ceiling')
  ) AS known(number, state, of_table, name) WHERE number = broken.rule;
  RETURN ledger.broken(coalesce(r.state, 'KH019'), coalesce(r.of_table, '?'), coalesce(r.name, rule::text));
END $$;

DO $$ DECLARE c record; BEGIN
  FOR c IN
    SELECT con.conrelid::regclass AS of_table, con.conname AS name, pg_get_constraintdef(con.oid) AS text, known.number
      FROM regexp_matches(pg_get_functiondef('ledger.broken(integer)'::regprocedure), '\((\d+), ''KH\d+'', ''(\w+)'', ''(\w+)''\)', 'g') AS m
     CROSS JOIN LATERAL (SELECT m[1]::integer AS number, m[2] AS of_table, m[3] AS name) AS known
      JOIN pg_constraint con ON con.conrelid = ('ledger.' || known.of_table)::regclass AND con.conname = known.name
  LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s', c.of_table, c.name, c.name,
                   regexp_replace(c.text, 'ledger\.broken\([^)]*\)', format('ledger.broken(%s)', c.number)));
  END LOOP;
END $$;

-- As in 0001, but that rows are found by key, fenced off by OFFSET 0, and changed where they are. A plan made while the table
-- was young looked through all of the book's rows, for each batch until the session ended; and of a range of journals the planner
-- may think that to skip through another index, account by account, is as good.
CREATE OR REPLACE FUNCTION ledger.apply_balances(of_book integer, first bigint, last bigint,
                                      OUT postings bigint, OUT of_holds bigint, OUT last_line smallint, OUT limited integer[])
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$ DECLARE accounts bigint; fitting integer[]; BEGIN
  WITH p AS MATERIALIZED (
    SELECT x.* FROM generate_series(first, last) AS j(seq) CROSS JOIN LATERAL (
      SELECT * FROM ledger.posting y WHERE y.book_id = of_book AND y.journal_seq = j.seq OFFSET 0) AS x
  ), leg AS (
    SELECT debit_account AS account_id, currency, debit_seq AS seq, debit_posted AS posted, debit_available AS available,
           debit_incoming AS incoming, true AS debit, layer, amount, journal_seq, line FROM p
    UNION ALL
    SELECT credit_account, currency, credit_seq, credit_posted, credit_available, credit_incoming, false, layer, amount,
           journal_seq, line FROM p
  ), step AS (
    SELECT leg.*, seq - lag(seq) OVER w AS by_seq, posted - lag(posted) OVER w AS by_posted,
           available - lag(available) OVER w AS by_available, incoming - lag(incoming) OVER w AS by_incoming,
           lead(seq) OVER w IS NULL AS at_end
      FROM leg WINDOW w AS (PARTITION BY account_id, currency ORDER BY journal_seq, line)
  ), d AS MATERIALIZED (
    SELECT account_id, currency, count(*) AS n, min(seq) AS first_seq, min(available) AS lowest, max(amount) AS largest,
           bool_and(by_seq = 1 AND ledger.follows(debit, layer, amount, by_posted, by_available, by_incoming)) AS as_debit_normal,
           bool_and(by_seq = 1 AND ledger.follows(NOT debit, layer, amount, by_posted, by_available, by_incoming)) AS as_credit_normal,
           max(posted) FILTER (WHERE at_end) AS posted, max(available) FILTER (WHERE at_end) AS available,
           max(incoming) FILTER (WHERE at_end) AS incoming,
           ledger.total(amount) FILTER (WHERE debit AND layer = 0) AS posted_debits,
           ledger.total(amount) FILTER (WHERE NOT debit AND layer = 0) AS posted_credits,
           ledger.total(amount) FILTER (WHERE debit AND layer = 1) AS pending_debits,
           ledger.total(amount) FILTER (WHERE NOT debit AND layer = 1) AS pending_credits
      FROM step GROUP BY account_id, currency
  ), u AS (
    UPDATE ledger.balance b
       SET seq = b.seq + d.n,
           posted_debits = b.posted_debits + d.posted_debits, posted_credits = b.posted_credits + d.posted_credits,
           pending_debits = b.pending_debits + d.pending_debits, pending_credits = b.pending_credits + d.pending_credits
      FROM d CROSS JOIN LATERAL (
           SELECT x.ctid AS place FROM ledger.balance x WHERE x.book_id = of_book AND x.account_id = d.account_id OFFSET 0) AS f
     WHERE b.ctid = f.place AND d.currency = b.currency
       AND d.first_seq = b.seq + 1
       AND (b.status = 'open' OR d.largest < 0)   -- a frozen account still gives holds back
       AND (b.floor IS NULL OR d.lowest >= b.floor)
       AND CASE WHEN b.debit_normal   -- null: its only line
           THEN d.as_debit_normal IS NOT FALSE
                AND d.posted = b.posted_debits + d.posted_debits - b.posted_credits - d.posted_credits
                AND d.available = d.posted - b.pending_credits - d.pending_credits
                AND d.incoming = b.pending_debits + d.pending_debits
           ELSE d.as_credit_normal IS NOT FALSE
                AND d.posted = b.posted_credits + d.posted_credits - b.posted_debits - d.posted_debits
                AND d.available = d.posted - b.pending_debits - d.pending_debits
                AND d.incoming = b.pending_credits + d.pending_credits END
    RETURNING b.account_id, b.limits
  ), moved AS (
    SELECT array_agg(account_id) AS fitting, array_agg(account_id) FILTER (WHERE limits > 0) AS limited FROM u)
  SELECT count(*), count(p.hold_id), max(p.line), (SELECT count(*) FROM d), (SELECT m.fitting FROM moved m), (SELECT m.limited FROM moved m)
    INTO postings, of_holds, last_line, accounts, fitting, limited FROM p;
  IF accounts > coalesce(cardinality(fitting), 0) THEN
    PERFORM ledger.explain_balances(of_book, first, last, fitting);
  END IF;
END $$;

CREATE OR REPLACE FUNCTION ledger.apply_holds(of_book integer, first bigint, last bigint, at timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$ DECLARE holds bigint; updated bigint; BEGIN
  -- p first, by journal: with hold_id in its condition the index of holds would do, all of it for each batch.
  WITH p AS MATERIALIZED (
    SELECT x.* FROM generate_series(first, last) AS j(seq) CROSS JOIN LATERAL (
      SELECT * FROM ledger.posting y WHERE y.book_id = of_book AND y.journal_seq = j.seq OFFSET 0) AS x
  ), d AS MATERIALIZED (
    SELECT hold_id,
           min(debit_account) FILTER (WHERE layer = 1) AS d1, max(debit_account) FILTER (WHERE layer = 1) AS d2,
           min(credit_account) FILTER (WHERE layer = 1) AS c1, max(credit_account) FILTER (WHERE layer = 1) AS c2,
           count(*) FILTER (WHERE hold_action = 0) AS places,
           min(currency) AS currency, max(currency) AS other_currency,
           count(*) FILTER (WHERE hold_action IN (0, 1, 2)) AS uses,
           ledger.total(amount) FILTER (WHERE layer = 1 AND hold_action <= 1) AS held,
           -ledger.total(amount) FILTER (WHERE layer = 1 AND hold_action = 2) AS consumed,
           ledger.total(amount) FILTER (WHERE layer = 0) AS captured,
           -ledger.total(amount) FILTER (WHERE hold_action = 3) AS released,
           -ledger.total(amount) FILTER (WHERE hold_action = 4) AS expired
      FROM p WHERE hold_id IS NOT NULL GROUP BY hold_id
  ), u AS (
    UPDATE ledger.hold h
       SET held = h.held + d.held, consumed = h.consumed + d.consumed, captured = h.captured + d.captured,
           released = h.released + d.released, expired = h.expired + d.expired
      FROM d CROSS JOIN LATERAL (
           SELECT x.ctid AS place FROM ledger.hold x WHERE x.book_id = of_book AND x.hold_id = d.hold_id OFFSET 0) AS f
     WHERE h.ctid = f.place
       AND d.d1 = h.debit_account AND d.d2 = h.debit_account AND d.c1 = h.credit_account AND d.c2 = h.credit_account
       AND d.currency = d.other_currency
       AND d.places = CASE WHEN h.held = 0 THEN 1 ELSE 0 END
       AND (h.held = 0 OR h.consumed + h.released + h.expired < h.held)
       AND (h.expires_at IS NULL OR (d.uses = 0 OR at < h.expires_at))
       AND (d.expired = 0 OR at >= h.expires_at)
    RETURNING 1)
  SELECT (SELECT count(*) FROM d), (SELECT count(*) FROM u) INTO holds, updated;
  IF updated <> holds THEN
    PERFORM ledger.refuse('KH009', format('journals %s to %s of book %s break the terms of a hold', first, last, of_book));
  END IF;
END $$;

-- Posts the journals first, first + 1, … and their postings (ledger.decide made both), and the holds that they place, to the book at
-- version expected, which is at version next then. An array has one element for each
-- journal, or for each hold; kinds, source_types and source_events may have one for all, and effective_ats, reversed and lines
-- may be empty: effective when recorded, reversing nothing, one line each.
-- Rows first, the book's lock second: no reader sees one without the other, and a batch whose book is at another version
-- by then, or taken, is refused whole (KH036, 55P03): with its rows written it must not wait for somebody who may wait
-- for those. A batch may be sent before the one it follows is committed: while that one is under way, by its lock on its own
-- version, this one waits for it; follows: the version that that one expected, for the case that its session begins later. It
-- waits neither for ever nor where the book is at that version already: such a lock may be taken by anybody.
-- Each look-up is by key, in an empty book too (ADR 13), so one plan a session is enough.
CREATE FUNCTION ledger.append(
  of_book integer, expected bigint, next bigint, first bigint, at timestamptz, postings ledger.posting[],
  ids uuid[], effective_ats timestamptz[], reversed bigint[], lines smallint[], kinds text[],
  source_types text[], source_ids text[], source_events text[], leaf_hashes bytea[], canonicals text[],
  hold_ids uuid[], hold_debits integer[], hold_credits integer[], tolerances integer[], expiries timestamptz[],
  follows bigint DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s' SET jit = off SET plan_cache_mode = force_generic_plan SET work_mem = '64MB'
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_bitmapscan = off
AS $$ DECLARE
  n bigint := cardinality(ids);
  last bigint := first + n - 1;
  a_kind text := kinds[1];
  a_type text := source_types[1];
  an_event text := source_events[1];
  stated bigint := n;
  fewest smallint := 1;
  earliest timestamptz := at;
  written bigint; closed date; taken boolean; held boolean; extra boolean; patience text; a record;
BEGIN
  IF num_nulls(of_book, expected, next, first, at, postings, ids, effective_ats, reversed, lines, kinds, source_types, source_ids,
               source_events, leaf_hashes, canonicals, hold_ids, hold_debits, hold_credits, tolerances, expiries) > 0 THEN
    PERFORM ledger.refuse('KH019', 'a batch needs all its columns, empty ones too');
  END IF;
  IF cardinality(source_ids) <> n OR cardinality(leaf_hashes) <> n OR cardinality(canonicals) <> n
     OR cardinality(effective_ats) NOT IN (0, n) OR cardinality(reversed) NOT IN (0, n) OR cardinality(lines) NOT IN (0, n)
     OR cardinality(kinds) NOT IN (1, n) OR cardinality(source_types) NOT IN (1, n) OR cardinality(source_events) NOT IN (1, n)
     OR cardinality(hold_debits) <> cardinality(hold_ids) OR cardinality(hold_credits) <> cardinality(hold_ids)
     OR cardinality(tolerances) <> cardinality(hold_ids) OR cardinality(expiries) <> cardinality(hold_ids) THEN
    PERFORM ledger.refuse('KH019', format('a batch of %s journals needs as many of each column', n));
  END IF;
  -- Conditions and assignments rather than statements wherever they do: a statement costs a batch of one ten times as much.
  IF NOT pg_try_advisory_xact_lock(of_book, (next & 2147483647)::integer) THEN
    PERFORM ledger.refuse('KH036', format('version %s of book %s is being written', next, of_book));
  END IF;
  IF cardinality(hold_ids) > 0 THEN
    INSERT INTO ledger.hold (book_id, hold_id, debit_account, credit_account, tolerance_bps, expires_at)
    SELECT of_book, h.* FROM unnest(hold_ids, hold_debits, hold_credits, tolerances, expiries) AS h;
  END IF;
  INSERT INTO ledger.posting SELECT * FROM unnest(postings) AS p WHERE p.book_id = of_book AND p.journal_seq BETWEEN first AND last;
  GET DIAGNOSTICS written = ROW_COUNT;
  -- As a select of sets side by side, not as a join of them: those would be stored first.
  INSERT INTO ledger.journal (book_id, seq, id, effective_at, recorded_at, reverses, lines, kind, source_type, source_id,
                              source_event, leaf_hash, canonical)
  SELECT of_book, j.seq, j.id, coalesce(j.effective_at, at), at, j.reverses, coalesce(j.lines, 1::smallint), coalesce(j.kind, a_kind),
         coalesce(j.source_type, a_type), j.source_id, coalesce(j.source_event, an_event), j.leaf_hash, j.canonical
    FROM (SELECT generate_series(first, last) AS seq, unnest(ids) AS id, unnest(effective_ats) AS effective_at,
                 unnest(reversed) AS reverses, unnest(lines) AS lines, unnest(kinds) AS kind,
                 unnest(source_types) AS source_type, unnest(source_ids) AS source_id, unnest(source_events) AS source_event,
                 unnest(leaf_hashes) AS leaf_hash, unnest(canonicals) AS canonical) AS j;
  FOR try IN 0 .. 7 LOOP
    -- Let go at once: where the one before has yet to begin, this must not keep it from its lock.
    held := pg_try_advisory_lock_shared(of_book, (expected & 2147483647)::integer);
    IF NOT held AND NOT EXISTS (SELECT FROM ledger.book WHERE book_id = of_book AND version = expected) THEN
      PERFORM pg_advisory_lock_shared(of_book, (expected & 2147483647)::integer);
      held := true;
    END IF;
    IF held THEN
      held := pg_advisory_unlock_shared(of_book, (expected & 2147483647)::integer);
    END IF;
    patience := set_config('lock_timeout', '1', true);
    UPDATE ledger.book SET recorded_at = at, head = last, version = next
     WHERE book_id = of_book AND version = expected AND head = first - 1 AND recorded_at <= at
    RETURNING closed_through INTO closed;
    taken := FOUND;
    EXIT WHEN taken OR NOT EXISTS (
      SELECT FROM ledger.book WHERE book_id = of_book AND version IN (follows, expected));
    patience := set_config('lock_timeout', '5s', true);
    PERFORM pg_sleep(least(0.001 * 2 ^ try, 0.016));
  END LOOP;
  IF NOT taken THEN
    PERFORM ledger.refuse('KH036', format('book %s is not at version %s with journal %s as its last', of_book, expected, first - 1));
  END IF;
  IF cardinality(effective_ats) > 0 THEN
    SELECT min(coalesce(e, at)) INTO earliest FROM unnest(effective_ats) AS e;
  END IF;
  IF (earliest AT TIME ZONE 'UTC')::date <= closed THEN
    PERFORM ledger.refuse('KH002', format('book %s is closed through %s', of_book, closed));
  END IF;
  a := ledger.apply_balances(of_book, first, last);
  IF cardinality(lines) > 0 THEN
    SELECT sum(coalesce(l, 1)), min(coalesce(l, 1)) INTO stated, fewest FROM unnest(lines) AS l;
  END IF;
  -- As many postings as stated in all, all of them written here and all that are given, and no journal with one too many:
  -- then none lacks one.
  extra := false;
  IF a.last_line > fewest THEN
    extra := EXISTS (
      SELECT FROM ledger.journal j CROSS JOIN LATERAL (
        SELECT FROM ledger.posting p WHERE p.book_id = of_book AND p.journal_seq = j.seq AND p.line > j.lines LIMIT 1) AS one
       WHERE j.book_id = of_book AND j.seq BETWEEN first AND last);
  END IF;
  IF a.postings <> stated OR written <> stated OR cardinality(postings) <> stated OR extra THEN
    PERFORM ledger.refuse('KH003', format('book %s: journals %s to %s do not have the postings they state', of_book, first, last));
  END IF;
  IF a.of_holds > 0 THEN
    PERFORM ledger.apply_holds(of_book, first, last, at);
  END IF;
  IF a.limited IS NOT NULL THEN
    PERFORM ledger.apply_limits(of_book, first, last, at, a.limited);
  END IF;
END $$;

-- ---------------------------------------------------------------- who may do what

GRANT USAGE ON SCHEMA ledger TO khata_poster;
GRANT SELECT ON ledger.book, ledger.account, ledger.balance, ledger.posting, ledger.journal, ledger.hold, ledger.limit_fact,
  ledger.limit_use TO khata_poster;
GRANT INSERT ON ledger.posting, ledger.journal, ledger.hold, ledger.limit_use TO khata_poster;
GRANT UPDATE ON ledger.book, ledger.balance, ledger.hold, ledger.limit_use TO khata_poster;
CREATE POLICY everyone_to_post ON ledger.account TO khata_poster USING (true);
CREATE POLICY everyone_to_post ON ledger.balance TO khata_poster USING (true);
CREATE POLICY everyone_to_post ON ledger.hold TO khata_poster USING (true);
GRANT EXECUTE ON FUNCTION ledger.refuse, ledger.broken(text, text, text), ledger.broken(integer), ledger.plan_for, ledger.total, ledger.follows, ledger.legs, ledger.explain_balances,
  ledger.apply_balances, ledger.apply_holds, ledger.apply_limits, ledger.limits_in_force TO khata_poster;
REVOKE ALL ON FUNCTION ledger.append, ledger.book_versioned, ledger.isolation_refused, ledger.broken(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.append, ledger.broken(integer) TO khata_app;
GRANT CREATE ON SCHEMA ledger TO khata_poster;   -- an owner of functions needs it for a moment
ALTER FUNCTION ledger.append OWNER TO khata_poster;
REVOKE CREATE ON SCHEMA ledger FROM khata_poster;
