-- What people do to the books: the log of their acts, procedures that need two of them, closing and reopening periods.
-- Everything here is written by functions that take the book's lock first, as every writer does.

-- ---------------------------------------------------------------- acts

-- One row a deed, numbered without gaps. leaf_hash covers the other columns (ledger.act_line).
CREATE TABLE ledger.act (
  book_id     integer NOT NULL REFERENCES ledger.book,
  act         bigint NOT NULL CONSTRAINT act_number CHECK (act > 0 OR ledger.broken('KH014', 'act', 'act_number')),
  recorded_at timestamptz NOT NULL,
  person      text COLLATE "C" NOT NULL,   -- a client's id, or who was logged in
  action      text COLLATE "C" NOT NULL
              CONSTRAINT act_action CHECK (action ~ '^[a-z][a-z0-9_]{0,39}$' OR ledger.broken('KH014', 'act', 'act_action')),
  subject     text COLLATE "C" NOT NULL    -- what it was done to: a path, an id, a day
              CONSTRAINT act_subject CHECK (octet_length(subject) BETWEEN 1 AND 1000 OR ledger.broken('KH014', 'act', 'act_subject')),
  reason      text NOT NULL,
  detail      text COLLATE "C" NOT NULL,   -- one line of RFC 8785 JSON
  leaf_hash   bytea NOT NULL,
  PRIMARY KEY (book_id, act),
  CONSTRAINT act_person CHECK (person ~ '^[!-~]{1,64}$' OR ledger.broken('KH025', 'act', 'act_person')),
  CONSTRAINT act_reason CHECK (
    (reason ~ '[^[:space:]]' AND reason !~ '[[:cntrl:]]' AND length(reason) <= 500) OR ledger.broken('KH025', 'act', 'act_reason')),
  CONSTRAINT act_leaf CHECK (octet_length(leaf_hash) = 32 OR ledger.broken('KH014', 'act', 'act_leaf'))
);
CREATE INDEX act_person ON ledger.act (book_id, person, act);
CREATE INDEX act_subject ON ledger.act (book_id, subject, act);

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

CREATE FUNCTION ledger.rfc3339(at timestamptz) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- The line an act's leaf hash covers.
CREATE FUNCTION ledger.act_line(a ledger.act, book text) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN ledger.jcs(jsonb_build_object(
  'act', a.act, 'action', a.action, 'book', book, 'detail', a.detail::jsonb, 'person', a.person, 'reason', a.reason,
  'recorded_at', ledger.rfc3339(a.recorded_at), 'subject', a.subject));

-- Records what somebody did, in the transaction that does it; returns the act's number. Takes the book's lock.
-- For the functions that do such things: no role may call it by itself.
CREATE FUNCTION ledger.record_act(of_book integer, person text, action text, subject text, reason text, detail jsonb, at timestamptz)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$ DECLARE b record; a ledger.act; BEGIN
  IF person IS NULL OR reason IS NULL THEN
    PERFORM ledger.refuse('KH025', format('%s needs a person and a reason', action));
  ELSIF of_book IS NULL OR action IS NULL OR subject IS NULL OR at IS NULL THEN
    PERFORM ledger.refuse('KH019', 'an act needs a book, an action, a subject and a time');
  END IF;
  UPDATE ledger.book SET acts = acts + 1, recorded_at = greatest(recorded_at, at) WHERE book_id = of_book
  RETURNING name, acts, recorded_at INTO b;
  IF NOT FOUND THEN PERFORM ledger.refuse('KH005', format('there is no book %s', of_book)); END IF;
  a := (of_book, b.acts, b.recorded_at, person, action, subject, reason, ledger.jcs(coalesce(detail, '{}')), NULL);
  a.leaf_hash := sha256('\x00'::bytea || convert_to(ledger.act_line(a, b.name), 'UTF8'));
  INSERT INTO ledger.act SELECT a.*;
  RETURN a.act;
END $$;

-- ---------------------------------------------------------------- two people

-- What one person asks for and another decides. content: one line of RFC 8785 JSON, as the kind has it.
CREATE TABLE ledger.proposal (
  book_id     integer NOT NULL,
  proposal_id uuid NOT NULL,
  kind        text COLLATE "C" NOT NULL
              CONSTRAINT proposal_kind CHECK (kind IN ('adjustment', 'reopening') OR ledger.broken('KH014', 'proposal', 'proposal_kind')),
  content     text COLLATE "C" NOT NULL,
  reason      text NOT NULL,
  proposer    text COLLATE "C" NOT NULL,
  proposed_at timestamptz NOT NULL,
  act         bigint NOT NULL,
  PRIMARY KEY (book_id, proposal_id),
  FOREIGN KEY (book_id, act) REFERENCES ledger.act
);
CREATE UNIQUE INDEX proposal_act ON ledger.proposal (book_id, act);
CREATE INDEX proposal_kind ON ledger.proposal (book_id, kind, act);

-- The one decision about a proposal, by somebody else than its proposer.
CREATE TABLE ledger.verdict (
  book_id     integer NOT NULL,
  proposal_id uuid NOT NULL,
  approved    boolean NOT NULL,
  person      text COLLATE "C" NOT NULL,
  reason      text NOT NULL,
  decided_at  timestamptz NOT NULL,
  act         bigint NOT NULL,
  PRIMARY KEY (book_id, proposal_id),
  FOREIGN KEY (book_id, act) REFERENCES ledger.act
);

CREATE FUNCTION ledger.verdict_given() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE p ledger.proposal; v ledger.verdict; BEGIN
  SELECT * INTO p FROM ledger.proposal WHERE book_id = NEW.book_id AND proposal_id = NEW.proposal_id;
  SELECT * INTO v FROM ledger.verdict WHERE book_id = NEW.book_id AND proposal_id = NEW.proposal_id;
  IF p.proposal_id IS NULL THEN
    PERFORM ledger.refuse('KH026', format('book %s has no proposal %s', NEW.book_id, NEW.proposal_id));
  ELSIF v.proposal_id IS NOT NULL THEN
    PERFORM ledger.refuse('KH026', format('proposal %s was decided by %s', p.proposal_id, v.person));
  ELSIF NEW.person = p.proposer THEN
    PERFORM ledger.refuse('KH026', format('%s proposed %s: somebody else decides', p.proposer, p.proposal_id));
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER verdict_given BEFORE INSERT ON ledger.verdict FOR EACH ROW EXECUTE FUNCTION ledger.verdict_given();

CREATE FUNCTION ledger.propose(of_book integer, of_proposal uuid, of_kind text, wanted jsonb, who text, why text, at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE line text := ledger.jcs(wanted); number bigint; BEGIN
  IF of_proposal IS NULL OR of_kind IS NULL OR wanted IS NULL THEN
    PERFORM ledger.refuse('KH019', 'a proposal needs an id, a kind and a content');
  END IF;
  number := ledger.record_act(of_book, who, of_kind || '_proposed', of_proposal::text, why, jsonb_build_object(
    'content_hash', encode(sha256(convert_to(line, 'UTF8')), 'hex'), 'kind', of_kind), at);
  IF EXISTS (SELECT FROM ledger.proposal WHERE book_id = of_book AND proposal_id = of_proposal) THEN
    PERFORM ledger.refuse('KH026', format('there is a proposal %s already', of_proposal));
  END IF;
  IF of_kind = 'adjustment' THEN
    PERFORM ledger.check_adjustment(wanted);
  ELSIF of_kind = 'reopening' THEN
    PERFORM ledger.check_reopening(of_book, wanted);
  END IF;
  INSERT INTO ledger.proposal (book_id, proposal_id, kind, content, reason, proposer, proposed_at, act)
  SELECT of_book, of_proposal, of_kind, line, why, who, recorded_at, number FROM ledger.book WHERE book_id = of_book;
END $$;

-- Approves or rejects. An approved reopening is done here; an approved adjustment is what its journal needs to be
-- booked (ledger.adjustment_booked), in this transaction or, should that be lost, in a later one.
CREATE FUNCTION ledger.decide_proposal(of_book integer, of_proposal uuid, of_kind text, accept boolean, who text, why text, at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE number bigint; top bigint; p ledger.proposal; BEGIN
  IF of_proposal IS NULL OR of_kind IS NULL OR accept IS NULL THEN
    PERFORM ledger.refuse('KH019', 'a verdict needs a proposal, its kind, and yes or no');
  END IF;
  -- The lock first: the head that the act tells must be the one the verdict meets.
  UPDATE ledger.book SET recorded_at = greatest(recorded_at, at) WHERE book_id = of_book RETURNING head INTO top;
  number := ledger.record_act(of_book, who, of_kind || CASE WHEN accept THEN '_approved' ELSE '_rejected' END,
                              of_proposal::text, why, jsonb_build_object('head', top), at);
  SELECT * INTO p FROM ledger.proposal WHERE book_id = of_book AND proposal_id = of_proposal AND kind = of_kind;
  IF NOT FOUND THEN PERFORM ledger.refuse('KH026', format('book %s has no %s %s', of_book, of_kind, of_proposal)); END IF;
  INSERT INTO ledger.verdict (book_id, proposal_id, approved, person, reason, decided_at, act)
  SELECT of_book, of_proposal, accept, who, why, recorded_at, number FROM ledger.book WHERE book_id = of_book;
  IF accept AND of_kind = 'reopening' THEN
    PERFORM ledger.move_close(of_book, 'reopen', ledger.check_reopening(of_book, p.content::jsonb), NULL, of_proposal, who, why, number);
  END IF;
END $$;

-- ---------------------------------------------------------------- adjustments

-- What is proposed has the form of an adjustment (ledger/adjustments.py); whether the ledger takes its journal is judged
-- when it is approved. Every type is asked for by name: a filter that meets an array looks at what is in it.
CREATE FUNCTION ledger.check_adjustment(wanted jsonb) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$ BEGIN
  IF (jsonb_typeof(wanted) = 'object' AND wanted @? '$ ? (
        @.description.type() == "string"
        && (@.effective_at.type() == "null" || @.effective_at.type() == "string" && @.effective_at like_regex
            "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z$")
        && @.metadata.type() == "object" && !exists(@.metadata.*.type() ? (@ != "string"))
        && !exists(@.metadata.keyvalue() ? (@.key starts with "adjustment."))
        && @.on_closed.type() == "string" && (@.on_closed == "refuse" || @.on_closed == "first_open_day")
        && @.postings.type() == "array" && @.postings.size() >= 1 && @.postings.size() <= 100
        && !exists(@.postings[*].type() ? (@ != "object")) && !exists(@.postings[*] ? (!(
             @.debit.type() == "string" && @.credit.type() == "string"
             && @.currency.type() == "string" && @.layer.type() == "string" && @.layer == "posted"
             && @.amount.type() == "string" && @.amount like_regex "^[1-9][0-9]{0,15}$"))))') IS NOT TRUE THEN
    PERFORM ledger.refuse('KH028', 'an adjustment says description, effective_at, metadata, on_closed and its postings');
  ELSIF wanted @? '$.postings[*] ? (@.debit starts with "Assets:Clearing:Book:" || @.credit starts with "Assets:Clearing:Book:")' THEN
    PERFORM ledger.refuse('KH028', 'only transfers book on clearing accounts between books');
  END IF;
END $$;

-- A journal of kind "adjustment", or with such a source key, is booked as it was approved or not at all. It names the
-- acts of the two people by number: a journal holds no name of a person.
CREATE FUNCTION ledger.adjustment_booked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
AS $$ DECLARE wanted jsonb; acts jsonb; asked text; open_from text; booked jsonb; said jsonb; BEGIN
  SELECT p.content::jsonb, jsonb_build_object('adjustment.approved_act', v.act::text, 'adjustment.proposed_act', p.act::text)
    INTO wanted, acts FROM ledger.proposal p JOIN ledger.verdict v USING (book_id, proposal_id)
   WHERE p.book_id = NEW.book_id AND p.kind = 'adjustment' AND v.approved
     AND p.proposal_id = CASE WHEN NEW.source_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN NEW.source_id::uuid END;
  IF wanted IS NULL OR (NEW.kind, NEW.source_type, NEW.source_event) <> ('adjustment', 'adjustment', 'approved') THEN
    PERFORM ledger.refuse('KH028', format('book %s: no adjustment %s was approved', NEW.book_id, NEW.source_id));
  END IF;
  PERFORM ledger.check_adjustment(wanted);
  -- Times are compared as the texts they are kept as: all of one length, so text order is time order.
  SELECT (closed_through + 1)::text || 'T00:00:00.000000Z' INTO open_from FROM ledger.book WHERE book_id = NEW.book_id;
  asked := coalesce(wanted ->> 'effective_at', ledger.rfc3339(NEW.recorded_at));
  IF asked < open_from COLLATE "C" AND wanted ->> 'on_closed' = 'first_open_day' THEN asked := open_from; END IF;
  SELECT jsonb_agg(jsonb_build_object('amount', p.amount::text, 'credit', c.path, 'currency', p.currency, 'debit', d.path,
                   'layer', CASE p.layer WHEN 0 THEN 'posted' ELSE 'pending' END) ORDER BY p.line)
    INTO booked FROM ledger.posting p
    JOIN ledger.account d ON d.book_id = p.book_id AND d.account_id = p.debit_account
    JOIN ledger.account c ON c.book_id = p.book_id AND c.account_id = p.credit_account
   WHERE p.book_id = NEW.book_id AND p.journal_seq = NEW.seq;
  BEGIN   -- what is no JSON says nothing (IS JSON would need PostgreSQL 16)
    said := NEW.canonical::jsonb;
  EXCEPTION WHEN data_exception THEN
    said := NULL;
  END;
  IF (booked = wanted -> 'postings' AND ledger.rfc3339(NEW.effective_at) = asked AND NEW.reverses IS NULL
      AND said -> 'description' = wanted -> 'description' AND said -> 'metadata' = (wanted -> 'metadata') || acts) IS NOT TRUE THEN
    PERFORM ledger.refuse('KH028', format('book %s: adjustment %s is not booked as approved', NEW.book_id, NEW.source_id));
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER adjustment_booked AFTER INSERT ON ledger.journal FOR EACH ROW
  WHEN (NEW.kind = 'adjustment' OR NEW.source_type = 'adjustment') EXECUTE FUNCTION ledger.adjustment_booked();

-- ---------------------------------------------------------------- periods

-- Each close and each reopening, numbered without gaps. head: the last journal before it. trial_balance_hash: SHA-256
-- of the trial balance as effective through that day (ledger/periods.py), of a close only.
CREATE TABLE ledger.period_fact (
  book_id            integer NOT NULL,
  fact               integer NOT NULL
                     CONSTRAINT period_fact_number CHECK (fact > 0 OR ledger.broken('KH014', 'period_fact', 'period_fact_number')),
  action             text COLLATE "C" NOT NULL
                     CONSTRAINT period_action CHECK (action IN ('close', 'reopen') OR ledger.broken('KH014', 'period_fact', 'period_action')),
  through            date           -- what is closed from now on; null: nothing
                     CONSTRAINT period_through CHECK ((through BETWEEN '1900-01-01' AND '9000-01-01') IS NOT FALSE
                                                      OR ledger.broken('KH014', 'period_fact', 'period_through')),
  head               bigint NOT NULL,
  trial_balance_hash bytea,
  proposal_id        uuid,
  person             text COLLATE "C" NOT NULL,
  reason             text NOT NULL,
  recorded_at        timestamptz NOT NULL,
  act                bigint NOT NULL,
  PRIMARY KEY (book_id, fact),
  FOREIGN KEY (book_id, act) REFERENCES ledger.act,
  FOREIGN KEY (book_id, proposal_id) REFERENCES ledger.verdict,
  CONSTRAINT period_form CHECK (
    CASE action WHEN 'close' THEN through IS NOT NULL AND octet_length(trial_balance_hash) = 32 AND proposal_id IS NULL
                ELSE trial_balance_hash IS NULL AND proposal_id IS NOT NULL END
    OR ledger.broken('KH014', 'period_fact', 'period_form'))
);

-- Records the fact and moves the book with it, under the lock that record_act took.
CREATE FUNCTION ledger.move_close(of_book integer, what text, day date, hash bytea, of_proposal uuid, who text, why text, number bigint)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO ledger.period_fact (book_id, fact, action, through, head, trial_balance_hash, proposal_id, person, reason, recorded_at, act)
  SELECT of_book, coalesce((SELECT max(fact) FROM ledger.period_fact WHERE book_id = of_book), 0) + 1,
         what, day, head, hash, of_proposal, who, why, recorded_at, number
    FROM ledger.book WHERE book_id = of_book;
  UPDATE ledger.book SET closed_through = day WHERE book_id = of_book;
$$;

-- Closes every day up to and including ``day``. at_head: the book's head, which the hash speaks of.
CREATE FUNCTION ledger.close_period(of_book integer, day date, hash bytea, at_head bigint, who text, why text, at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
AS $$ DECLARE b ledger.book; number bigint; BEGIN
  IF day IS NULL OR hash IS NULL OR at_head IS NULL THEN
    PERFORM ledger.refuse('KH019', 'a close needs a day, a head and the hash of its trial balance');
  END IF;
  number := ledger.record_act(of_book, who, 'period_closed', day::text, why, jsonb_build_object(
    'head', at_head, 'trial_balance_hash', encode(hash, 'hex')), at);
  SELECT * INTO b FROM ledger.book WHERE book_id = of_book;
  IF day >= (b.recorded_at AT TIME ZONE 'UTC')::date THEN
    PERFORM ledger.refuse('KH027', format('%s is not over in book %s', day, of_book));
  ELSIF day <= b.closed_through THEN
    PERFORM ledger.refuse('KH027', format('book %s is closed through %s already', of_book, b.closed_through));
  ELSIF at_head <> b.head THEN
    PERFORM ledger.refuse('KH027', format('the head of book %s is %s, not %s', of_book, b.head, at_head));
  END IF;
  PERFORM ledger.move_close(of_book, 'close', day, hash, NULL, who, why, number);
END $$;

-- The day to reopen after; null where nothing stays closed.
CREATE FUNCTION ledger.check_reopening(of_book integer, wanted jsonb) RETURNS date LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO'
AS $$ DECLARE closed date; day date; BEGIN
  IF wanted ->> 'through' !~ '^\d{4}-\d\d-\d\d$' THEN   -- a date is also "yesterday"
    PERFORM ledger.refuse('KH027', format('%s is no day', wanted ->> 'through'));
  END IF;
  BEGIN
    day := (wanted ->> 'through')::date;
  EXCEPTION WHEN invalid_datetime_format OR datetime_field_overflow THEN
    PERFORM ledger.refuse('KH027', format('%s is no day', wanted ->> 'through'));
  END;
  SELECT closed_through INTO closed FROM ledger.book WHERE book_id = of_book;
  IF (wanted ->> 'closed_through' = closed::text AND wanted ? 'through' AND coalesce(day < closed AND day >= '1900-01-01', true)) IS NOT TRUE THEN
    PERFORM ledger.refuse('KH027', format('book %s is closed through %s: it cannot be reopened from %s back to %s', of_book,
                                          closed, wanted ->> 'closed_through', wanted ->> 'through'));
  END IF;
  RETURN day;
END $$;

-- ---------------------------------------------------------------- who may do what

DO $$ DECLARE t text; BEGIN
  FOREACH t IN ARRAY ARRAY['act', 'proposal', 'verdict', 'period_fact'] LOOP
    EXECUTE format('CREATE TRIGGER immutable_row BEFORE UPDATE OR DELETE ON ledger.%I
                    FOR EACH ROW EXECUTE FUNCTION ledger.immutable()', t);
    EXECUTE format('CREATE TRIGGER immutable_table BEFORE TRUNCATE ON ledger.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION ledger.immutable()', t);
    EXECUTE format('REVOKE ALL ON ledger.%I FROM PUBLIC', t);
    EXECUTE format('GRANT SELECT ON ledger.%I TO khata_app, khata_audit', t);
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION ledger.jcs, ledger.rfc3339, ledger.act_line, ledger.record_act, ledger.verdict_given, ledger.propose,
  ledger.decide_proposal, ledger.check_adjustment, ledger.adjustment_booked, ledger.move_close, ledger.close_period, ledger.check_reopening FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.propose, ledger.decide_proposal, ledger.close_period TO khata_app;
