-- Two things that ledger.append does with fewer steps. It writes each hold that it places once, with what its postings put into it and took out again: before, it was
-- inserted empty and then updated, which moved it within its indexes (hold_due is about the sums).

-- As apply_holds, for the journals of one batch and the holds that it places. What is stated of a hold counts only beside its
-- posting of the same accounts, which apply_balances has proved: so no look-up of the accounts is needed (hold_added).
CREATE FUNCTION ledger.write_holds(
  of_book integer, first bigint, last bigint, at timestamptz,
  hold_ids uuid[], hold_debits integer[], hold_credits integer[], tolerances integer[], expiries timestamptz[])
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$ DECLARE holds bigint; inserted bigint; updated bigint; BEGIN
  WITH p AS (
    SELECT x.* FROM generate_series(first, last) AS j(seq) CROSS JOIN LATERAL (
      SELECT hold_id, debit_account, credit_account, layer, hold_action, currency, amount
        FROM ledger.posting y WHERE y.book_id = of_book AND y.journal_seq = j.seq OFFSET 0) AS x
  ), said AS (
    SELECT hold_id, debit_account, credit_account, layer, hold_action, currency, amount,
           NULL::integer AS tolerance, NULL::timestamptz AS expires_at
      FROM p WHERE hold_id IS NOT NULL
    UNION ALL
    SELECT h.hold_id, coalesce(h.debit, 0), coalesce(h.credit, 0), NULL, NULL, NULL, NULL, h.tolerance, h.expires_at   -- no account is 0
      FROM unnest(hold_ids, hold_debits, hold_credits, tolerances, expiries) AS h(hold_id, debit, credit, tolerance, expires_at)
  ), d AS MATERIALIZED (
    SELECT hold_id,
           min(debit_account) FILTER (WHERE layer = 1 OR layer IS NULL) AS d1, max(debit_account) FILTER (WHERE layer = 1 OR layer IS NULL) AS d2,
           min(credit_account) FILTER (WHERE layer = 1 OR layer IS NULL) AS c1, max(credit_account) FILTER (WHERE layer = 1 OR layer IS NULL) AS c2,
           count(*) FILTER (WHERE layer IS NULL) AS stated, max(tolerance) AS tolerance, max(expires_at) AS expires_at,
           count(*) FILTER (WHERE hold_action = 0) AS places,
           min(currency) AS currency, max(currency) AS other_currency,
           count(*) FILTER (WHERE hold_action IN (0, 1, 2)) AS uses,
           ledger.total(amount) FILTER (WHERE layer = 1 AND hold_action <= 1) AS held,
           -ledger.total(amount) FILTER (WHERE layer = 1 AND hold_action = 2) AS consumed,
           ledger.total(amount) FILTER (WHERE layer = 0) AS captured,
           -ledger.total(amount) FILTER (WHERE hold_action = 3) AS released,
           -ledger.total(amount) FILTER (WHERE hold_action = 4) AS expired
      FROM said GROUP BY hold_id
  ), i AS (
    INSERT INTO ledger.hold (book_id, hold_id, debit_account, credit_account, tolerance_bps, expires_at,
                             held, consumed, captured, released, expired)
    SELECT of_book, hold_id, d1, c1, tolerance, expires_at, held, consumed, captured, released, expired FROM d
     WHERE stated = 1 AND places = 1 AND d1 = d2 AND c1 = c2 AND currency = other_currency
       AND (expires_at IS NULL OR at < expires_at) AND expired = 0
     ORDER BY hold_id
    RETURNING 1
  ), u AS (
    UPDATE ledger.hold h
       SET held = h.held + d.held, consumed = h.consumed + d.consumed, captured = h.captured + d.captured,
           released = h.released + d.released, expired = h.expired + d.expired
      FROM d CROSS JOIN LATERAL (
           SELECT x.ctid AS place FROM ledger.hold x WHERE x.book_id = of_book AND x.hold_id = d.hold_id OFFSET 0) AS f
     WHERE d.stated = 0 AND h.ctid = f.place
       AND d.d1 = h.debit_account AND d.d2 = h.debit_account AND d.c1 = h.credit_account AND d.c2 = h.credit_account
       AND d.currency = d.other_currency
       AND d.places = CASE WHEN h.held = 0 THEN 1 ELSE 0 END
       AND (h.held = 0 OR h.consumed + h.released + h.expired < h.held)
       AND (h.expires_at IS NULL OR (d.uses = 0 OR at < h.expires_at))
       AND (d.expired = 0 OR at >= h.expires_at)
    RETURNING 1)
  SELECT (SELECT count(*) FROM d), (SELECT count(*) FROM i), (SELECT count(*) FROM u) INTO holds, inserted, updated;
  IF inserted <> cardinality(hold_ids) OR inserted + updated <> holds THEN
    PERFORM ledger.refuse('KH009', format('journals %s to %s of book %s break the terms of a hold', first, last, of_book));
  END IF;
END $$;

DROP TRIGGER hold_added ON ledger.hold;
CREATE TRIGGER hold_added AFTER INSERT ON ledger.hold REFERENCING NEW TABLE AS added FOR EACH STATEMENT
  WHEN (current_user <> 'khata_poster') EXECUTE FUNCTION ledger.hold_added();

-- As apply_balances, for a batch of one journal of one posting, which is what a lone caller posts: each account has one line, so
-- nothing needs sorting or adding up, and the statement takes half as long to set up. The conditions are the same ones.
CREATE FUNCTION ledger.apply_posting(of_book integer, of_journal bigint,
                                     OUT postings bigint, OUT of_holds bigint, OUT last_line smallint, OUT limited integer[])
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$ DECLARE fitting integer[]; BEGIN
  WITH p AS MATERIALIZED (
    SELECT * FROM ledger.posting WHERE book_id = of_book AND journal_seq = of_journal
  ), d AS (
    SELECT debit_account AS account_id, currency, debit_seq AS seq, debit_posted AS posted, debit_available AS available,
           debit_incoming AS incoming, amount, CASE layer WHEN 0 THEN amount ELSE 0 END AS posted_debit, 0::bigint AS posted_credit,
           CASE layer WHEN 1 THEN amount ELSE 0 END AS pending_debit, 0::bigint AS pending_credit FROM p
    UNION ALL
    SELECT credit_account, currency, credit_seq, credit_posted, credit_available, credit_incoming, amount, 0,
           CASE layer WHEN 0 THEN amount ELSE 0 END, 0, CASE layer WHEN 1 THEN amount ELSE 0 END FROM p
  ), u AS (
    UPDATE ledger.balance b
       SET seq = d.seq, posted_debits = b.posted_debits + d.posted_debit, posted_credits = b.posted_credits + d.posted_credit,
           pending_debits = b.pending_debits + d.pending_debit, pending_credits = b.pending_credits + d.pending_credit
      FROM d CROSS JOIN LATERAL (
           SELECT x.ctid AS place FROM ledger.balance x WHERE x.book_id = of_book AND x.account_id = d.account_id OFFSET 0) AS f
     WHERE b.ctid = f.place AND d.currency = b.currency
       AND d.seq = b.seq + 1
       AND (b.status = 'open' OR d.amount < 0)
       AND (b.floor IS NULL OR d.available >= b.floor)
       AND CASE WHEN b.debit_normal
           THEN d.posted = b.posted_debits + d.posted_debit - b.posted_credits - d.posted_credit
                AND d.available = d.posted - b.pending_credits - d.pending_credit
                AND d.incoming = b.pending_debits + d.pending_debit
           ELSE d.posted = b.posted_credits + d.posted_credit - b.posted_debits - d.posted_debit
                AND d.available = d.posted - b.pending_debits - d.pending_debit
                AND d.incoming = b.pending_credits + d.pending_credit END
    RETURNING b.account_id, b.limits
  ), moved AS (
    SELECT array_agg(account_id) AS fitting, array_agg(account_id) FILTER (WHERE limits > 0) AS limited FROM u)
  SELECT count(*), count(p.hold_id), max(p.line), (SELECT m.fitting FROM moved m), (SELECT m.limited FROM moved m)
    INTO postings, of_holds, last_line, fitting, limited FROM p;
  IF postings = 1 AND cardinality(fitting) IS DISTINCT FROM 2 THEN   -- with another in the journal it is refused for that
    PERFORM ledger.explain_balances(of_book, of_journal, of_journal, fitting);
  END IF;
END $$;

-- As in 0011, but that holds are written last, and one posting has its own way.
CREATE OR REPLACE FUNCTION ledger.append(
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
  IF n = 1 AND written = 1 THEN
    a := ledger.apply_posting(of_book, first);
  ELSE
    a := ledger.apply_balances(of_book, first, last);
  END IF;
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
  IF a.of_holds > 0 OR cardinality(hold_ids) > 0 THEN
    PERFORM ledger.write_holds(of_book, first, last, at, hold_ids, hold_debits, hold_credits, tolerances, expiries);
  END IF;
  IF a.limited IS NOT NULL THEN
    PERFORM ledger.apply_limits(of_book, first, last, at, a.limited);
  END IF;
END $$;

REVOKE ALL ON FUNCTION ledger.write_holds, ledger.apply_posting FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.write_holds, ledger.apply_posting TO khata_poster;
