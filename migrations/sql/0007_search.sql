-- Search: an inverted index of the journals, made after the fact, so that posting pays nothing for it. It is derived:
-- ledger.index_journals reads what stands and inserts; what it has not read yet (the tail) search reads itself.

-- The words a journal is found by (ledger.terms_of): one row for each of them.
CREATE TABLE ledger.term (
  book_id integer NOT NULL,
  term    text COLLATE "C" NOT NULL,
  seq     bigint NOT NULL,
  PRIMARY KEY (book_id, term, seq)
);

-- The journals first..last got their terms together; the greatest last is how far a book's index goes.
CREATE TABLE ledger.term_run (
  book_id integer NOT NULL,
  last    bigint NOT NULL,
  first   bigint NOT NULL CONSTRAINT term_run_first CHECK (first > 0 AND first <= last),
  PRIMARY KEY (book_id, last)
);

DO $$ DECLARE t text; BEGIN
  FOREACH t IN ARRAY ARRAY['term', 'term_run'] LOOP
    EXECUTE format('CREATE TRIGGER immutable_row BEFORE UPDATE OR DELETE ON ledger.%I
                    FOR EACH ROW EXECUTE FUNCTION ledger.immutable()', t);
    EXECUTE format('CREATE TRIGGER immutable_table BEFORE TRUNCATE ON ledger.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION ledger.immutable()', t);
  END LOOP;
END $$;

-- The metadata that a canonical line states; of a line that is none, nothing: whoever may insert journals could write
-- one, and must not keep the others from being found. The audit names it.
CREATE FUNCTION ledger.metadata_of(canonical text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
AS $$ DECLARE stated jsonb; BEGIN
  stated := canonical::jsonb -> 'metadata';
  RETURN CASE jsonb_typeof(stated) WHEN 'object' THEN stated ELSE '{}' END;
EXCEPTION WHEN data_exception OR program_limit_exceeded OR statement_too_complex THEN
  RETURN '{}';
END $$;

-- The greatest term in bytes; no journal that Khata makes has a longer one. A row of the index could not hold it.
CREATE FUNCTION ledger.term_bytes() RETURNS integer LANGUAGE sql IMMUTABLE RETURN 2000;

-- The terms of the journals first..last, each once. Effective days are UTC's; amounts are without their sign: what gives a
-- hold back is found as what placed it.
CREATE FUNCTION ledger.terms_of(of_book integer, first bigint, last bigint) RETURNS TABLE (term text, seq bigint)
LANGUAGE sql STABLE
AS $$
  SELECT DISTINCT said.term, said.seq FROM (
    SELECT t.term, j.seq
      FROM ledger.journal j CROSS JOIN LATERAL (
        SELECT unnest(ARRAY['kind:' || j.kind, 'source_type:' || j.source_type, 'source_event:' || j.source_event,
                            'day:' || to_char(j.effective_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
                            'month:' || to_char(j.effective_at AT TIME ZONE 'UTC', 'YYYY-MM')])
        UNION ALL
        SELECT 'meta:' || m.key || '=' || (m.value #>> '{}') FROM jsonb_each(ledger.metadata_of(j.canonical)) m
         WHERE jsonb_typeof(m.value) = 'string') AS t(term)
     WHERE j.book_id = of_book AND j.seq BETWEEN first AND last
    UNION ALL
    SELECT t.term, p.journal_seq
      FROM ledger.posting p CROSS JOIN LATERAL (
        SELECT 'amount:' || p.currency || ':' || abs(p.amount)
        UNION ALL
        SELECT 'owner:' || a.owner FROM unnest(ARRAY[p.debit_account, p.credit_account]) AS side(account_id)
          JOIN ledger.account a ON a.book_id = of_book AND a.account_id = side.account_id AND a.owner IS NOT NULL) AS t(term)
     WHERE p.book_id = of_book AND p.journal_seq BETWEEN first AND last) AS said
   WHERE octet_length(said.term) <= ledger.term_bytes()
$$;

-- The number of the last journal that has its terms.
CREATE FUNCTION ledger.indexed_through(of_book integer) RETURNS bigint LANGUAGE sql STABLE
RETURN coalesce((SELECT r.last FROM ledger.term_run r WHERE r.book_id = of_book ORDER BY r.last DESC LIMIT 1), 0);

-- Gives the next journals their terms, at most so many; how many those were. 0 also while somebody else is at it:
-- the lock is this function's own, no writer ever waits for it.
CREATE FUNCTION ledger.index_journals(of_book integer, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off   -- by key, however young the book is
AS $$ DECLARE first bigint; last bigint; BEGIN
  IF NOT pg_try_advisory_xact_lock('ledger.term'::regclass::oid::integer, of_book) THEN RETURN 0; END IF;
  first := ledger.indexed_through(of_book) + 1;
  SELECT least(first + most - 1, b.head) INTO last FROM ledger.book b WHERE b.book_id = of_book;
  IF last IS NULL OR last < first THEN RETURN 0; END IF;
  -- In the order of the index: neighbours go to the same page.
  INSERT INTO ledger.term (book_id, term, seq)
  SELECT of_book, t.term, t.seq FROM ledger.terms_of(of_book, first, last) t ORDER BY t.term COLLATE "C", t.seq;
  INSERT INTO ledger.term_run (book_id, last, first) VALUES (of_book, last, first);
  RETURN last - first + 1;
END $$;

-- The terms in use from one to another, both included: a look-up for each, however many journals bear it.
CREATE FUNCTION ledger.terms_in_use(of_book integer, lowest text, highest text) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
AS $$ DECLARE found text := lowest; BEGIN
  found := (SELECT t.term FROM ledger.term t WHERE t.book_id = of_book AND t.term >= found ORDER BY t.term LIMIT 1);
  WHILE found COLLATE "C" <= highest LOOP
    RETURN NEXT found;
    found := (SELECT t.term FROM ledger.term t WHERE t.book_id = of_book AND t.term > found ORDER BY t.term LIMIT 1);
  END LOOP;
END $$;

-- The terms that the journals effective from first_day to last_day bear: whole months, and days at both ends.
CREATE FUNCTION ledger.periods(of_book integer, first_day date, last_day date) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$ DECLARE
  day CONSTANT text := '"day:"YYYY-MM-DD';
  month CONSTANT text := '"month:"YYYY-MM';
  first_month date := date_trunc('month', first_day + interval '1 month' - interval '1 day');
  after_months date := date_trunc('month', last_day + interval '1 day');
BEGIN
  IF first_month >= after_months THEN
    RETURN ARRAY(SELECT ledger.terms_in_use(of_book, to_char(first_day, day), to_char(last_day, day)));
  END IF;
  RETURN ARRAY(SELECT ledger.terms_in_use(of_book, to_char(first_day, day), to_char(first_month - 1, day))
               UNION ALL
               SELECT ledger.terms_in_use(of_book, to_char(first_month, month), to_char(after_months - 1, month))
               UNION ALL
               SELECT ledger.terms_in_use(of_book, to_char(after_months, day), to_char(last_day, day)));
END $$;

-- The numbers of the journals that fit, the greatest first: at most so many, from lowest up to before (not included).
-- They bear all terms, are effective from first_day to last_day (none: always), touch one of the accounts, and have
-- that source id; a condition that is null is none.
--
-- Each condition is a list of numbers in order, and this leaps through them: to the greatest number that the first
-- condition has at or below here, from there to that of the next, until none of them moves. A page of one condition
-- costs a look-up an entry; of several, never more than the list of the rarest has entries, times the conditions.
CREATE FUNCTION ledger.search(of_book integer, terms text[], first_day date, last_day date, accounts integer[],
                              of_source text, lowest bigint, before bigint, most integer) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$ DECLARE
  by_day boolean := first_day IS NOT NULL OR last_day IS NOT NULL;
  first date := greatest(first_day, '1900-01-01');   -- the journals' own bounds (journal_effective)
  last date := least(last_day, '9000-01-01');
  indexed bigint := ledger.indexed_through(of_book);
  missing integer := most;
  periods text[];
  heads bigint[];   -- by period
  wanted text;
  here bigint;
  start bigint;
BEGIN
  -- What has no terms yet is read as it stands.
  FOR here IN
    SELECT j.seq FROM ledger.journal j
     WHERE j.book_id = of_book AND j.seq >= greatest(lowest, indexed + 1) AND j.seq < before
       AND (of_source IS NULL OR j.source_id = of_source)
       AND (NOT by_day OR (j.effective_at AT TIME ZONE 'UTC')::date BETWEEN first AND last)
       AND (accounts IS NULL OR EXISTS (
             SELECT FROM ledger.posting p WHERE p.book_id = of_book AND p.journal_seq = j.seq
                AND (p.debit_account = ANY (accounts) OR p.credit_account = ANY (accounts))))
       AND (terms = '{}' OR terms <@ ARRAY(SELECT t.term FROM ledger.terms_of(of_book, j.seq, j.seq) t))
     ORDER BY j.seq DESC LIMIT most
  LOOP
    RETURN NEXT here;
    missing := missing - 1;
  END LOOP;
  IF by_day AND missing > 0 THEN
    periods := ledger.periods(of_book, first, last);
    heads := array_fill(before, ARRAY[cardinality(periods)]);
  END IF;
  here := least(before - 1, indexed);
  WHILE missing > 0 AND here >= lowest LOOP   -- a condition without another entry makes here null: the end
    start := here;
    IF of_source IS NOT NULL THEN   -- all of a source's journals, which are few; the fence keeps it from walking the book
      here := (SELECT max(s.seq) FROM (SELECT j.seq FROM ledger.journal j
                                        WHERE j.book_id = of_book AND j.source_id = of_source AND j.seq <= here OFFSET 0) s);
    END IF;
    FOREACH wanted IN ARRAY terms LOOP
      here := (SELECT t.seq FROM ledger.term t WHERE t.book_id = of_book AND t.term = wanted AND t.seq <= here
                ORDER BY t.seq DESC LIMIT 1);
    END LOOP;
    IF accounts IS NOT NULL THEN
      here := (SELECT max(n.seq) FROM unnest(accounts) AS a(id) CROSS JOIN LATERAL (
                 (SELECT p.journal_seq FROM ledger.posting p
                   WHERE p.book_id = of_book AND p.debit_account = a.id AND p.journal_seq <= here
                   ORDER BY p.journal_seq DESC LIMIT 1)
                 UNION ALL
                 (SELECT p.journal_seq FROM ledger.posting p
                   WHERE p.book_id = of_book AND p.credit_account = a.id AND p.journal_seq <= here
                   ORDER BY p.journal_seq DESC LIMIT 1)) AS n(seq));
    END IF;
    -- There may be many periods: what each has at or below some number is looked up when that number is passed.
    IF by_day THEN
      heads := ARRAY(SELECT CASE WHEN h.head <= here OR h.head IS NULL THEN h.head ELSE (
                              SELECT t.seq FROM ledger.term t
                               WHERE t.book_id = of_book AND t.term = h.term AND t.seq <= here
                               ORDER BY t.seq DESC LIMIT 1) END
                       FROM unnest(periods, heads) AS h(term, head));
      here := (SELECT max(h.head) FROM unnest(heads) AS h(head));
    END IF;
    IF here = start THEN
      RETURN NEXT here;
      missing := missing - 1;
      here := here - 1;
    END IF;
  END LOOP;
END $$;

REVOKE ALL ON ledger.term, ledger.term_run FROM PUBLIC;
REVOKE ALL ON FUNCTION ledger.metadata_of, ledger.term_bytes, ledger.terms_of, ledger.indexed_through, ledger.index_journals, ledger.terms_in_use, ledger.periods,
  ledger.search FROM PUBLIC;
GRANT SELECT ON ledger.term, ledger.term_run TO khata_app, khata_audit;
GRANT EXECUTE ON FUNCTION ledger.metadata_of, ledger.term_bytes, ledger.terms_of, ledger.indexed_through, ledger.terms_in_use, ledger.periods, ledger.search
  TO khata_app, khata_audit;
GRANT EXECUTE ON FUNCTION ledger.index_journals TO khata_app;
