-- Balances of the past, on both axes of time (docs/as-of.md).
--
-- As known at journal K: an account's last line at or before K states its balances (posting_debit, posting_credit).
--
-- As effective on day E, too: the journals 1..K fall into spans, span n of level l being the journals
-- n * size + 1 .. (n + 1) * size with size = span_journals * span_fan ^ l. A rollup row says what a span's journals
-- add to an account on their effective days up to and including its own; so a balance is a sum over the few spans
-- that make up 1..K, of one row each, and over the account's lines after the last of them.
--
-- All sums are of 64 bits. Posted ones are parts of what ledger.balance has summed up in 64 bits, and none is negative.
-- A pending one may count what was given back and not yet what it was given back from, or the reverse; at 10^15 a
-- posting (posting_amount) more than 9,000 of the greatest holds of one account must stand on the wrong side of a day
-- for it to leave 64 bits. Then roll_up and sums_as_of raise 22003; no sum is ever cut.
--
-- Rollups are made after the fact and never change: posting does not know of them, and a journal that is effective
-- long ago costs what any other costs. Whatever has not been rolled up yet is read from the postings instead.

CREATE FUNCTION ledger.span_journals() RETURNS integer LANGUAGE sql IMMUTABLE RETURN 128;   -- of a span of level 0; at most 256
CREATE FUNCTION ledger.span_fan() RETURNS integer LANGUAGE sql IMMUTABLE RETURN 8;          -- spans in one of the next level

CREATE TABLE ledger.rollup_span (
  book_id   integer NOT NULL,
  level     smallint NOT NULL,
  span      bigint NOT NULL,
  first_seq bigint NOT NULL,
  last_seq  bigint NOT NULL,
  first_day date NOT NULL,     -- of all its journals: the first and the last effective day (UTC)
  last_day  date NOT NULL,
  PRIMARY KEY (book_id, level, span)
);

CREATE TABLE ledger.rollup (
  book_id         integer NOT NULL,
  span            bigint NOT NULL,
  account_id      integer NOT NULL,
  day             date NOT NULL,
  level           smallint NOT NULL,
  posted_debits   bigint NOT NULL,   -- of the span's journals effective on this day or before it
  posted_credits  bigint NOT NULL,
  pending_debits  bigint NOT NULL,
  pending_credits bigint NOT NULL,
  -- At level 0, which of the span's journals have lines of the account on this very day: one byte each, from 0.
  journals        bytea,
  PRIMARY KEY (book_id, level, span, account_id, day)
);
-- Where an account's lines of a day are, for statements by effective day.
CREATE INDEX rollup_days ON ledger.rollup (book_id, account_id, day, span) WHERE level = 0;

DO $$ DECLARE t text; BEGIN
  FOREACH t IN ARRAY ARRAY['rollup_span', 'rollup'] LOOP
    EXECUTE format('CREATE TRIGGER immutable_row BEFORE UPDATE OR DELETE ON ledger.%I
                    FOR EACH ROW EXECUTE FUNCTION ledger.immutable()', t);
    EXECUTE format('CREATE TRIGGER immutable_table BEFORE TRUNCATE ON ledger.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION ledger.immutable()', t);
  END LOOP;
END $$;

CREATE FUNCTION ledger.day_of(at timestamptz) RETURNS date LANGUAGE sql IMMUTABLE RETURN (at AT TIME ZONE 'UTC')::date;

-- ---------------------------------------------------------------- rolling up

-- Level 0: spans first..last from their postings. Both tables come in the order of their keys and are merged: planned
-- without statistics, a nested loop would read the one again for each row of the other.
CREATE FUNCTION ledger.roll_up_postings(of_book integer, first bigint, last bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_nestloop = off
AS $$ DECLARE size bigint := ledger.span_journals(); BEGIN
  INSERT INTO ledger.rollup_span (book_id, level, span, first_seq, last_seq, first_day, last_day)
  SELECT of_book, 0, (seq - 1) / size, min(seq), max(seq), min(ledger.day_of(effective_at)), max(ledger.day_of(effective_at))
    FROM ledger.journal WHERE book_id = of_book AND seq BETWEEN first * size + 1 AND (last + 1) * size
   GROUP BY (seq - 1) / size;
  INSERT INTO ledger.rollup (book_id, level, span, account_id, day, posted_debits, posted_credits, pending_debits, pending_credits, journals)
  WITH p AS (
    SELECT (p.journal_seq - 1) / size AS span, set_byte('\x00', 0, ((p.journal_seq - 1) % size)::integer) AS place,
           ledger.day_of(j.effective_at) AS day, p.debit_account, p.credit_account, p.amount, p.layer
      FROM ledger.posting p JOIN ledger.journal j ON j.seq = p.journal_seq
     WHERE p.book_id = of_book AND p.journal_seq BETWEEN first * size + 1 AND (last + 1) * size
       AND j.book_id = of_book AND j.seq BETWEEN first * size + 1 AND (last + 1) * size
  ), side AS (
    SELECT span, place, day, debit_account AS account_id, amount * (1 - layer) AS d, 0::bigint AS c, amount * layer AS pd, 0::bigint AS pc FROM p
    UNION ALL
    SELECT span, place, day, credit_account, 0, amount * (1 - layer), 0, amount * layer FROM p)
  SELECT of_book, 0, span, account_id, day, ledger.total(ledger.total(d)) OVER w, ledger.total(ledger.total(c)) OVER w,
         ledger.total(ledger.total(pd)) OVER w, ledger.total(ledger.total(pc)) OVER w, string_agg(DISTINCT place, '')
    FROM side GROUP BY span, account_id, day
  WINDOW w AS (PARTITION BY span, account_id ORDER BY day);
END $$;

-- A higher level: its spans first..last from those of the level below.
CREATE FUNCTION ledger.roll_up_spans(of_book integer, to_level integer, first bigint, last bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan SET jit = off
AS $$ DECLARE fan bigint := ledger.span_fan(); BEGIN
  INSERT INTO ledger.rollup_span (book_id, level, span, first_seq, last_seq, first_day, last_day)
  SELECT of_book, to_level, span / fan, min(first_seq), max(last_seq), min(first_day), max(last_day)
    FROM ledger.rollup_span
   WHERE book_id = of_book AND level = to_level - 1 AND span BETWEEN first * fan AND (last + 1) * fan - 1
   GROUP BY span / fan;
  INSERT INTO ledger.rollup (book_id, level, span, account_id, day, posted_debits, posted_credits, pending_debits, pending_credits)
  WITH added AS (   -- by each day alone
    SELECT span / fan AS span, account_id, day,
           posted_debits - lag(posted_debits, 1, 0::bigint) OVER w AS d, posted_credits - lag(posted_credits, 1, 0::bigint) OVER w AS c,
           pending_debits - lag(pending_debits, 1, 0::bigint) OVER w AS pd, pending_credits - lag(pending_credits, 1, 0::bigint) OVER w AS pc
      FROM ledger.rollup
     WHERE book_id = of_book AND level = to_level - 1 AND span BETWEEN first * fan AND (last + 1) * fan - 1
    WINDOW w AS (PARTITION BY span, account_id ORDER BY day))
  SELECT of_book, to_level, span, account_id, day, ledger.total(ledger.total(d)) OVER w, ledger.total(ledger.total(c)) OVER w,
         ledger.total(ledger.total(pd)) OVER w, ledger.total(ledger.total(pc)) OVER w
    FROM added GROUP BY span, account_id, day
  WINDOW w AS (PARTITION BY span, account_id ORDER BY day);
END $$;

-- Rolls up what is complete, at most so many spans of level 0; how many it was. A span that completes one of the next
-- level brings that with it in the same transaction, so the number of level 0 tells how many spans each level has.
-- Two at a time do not wait for one another: the second finds nothing to do. Never takes the book's lock.
CREATE FUNCTION ledger.roll_up(of_book integer, most_spans integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE done bigint; complete bigint; level integer := 0; before bigint; after bigint; fan bigint := ledger.span_fan(); BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('ledger.roll_up'), of_book) THEN RETURN 0; END IF;
  done := ledger.spans_rolled_up(of_book);
  SELECT least(done + most_spans, head / ledger.span_journals()) INTO complete FROM ledger.book WHERE book_id = of_book;
  IF complete IS NULL OR complete <= done THEN RETURN 0; END IF;
  PERFORM ledger.roll_up_postings(of_book, done, complete - 1);
  before := done / fan;
  after := complete / fan;
  WHILE after > 0 LOOP
    level := level + 1;
    IF after > before THEN PERFORM ledger.roll_up_spans(of_book, level, before, after - 1); END IF;
    before := before / fan;
    after := after / fan;
  END LOOP;
  RETURN complete - done;
END $$;

-- How many spans of level 0 there are.
CREATE FUNCTION ledger.spans_rolled_up(of_book integer) RETURNS bigint LANGUAGE sql STABLE
RETURN coalesce((SELECT max(span) + 1 FROM ledger.rollup_span WHERE book_id = of_book AND level = 0), 0);

-- ---------------------------------------------------------------- what was known

-- The last journal recorded at or before an instant, 0 if none was: the clock of a book never goes back and its
-- numbers have no gap, so it is found by halving.
CREATE FUNCTION ledger.seq_at(of_book integer, instant timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$ DECLARE low bigint := 0; high bigint; middle bigint; BEGIN
  SELECT head INTO high FROM ledger.book WHERE book_id = of_book;
  WHILE low < high LOOP
    middle := (low + high + 1) / 2;
    IF (SELECT recorded_at FROM ledger.journal WHERE book_id = of_book AND seq = middle) <= instant THEN
      low := middle;
    ELSE
      high := middle - 1;
    END IF;
  END LOOP;
  RETURN low;
END $$;

-- The last journal known: of the two at most one is given; with neither it is the head. What is not recorded yet
-- cannot be known: the answer would be another one later.
CREATE FUNCTION ledger.known(of_book integer, seq bigint, instant timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE top bigint; BEGIN
  IF instant IS NOT NULL THEN RETURN ledger.seq_at(of_book, instant); END IF;
  SELECT head INTO top FROM ledger.book WHERE book_id = of_book;
  IF seq NOT BETWEEN 0 AND top THEN
    PERFORM ledger.refuse('KH030', format('journal %s of book %s is not recorded; the last one is %s', seq, of_book, top));
  END IF;
  RETURN coalesce(seq, top, 0);
END $$;

-- ---------------------------------------------------------------- balances

-- The spans that make up the first so many of level 0: of each level those left over by the one above.
CREATE FUNCTION ledger.spans_of(of_spans bigint) RETURNS TABLE (level smallint, span bigint) LANGUAGE sql IMMUTABLE ROWS 30
BEGIN ATOMIC
  SELECT l::smallint, s FROM generate_series(0, 12) AS l,
    LATERAL (SELECT div(of_spans, power(ledger.span_fan()::numeric, l))::bigint AS n) AS whole,
    LATERAL generate_series(n - n % ledger.span_fan(), n - 1) AS s;
END;

-- What the journals 1..known add to each of the accounts on effective days up to ``day``; gross, 0 where nothing.
-- lines: whether there is any. By key, one row a span and account, and the lines that are not rolled up yet.
CREATE FUNCTION ledger.sums_as_of(of_book integer, accounts integer[], through date, known bigint)
RETURNS TABLE (account_id integer, posted_debits bigint, posted_credits bigint, pending_debits bigint, pending_credits bigint, lines boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$ DECLARE rolled bigint; levels smallint[]; spans bigint[]; BEGIN
  PERFORM ledger.plan_for((SELECT head FROM ledger.book WHERE book_id = of_book));
  rolled := least(ledger.spans_rolled_up(of_book), known / ledger.span_journals());
  SELECT array_agg(s.level), array_agg(s.span) INTO levels, spans FROM ledger.spans_of(rolled) AS s;
  rolled := rolled * ledger.span_journals();
  RETURN QUERY
  SELECT a.id, coalesce(ledger.total(part.d), 0), coalesce(ledger.total(part.c), 0), coalesce(ledger.total(part.pd), 0),
         coalesce(ledger.total(part.pc), 0), count(part.d) > 0
    FROM unnest(accounts) AS a(id) LEFT JOIN LATERAL (
      SELECT r.* FROM unnest(levels, spans) AS s(level, span), LATERAL (
        SELECT x.posted_debits AS d, x.posted_credits AS c, x.pending_debits AS pd, x.pending_credits AS pc
          FROM ledger.rollup x
         WHERE x.book_id = of_book AND x.level = s.level AND x.span = s.span AND x.account_id = a.id AND x.day <= through
         ORDER BY x.day DESC LIMIT 1) AS r
      UNION ALL
      SELECT p.amount * (1 - p.layer), 0, p.amount * p.layer, 0
        FROM ledger.posting p JOIN ledger.journal j ON j.book_id = p.book_id AND j.seq = p.journal_seq
       WHERE p.book_id = of_book AND p.debit_account = a.id AND p.journal_seq > rolled AND p.journal_seq <= known
         AND ledger.day_of(j.effective_at) <= through
      UNION ALL
      SELECT 0, p.amount * (1 - p.layer), 0, p.amount * p.layer
        FROM ledger.posting p JOIN ledger.journal j ON j.book_id = p.book_id AND j.seq = p.journal_seq
       WHERE p.book_id = of_book AND p.credit_account = a.id AND p.journal_seq > rolled AND p.journal_seq <= known
         AND ledger.day_of(j.effective_at) <= through) AS part ON true
   GROUP BY a.id;
END $$;

-- The balances that each account's last line up to ``known`` states, signed by its normal side; of an account that
-- had none, no row. One probe of each side's index.
CREATE FUNCTION ledger.lines_as_of(of_book integer, accounts integer[], known bigint)
RETURNS TABLE (account_id integer, seq bigint, posted bigint, available bigint, incoming bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto SET enable_seqscan = off
AS $$ BEGIN
  PERFORM ledger.plan_for((SELECT head FROM ledger.book WHERE book_id = of_book));
  RETURN QUERY
  SELECT a.id, l.seq, l.posted, l.available, l.incoming
    FROM unnest(accounts) AS a(id), LATERAL (
      (SELECT p.journal_seq, p.line, p.debit_seq AS seq, p.debit_posted AS posted, p.debit_available AS available, p.debit_incoming AS incoming
         FROM ledger.posting p WHERE p.book_id = of_book AND p.debit_account = a.id AND p.journal_seq <= known
        ORDER BY p.journal_seq DESC, p.line DESC LIMIT 1)
      UNION ALL
      (SELECT p.journal_seq, p.line, p.credit_seq, p.credit_posted, p.credit_available, p.credit_incoming
         FROM ledger.posting p WHERE p.book_id = of_book AND p.credit_account = a.id AND p.journal_seq <= known
        ORDER BY p.journal_seq DESC, p.line DESC LIMIT 1)
      ORDER BY journal_seq DESC, line DESC LIMIT 1) AS l;
END $$;

-- ---------------------------------------------------------------- lines and journals by effective day

-- Those of these journals' lines that are an account's and come after a position, so many at most.
CREATE FUNCTION ledger.lines_among(of_book integer, account integer, seqs bigint[], after_seq bigint, after_line integer, most bigint)
RETURNS TABLE (journal_seq bigint, line smallint) LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT p.journal_seq, p.line FROM unnest(seqs) AS at(seq) JOIN ledger.posting p ON p.book_id = of_book AND p.journal_seq = at.seq
   WHERE account IN (p.debit_account, p.credit_account) AND (p.journal_seq, p.line) > (after_seq, after_line)
   ORDER BY p.journal_seq, p.line LIMIT most;
END;

-- An account's lines of the days first..last among the journals 1..known, by day, then as recorded, after a position
-- (null: from the beginning). Level 0 tells which journals hold lines of a day; only those are looked into, span after
-- span until there are enough. What is not rolled up comes at the end of its day.
CREATE FUNCTION ledger.effective_lines(of_book integer, account integer, first date, last date, known bigint,
                                       after_day date, after_seq bigint, after_line integer, most bigint)
RETURNS TABLE (day date, journal_seq bigint, line smallint)
LANGUAGE plpgsql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$ DECLARE size bigint := ledger.span_journals(); rolled bigint; g record; found bigint; tail_days date[]; tail_seqs bigint[]; n integer := 1; BEGIN
  PERFORM ledger.plan_for((SELECT head FROM ledger.book WHERE book_id = of_book));
  rolled := least(ledger.spans_rolled_up(of_book), (known + size - 1) / size);
  after_day := coalesce(after_day, first);
  after_seq := coalesce(after_seq, 0);
  after_line := coalesce(after_line, 0);
  SELECT array_agg(t.day ORDER BY t.day, t.seq), array_agg(t.seq ORDER BY t.day, t.seq) INTO tail_days, tail_seqs
    FROM (SELECT DISTINCT ledger.day_of(j.effective_at) AS day, j.seq
            FROM (SELECT p.journal_seq FROM ledger.posting p
                   WHERE p.book_id = of_book AND p.debit_account = account AND p.journal_seq > rolled * size AND p.journal_seq <= known
                  UNION ALL
                  SELECT p.journal_seq FROM ledger.posting p
                   WHERE p.book_id = of_book AND p.credit_account = account AND p.journal_seq > rolled * size AND p.journal_seq <= known) AS l
            JOIN ledger.journal j ON j.book_id = of_book AND j.seq = l.journal_seq
           WHERE ledger.day_of(j.effective_at) >= after_day AND ledger.day_of(j.effective_at) <= last) AS t;
  FOR g IN
    SELECT r.day, r.span * size + 1 AS begins, r.journals FROM ledger.rollup r
     WHERE r.book_id = of_book AND r.account_id = account AND r.level = 0 AND r.day >= first AND r.day <= last
       AND (r.day, r.span) >= (after_day, div(greatest(after_seq - 1, 0)::numeric, size)::bigint) AND r.span < rolled
     ORDER BY r.day, r.span
  LOOP
    WHILE tail_days[n] < g.day AND most > 0 LOOP
      RETURN QUERY SELECT tail_days[n], l.* FROM ledger.lines_among(of_book, account, ARRAY[tail_seqs[n]],
        CASE WHEN tail_days[n] = after_day THEN after_seq ELSE 0 END, after_line, most) AS l;
      GET DIAGNOSTICS found = ROW_COUNT;
      most := most - found;
      n := n + 1;
    END LOOP;
    EXIT WHEN most <= 0;
    RETURN QUERY SELECT g.day, l.* FROM ledger.lines_among(of_book, account,
      ARRAY(SELECT g.begins + get_byte(g.journals, at) FROM generate_series(0, octet_length(g.journals) - 1) AS at
             WHERE g.begins + get_byte(g.journals, at) <= known),
      CASE WHEN g.day = after_day THEN after_seq ELSE 0 END, after_line, most) AS l;
    GET DIAGNOSTICS found = ROW_COUNT;
    most := most - found;
  END LOOP;
  WHILE tail_days[n] IS NOT NULL AND most > 0 LOOP
    RETURN QUERY SELECT tail_days[n], l.* FROM ledger.lines_among(of_book, account, ARRAY[tail_seqs[n]],
      CASE WHEN tail_days[n] = after_day THEN after_seq ELSE 0 END, after_line, most) AS l;
    GET DIAGNOSTICS found = ROW_COUNT;
    most := most - found;
    n := n + 1;
  END LOOP;
END $$;

-- Of the journals first..last those effective on ``through`` or before, in order, so many at most (null: all). A span
-- none of whose journals is, is not looked into.
CREATE FUNCTION ledger.late_journals(of_book integer, through date, first bigint, last bigint, most bigint) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$ DECLARE size bigint := ledger.span_journals(); fan bigint := ledger.span_fan(); rolled bigint; BEGIN
  PERFORM ledger.plan_for((SELECT head FROM ledger.book WHERE book_id = of_book));
  rolled := least(ledger.spans_rolled_up(of_book), last / size);
  RETURN QUERY
  WITH RECURSIVE s AS (
    SELECT r.level, r.span FROM ledger.spans_of(rolled) AS o
      JOIN ledger.rollup_span r ON r.book_id = of_book AND r.level = o.level AND r.span = o.span
     WHERE r.last_seq >= first AND r.first_day <= through
    UNION ALL
    SELECT r.level, r.span FROM s
      JOIN ledger.rollup_span r ON r.book_id = of_book AND r.level = s.level - 1 AND r.span BETWEEN s.span * fan AND s.span * fan + fan - 1
     WHERE s.level > 0 AND r.last_seq >= first AND r.first_day <= through
  ), part AS (
    SELECT span * size + 1 AS a, (span + 1) * size AS z FROM s WHERE level = 0
    UNION ALL
    SELECT rolled * size + 1, last)
  -- The fence: span by span, not the whole journal in order.
  SELECT l.seq FROM part CROSS JOIN LATERAL (
           SELECT j.seq FROM ledger.journal j
            WHERE j.book_id = of_book AND j.seq BETWEEN greatest(part.a, first) AND least(part.z, last)
              AND ledger.day_of(j.effective_at) <= through OFFSET 0) AS l
   ORDER BY l.seq LIMIT most;
END $$;

REVOKE ALL ON ledger.rollup_span, ledger.rollup FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
GRANT SELECT ON ledger.rollup_span, ledger.rollup TO khata_app, khata_audit;
GRANT EXECUTE ON FUNCTION ledger.roll_up TO khata_app;
GRANT EXECUTE ON FUNCTION ledger.span_journals, ledger.span_fan, ledger.spans_rolled_up, ledger.spans_of, ledger.seq_at,
  ledger.known, ledger.day_of, ledger.sums_as_of, ledger.lines_as_of,
  ledger.lines_among, ledger.effective_lines, ledger.late_journals, ledger.plan_for, ledger.total(bigint) TO khata_app, khata_audit;
