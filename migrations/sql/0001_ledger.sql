-- The books. Everything at or below a book's head is complete, balanced and final, by the rules in this file:
-- the application may only INSERT journals and postings; heads, balances and holds are derived by the database.
-- SQLSTATE class KH is ours (see the list at ledger.refuse). book_id leads every key: books can live apart.
-- Functions name pg_temp last: unnamed it comes first, and a caller's temporary type would then run its own
-- checks with the owner's rights.

CREATE SCHEMA IF NOT EXISTS ledger;

-- How a CHECK refuses with our own SQLSTATE: `CHECK (what must hold OR ledger.broken(state, table, rule))`. OR stops at
-- its first true side, so a row that keeps the rule never gets here; one of which it is unknown does, hence
-- IS NOT FALSE where a column may be null. Volatile: a planner must not call it.
CREATE FUNCTION ledger.broken(state text, of_table text, rule text) RETURNS boolean LANGUAGE plpgsql VOLATILE
AS $$ BEGIN
  RAISE EXCEPTION USING ERRCODE = state, SCHEMA = 'ledger', TABLE = of_table, CONSTRAINT = rule,
    MESSAGE = format('a row of ledger.%s breaks %s', of_table, rule);
END $$;

-- ---------------------------------------------------------------- tables

CREATE TABLE ledger.book (
  book_id        integer PRIMARY KEY
                 CONSTRAINT book_number CHECK (book_id > 0 OR ledger.broken('KH014', 'book', 'book_number')),
  name           text NOT NULL UNIQUE
                 CONSTRAINT book_name CHECK (name ~ '^[a-z][a-z0-9-]{0,39}$' OR ledger.broken('KH014', 'book', 'book_name')),
  head           bigint NOT NULL DEFAULT 0                          -- seq of the last journal
                 CONSTRAINT book_head CHECK (head >= 0 OR ledger.broken('KH014', 'book', 'book_head')),
  accounts       integer NOT NULL DEFAULT 0,                        -- number of the last account
  acts           bigint NOT NULL DEFAULT 0,                         -- number of the last act of a person
  recorded_at    timestamptz NOT NULL                               -- clock of the book: never goes back
                 CONSTRAINT book_clock CHECK (recorded_at BETWEEN '1900-01-01Z' AND '9000-01-01Z'
                                              OR ledger.broken('KH014', 'book', 'book_clock')),
  closed_through date
                 CONSTRAINT book_closed_through CHECK ((closed_through BETWEEN '1900-01-01' AND '9000-01-01') IS NOT FALSE
                                                       OR ledger.broken('KH014', 'book', 'book_closed_through'))
) WITH (fillfactor = 50);

CREATE TABLE ledger.account (
  book_id      integer NOT NULL REFERENCES ledger.book,
  account_id   integer NOT NULL,
  path         text COLLATE "C" NOT NULL
               CONSTRAINT account_path CHECK (   -- words of at most 64 characters; {0,63} within {1,7} takes 30 times as long
                 (path ~ '^(Assets|Liabilities|Equity|Income|Expenses)(:[A-Za-z0-9][A-Za-z0-9_-]*){1,7}$' AND path !~ '[^:]{65}')
                 OR ledger.broken('KH014', 'account', 'account_path')),
  currency     text COLLATE "C" NOT NULL
               CONSTRAINT account_currency CHECK (currency ~ '^[A-Z]{3}$' OR ledger.broken('KH014', 'account', 'account_currency')),
  owner        text
               CONSTRAINT account_owner_name CHECK ((owner ~ '^[!-~]{1,64}$') IS NOT FALSE
                                                    OR ledger.broken('KH014', 'account', 'account_owner_name')),
  opened_at    timestamptz NOT NULL,
  debit_normal boolean NOT NULL GENERATED ALWAYS AS (path ~ '^(Assets|Expenses):') STORED,
  PRIMARY KEY (book_id, account_id),
  UNIQUE (book_id, path, currency)
);
CREATE INDEX account_owner ON ledger.account (book_id, owner, path) WHERE owner IS NOT NULL;

-- Floors and status are recorded facts: inserting one is the only way to change them.
CREATE TABLE ledger.account_fact (
  book_id     integer NOT NULL,
  account_id  integer NOT NULL,
  fact        integer NOT NULL CONSTRAINT fact_number CHECK (fact > 0 OR ledger.broken('KH014', 'account_fact', 'fact_number')),
  floor       bigint,
  status      text NOT NULL
              CONSTRAINT fact_status CHECK (status IN ('open', 'frozen', 'closed')
                                           OR ledger.broken('KH014', 'account_fact', 'fact_status')),
  reason      text NOT NULL,
  person      text COLLATE "C",                  -- who; of the fact that opens an account: nobody
  recorded_at timestamptz NOT NULL,
  after_seq   bigint NOT NULL,                   -- in force for the journals after this one
  act         bigint,                            -- what the log of acts says of it; of an opening: nothing
  PRIMARY KEY (book_id, account_id, fact),
  FOREIGN KEY (book_id, account_id) REFERENCES ledger.account
);

CREATE TABLE ledger.balance (
  book_id         integer NOT NULL,
  account_id      integer NOT NULL,
  seq             bigint NOT NULL DEFAULT 0,     -- of the account's last line
  posted_debits   bigint NOT NULL DEFAULT 0,
  posted_credits  bigint NOT NULL DEFAULT 0,
  pending_debits  bigint NOT NULL DEFAULT 0,
  pending_credits bigint NOT NULL DEFAULT 0,
  floor           bigint,
  fact            integer NOT NULL DEFAULT 0,    -- of the account's last fact
  debit_normal    boolean NOT NULL,
  currency        text COLLATE "C" NOT NULL,
  status          text NOT NULL DEFAULT 'open',
  limits          smallint NOT NULL DEFAULT 0,   -- how many velocity limits are active
  PRIMARY KEY (book_id, account_id),
  FOREIGN KEY (book_id, account_id) REFERENCES ledger.account,
  -- available = posted balance less pending outflow (accounting.md, "Layers")
  CONSTRAINT balance_floor CHECK (
    floor IS NULL OR floor <=
    CASE WHEN debit_normal THEN posted_debits - posted_credits - pending_credits
         ELSE posted_credits - posted_debits - pending_debits END
    OR ledger.broken('KH006', 'balance', 'balance_floor')),
  CONSTRAINT balance_closed CHECK (
    status <> 'closed' OR (posted_debits = posted_credits AND pending_debits = 0 AND pending_credits = 0)
    OR ledger.broken('KH017', 'balance', 'balance_closed')),
  CONSTRAINT balance_sums CHECK (
    (posted_debits >= 0 AND posted_credits >= 0 AND pending_debits >= 0 AND pending_credits >= 0)
    OR ledger.broken('KH018', 'balance', 'balance_sums'))
) WITH (fillfactor = 50);

CREATE TABLE ledger.journal (
  book_id      integer NOT NULL,         -- journal_appended proves it; a foreign key would cost as much as the row
  seq          bigint NOT NULL
               CONSTRAINT journal_number CHECK (seq > 0 OR ledger.broken('KH014', 'journal', 'journal_number')),
  id           uuid NOT NULL,
  effective_at timestamptz NOT NULL
               CONSTRAINT journal_effective CHECK (effective_at BETWEEN '1900-01-01Z' AND '9000-01-01Z'
                                                   OR ledger.broken('KH014', 'journal', 'journal_effective')),
  recorded_at  timestamptz NOT NULL,
  reverses     bigint
               CONSTRAINT journal_reversed CHECK (reverses IS NULL OR (reverses > 0 AND reverses < seq)
                                                  OR ledger.broken('KH014', 'journal', 'journal_reversed')),
  lines        smallint NOT NULL
               CONSTRAINT journal_lines CHECK (lines > 0 OR ledger.broken('KH014', 'journal', 'journal_lines')),
  kind         text COLLATE "C" NOT NULL,
  source_type  text COLLATE "C" NOT NULL,
  source_id    text COLLATE "C" NOT NULL,
  source_event text COLLATE "C" NOT NULL,
  leaf_hash    bytea NOT NULL            -- SHA-256(0x00 || canonical), RFC 9162
               CONSTRAINT journal_leaf CHECK (octet_length(leaf_hash) = 32 OR ledger.broken('KH014', 'journal', 'journal_leaf')),
  canonical    text COLLATE "C" NOT NULL,                             -- one line of RFC 8785 JSON; holds description and metadata
  PRIMARY KEY (book_id, seq),
  UNIQUE (book_id, id),
  CONSTRAINT journal_source UNIQUE (book_id, source_id, source_type, source_event)
);
CREATE UNIQUE INDEX journal_reverses ON ledger.journal (book_id, reverses) WHERE reverses IS NOT NULL;

-- One row is one debit/credit pair of one amount in one currency: what does not balance cannot be written. A row that
-- lacks one of the two sides, the amount, the currency or the layer breaks the check of that name (with our SQLSTATE).
CREATE TABLE ledger.posting (
  journal_seq      bigint NOT NULL,
  amount           bigint,
  debit_seq        bigint NOT NULL,     -- number of this line in the debited account
  debit_posted     bigint NOT NULL,     -- that account's balances after the line, signed by its normal side
  debit_available  bigint NOT NULL,
  debit_incoming   bigint NOT NULL,
  credit_seq       bigint NOT NULL,
  credit_posted    bigint NOT NULL,
  credit_available bigint NOT NULL,
  credit_incoming  bigint NOT NULL,
  book_id          integer NOT NULL,
  debit_account    integer,
  credit_account   integer,
  line             smallint NOT NULL,
  layer            smallint,                    -- 0 posted, 1 pending
  hold_action      smallint,                    -- 0 place, 1 increase, 2 capture, 3 release, 4 expire
  currency         text COLLATE "C",
  hold_id          uuid,
  PRIMARY KEY (book_id, journal_seq, line),
  CONSTRAINT posting_sides CHECK (debit_account <> credit_account OR ledger.broken('KH015', 'posting', 'posting_sides')),
  CONSTRAINT posting_amount CHECK (amount BETWEEN 1 AND 1000000000000000
                                   -- what is given back at once may have been placed and increased many times
                                   OR (amount < 0 AND layer = 1 AND hold_action >= 2)
                                   OR ledger.broken('KH015', 'posting', 'posting_amount')),
  CONSTRAINT posting_currency CHECK (currency <> '' OR ledger.broken('KH015', 'posting', 'posting_currency')),
  CONSTRAINT posting_line CHECK (line > 0 OR ledger.broken('KH015', 'posting', 'posting_line')),
  CONSTRAINT posting_layer CHECK (layer IN (0, 1) OR ledger.broken('KH015', 'posting', 'posting_layer')),
  CONSTRAINT posting_action CHECK (hold_action IS NULL OR hold_action BETWEEN 0 AND 4
                                   OR ledger.broken('KH015', 'posting', 'posting_action')),
  CONSTRAINT posting_hold CHECK (
    ((hold_id IS NULL) = (hold_action IS NULL)
     AND (layer = 0 OR hold_id IS NOT NULL)
     AND (layer = 1 OR hold_action IS NULL OR hold_action = 2)
     AND (layer = 0 OR (amount > 0) = (hold_action <= 1)))
    OR ledger.broken('KH015', 'posting', 'posting_hold'))
);
-- An account's lines in order: its last line at or before a journal's number states its balances as of then.
CREATE UNIQUE INDEX posting_debit ON ledger.posting (book_id, debit_account, journal_seq, line);
CREATE UNIQUE INDEX posting_credit ON ledger.posting (book_id, credit_account, journal_seq, line);
CREATE INDEX posting_of_hold ON ledger.posting (book_id, hold_id, journal_seq) WHERE hold_id IS NOT NULL;

CREATE TABLE ledger.hold (
  book_id        integer NOT NULL,
  hold_id        uuid NOT NULL,
  debit_account  integer NOT NULL,
  credit_account integer NOT NULL,
  tolerance_bps  integer NOT NULL
                 CONSTRAINT hold_tolerance CHECK (tolerance_bps BETWEEN 0 AND 10000
                                                  OR ledger.broken('KH014', 'hold', 'hold_tolerance')),
  expires_at     timestamptz
                 CONSTRAINT hold_expiry CHECK ((expires_at BETWEEN '1900-01-01Z' AND '9000-01-01Z') IS NOT FALSE
                                               OR ledger.broken('KH014', 'hold', 'hold_expiry')),
  held           bigint NOT NULL DEFAULT 0,   -- ever placed
  consumed       bigint NOT NULL DEFAULT 0,   -- taken out of it by captures
  captured       bigint NOT NULL DEFAULT 0,
  released       bigint NOT NULL DEFAULT 0,
  expired        bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (book_id, hold_id),        -- hold_added proves the accounts
  CONSTRAINT hold_sums CHECK (
    (held >= 0 AND consumed >= 0 AND captured >= consumed AND released >= 0 AND expired >= 0)
    OR ledger.broken('KH016', 'hold', 'hold_sums')),
  CONSTRAINT hold_remaining CHECK (consumed + released + expired <= held
                                   OR ledger.broken('KH016', 'hold', 'hold_remaining')),
  -- what is captured comes out of the hold, except what its tolerance allows beyond its end
  CONSTRAINT hold_taken CHECK (captured = consumed OR consumed + released + expired = held
                               OR ledger.broken('KH016', 'hold', 'hold_taken')),
  CONSTRAINT hold_ceiling CHECK (
    captured <= held - released - expired
                + div((held - released - expired)::numeric * tolerance_bps, 10000)
    OR ledger.broken('KH016', 'hold', 'hold_ceiling'))
) WITH (fillfactor = 70);
CREATE INDEX hold_due ON ledger.hold (book_id, expires_at)
  WHERE expires_at IS NOT NULL AND consumed + released + expired < held;

-- ---------------------------------------------------------------- refusals

-- KH001 gap, reuse or stale head     KH002 closed period        KH003 journal without its postings
-- KH004 posting into history         KH005 account's sequence   KH006 below floor
-- KH007 account not open             KH008 currency differs     KH009 hold's terms
-- KH010 immutable                    KH011 clock of the book    KH012 floor or status
-- KH013 running balance              KH014 value not allowed    KH015 form of a posting
-- KH016 sums and ceiling of a hold   KH017 closed, not empty    KH018 sums of a balance
-- KH019 argument missing
-- KH020 velocity limit reached       KH021 limit is another     KH022 value of a limit not allowed
-- KH025 act without person or reason   KH026 two people      KH027 close or reopening of a period
-- KH028 adjustment other than approved
-- KH030 not recorded yet
-- KH032 transfer other than its journal   KH033 answer other than its journal   KH034 end other than its journal
-- KH035 a transfer's terms or end
CREATE FUNCTION ledger.refuse(state text, message text) RETURNS void LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = state, MESSAGE = message; END $$;

CREATE FUNCTION ledger.immutable() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ BEGIN
  IF TG_TABLE_NAME = 'posting' AND TG_OP = 'DELETE' AND TG_LEVEL = 'ROW' THEN
    -- What lies above the head is not in the book (ledger.book_written clears it).
    IF OLD.journal_seq > (SELECT head FROM ledger.book WHERE book_id = OLD.book_id) THEN RETURN OLD; END IF;
  END IF;
  PERFORM ledger.refuse('KH010', format('%s.%s is append-only: no %s', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP));
  RETURN NULL;
END $$;

DO $$ DECLARE t text; BEGIN
  FOREACH t IN ARRAY ARRAY['journal', 'posting', 'account', 'account_fact'] LOOP
    EXECUTE format('CREATE TRIGGER immutable_row BEFORE UPDATE OR DELETE ON ledger.%I
                    FOR EACH ROW EXECUTE FUNCTION ledger.immutable()', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['journal', 'posting', 'account', 'account_fact', 'balance', 'hold', 'book'] LOOP
    EXECUTE format('CREATE TRIGGER immutable_table BEFORE TRUNCATE ON ledger.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION ledger.immutable()', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['balance', 'hold', 'book'] LOOP
    EXECUTE format('CREATE TRIGGER never_deleted BEFORE DELETE ON ledger.%I
                    FOR EACH ROW EXECUTE FUNCTION ledger.immutable()', t);
  END LOOP;
END $$;

-- How the statements of a function are planned until it ends (its SET plan_cache_mode puts things back). Planning
-- for a batch of one costs more than running it, so one plan is kept for the session; but not while the book is
-- young: a plan made when every index looked alike would walk the whole of it later.
CREATE FUNCTION ledger.plan_for(head bigint) RETURNS text LANGUAGE sql
RETURN set_config('plan_cache_mode', CASE WHEN head < 10000 THEN 'force_custom_plan' ELSE 'force_generic_plan' END, true);

-- sum(bigint) goes through numeric; this one stays within 64 bits and raises when it would leave them.
CREATE AGGREGATE ledger.total(bigint) (sfunc = int8pl, stype = bigint, initcond = '0');

-- The book's clock only goes forward: a host whose clock jumps back cannot reorder time. Only journals move the
-- head. Whoever takes the book's lock starts from a clean head: postings that someone committed without their
-- journal never were in the book, and must not stand in the way of those that come.
CREATE FUNCTION ledger.book_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = auto SET enable_seqscan = off
AS $$ BEGIN
  IF (NEW.recorded_at >= OLD.recorded_at) IS NOT TRUE THEN
    PERFORM ledger.refuse('KH011', format('book %s was written at %s already', OLD.book_id, OLD.recorded_at));
  ELSIF NEW.head = OLD.head THEN
    PERFORM ledger.plan_for(OLD.head);
    DELETE FROM ledger.posting WHERE book_id = OLD.book_id AND journal_seq > OLD.head;
  ELSIF pg_trigger_depth() < 2 THEN
    PERFORM ledger.refuse('KH001', format('the head of book %s moves with its journals only', OLD.book_id));
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER book_written BEFORE UPDATE ON ledger.book FOR EACH ROW EXECUTE FUNCTION ledger.book_written();

-- Postings come before their journals, never after: what the head covers gets no new line.
CREATE FUNCTION ledger.posting_appended() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE g record; top bigint; BEGIN
  FOR g IN SELECT book_id, min(journal_seq) AS first FROM added GROUP BY book_id LOOP
    -- FOR SHARE: the head must not pass these rows while they are uncommitted.
    SELECT head INTO top FROM ledger.book WHERE book_id = g.book_id FOR SHARE;
    IF top IS NULL OR g.first <= top THEN
      PERFORM ledger.refuse('KH004', format('book %s: journal %s is history, or there is no such book', g.book_id, g.first));
    END IF;
  END LOOP;
  RETURN NULL;
END $$;
CREATE TRIGGER posting_appended AFTER INSERT ON ledger.posting REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.posting_appended();

-- A hold is between two accounts of its book. No foreign keys: those would lock both accounts' rows for each hold.
CREATE FUNCTION ledger.hold_added() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$ DECLARE missing record; BEGIN
  SELECT h.book_id, side.account INTO missing
    FROM added h CROSS JOIN LATERAL (VALUES (h.debit_account), (h.credit_account)) AS side(account)
   -- A scalar subquery, so that each is a probe by the whole key, whatever the planner thinks of a young table.
   WHERE (SELECT a.account_id FROM ledger.account a WHERE a.book_id = h.book_id AND a.account_id = side.account) IS NULL LIMIT 1;
  IF FOUND THEN
    PERFORM ledger.refuse('KH005', format('there is no account %s in book %s', missing.account, missing.book_id));
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER hold_added AFTER INSERT ON ledger.hold REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.hold_added();

-- Both legs of every posting of the journals first..last, each beside what its account's line before says.
-- inflow: the leg raises its account's balance (a debit of a debit-normal account, a credit of another).
CREATE FUNCTION ledger.legs(of_book integer, first bigint, last bigint)
RETURNS TABLE (account_id integer, seq bigint, posted bigint, available bigint, incoming bigint, debit boolean, layer smallint,
               amount bigint, currency text, inflow boolean, seq_before bigint, posted_before bigint, available_before bigint,
               incoming_before bigint, account_seq bigint, floor bigint, status text, account_currency text)
LANGUAGE sql STABLE
AS $$
  WITH p AS MATERIALIZED (
    SELECT * FROM ledger.posting WHERE book_id = of_book AND journal_seq BETWEEN first AND last
  ), leg AS (
    SELECT debit_account AS account_id, debit_seq AS seq, debit_posted AS posted, debit_available AS available,
           debit_incoming AS incoming, true AS debit, layer, amount, currency FROM p
    UNION ALL
    SELECT credit_account, credit_seq, credit_posted, credit_available, credit_incoming, false, layer, amount, currency FROM p
  ), start AS (
    SELECT account_id, seq, floor, status, currency, debit_normal,
           CASE WHEN debit_normal THEN posted_debits - posted_credits ELSE posted_credits - posted_debits END AS posted,
           CASE WHEN debit_normal THEN pending_credits ELSE pending_debits END AS outgoing,
           CASE WHEN debit_normal THEN pending_debits ELSE pending_credits END AS incoming
      FROM ledger.balance WHERE book_id = of_book)
  SELECT l.*, l.debit = b.debit_normal,
         lag(l.seq, 1, b.seq) OVER w, lag(l.posted, 1, b.posted) OVER w,
         lag(l.available, 1, b.posted - b.outgoing) OVER w, lag(l.incoming, 1, b.incoming) OVER w,
         b.seq, b.floor, b.status, b.currency
    FROM leg l LEFT JOIN start b USING (account_id)
  WINDOW w AS (PARTITION BY l.account_id ORDER BY l.seq)
$$;

-- Names the first line that does not fit its account and why; called only when apply_balances found one.
-- fitting: the accounts whose balances have been moved already.
CREATE FUNCTION ledger.explain_balances(of_book integer, first bigint, last bigint, fitting integer[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$ DECLARE r record; BEGIN
  FOR r IN SELECT * FROM ledger.legs(of_book, first, last)
            WHERE account_id <> ALL (coalesce(fitting, '{}')) ORDER BY account_id, seq LOOP
    IF r.account_seq IS NULL THEN
      PERFORM ledger.refuse('KH005', format('there is no account %s', r.account_id));
    ELSIF r.currency <> r.account_currency THEN
      PERFORM ledger.refuse('KH008', format('account %s is in %s, not in %s', r.account_id, r.account_currency, r.currency));
    ELSIF r.seq <> r.seq_before + 1 THEN
      PERFORM ledger.refuse('KH005', format('account %s: line %s does not follow line %s', r.account_id, r.seq, r.seq_before));
    ELSIF r.status <> 'open' AND r.amount > 0 THEN
      PERFORM ledger.refuse('KH007', format('account %s is %s', r.account_id, r.status));
    ELSIF r.available < r.floor THEN
      PERFORM ledger.refuse('KH006', format('account %s would fall to %s, its floor is %s', r.account_id, r.available, r.floor));
    END IF;
  END LOOP;
  PERFORM ledger.refuse('KH013', format('journals %s to %s of book %s state balances that their lines do not make',
                                        first, last, of_book));
END $$;

-- Whether a line's balances follow from the line before: what they changed by is what its amount makes of them.
-- inflow: the line raises its account's balance (a debit of a debit-normal account, a credit of another).
CREATE FUNCTION ledger.follows(inflow boolean, layer smallint, amount bigint, posted bigint, available bigint, incoming bigint)
RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN CASE WHEN layer = 0 THEN posted = CASE WHEN inflow THEN amount ELSE -amount END AND available = posted AND incoming = 0
            WHEN inflow THEN posted = 0 AND available = 0 AND incoming = amount
            ELSE posted = 0 AND available = -amount AND incoming = 0 END;

-- Derives the balances of every account that the journals first..last touch, and checks each line's own: each
-- follows from the one before, as one of a debit-normal account or of another, and the last of each account
-- states the balances derived here; so all do, and the first follows from what stood before. Lines are taken by
-- position (journal, line), so an account's numbers follow the book's order without a gap, too.
-- of_holds: how many postings are a hold's; last_line: the highest line number; limited: accounts with velocity limits.
CREATE FUNCTION ledger.apply_balances(of_book integer, first bigint, last bigint,
                                      OUT postings bigint, OUT of_holds bigint, OUT last_line smallint, OUT limited integer[])
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$ DECLARE accounts bigint; fitting integer[]; BEGIN
  WITH p AS MATERIALIZED (
    SELECT * FROM ledger.posting WHERE book_id = of_book AND journal_seq BETWEEN first AND last
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
      FROM d
     WHERE b.book_id = of_book AND b.account_id = d.account_id AND d.currency = b.currency
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

-- Derives what became of every hold that the journals first..last touch.
CREATE FUNCTION ledger.apply_holds(of_book integer, first bigint, last bigint, at timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$ DECLARE holds bigint; updated bigint; BEGIN
  -- p first, by journal: with hold_id in its condition the index of holds would do, all of it for each batch.
  WITH p AS MATERIALIZED (
    SELECT * FROM ledger.posting WHERE book_id = of_book AND journal_seq BETWEEN first AND last
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
      FROM d
     WHERE h.book_id = of_book AND h.hold_id = d.hold_id
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

-- Journals make the book: each insert must follow the head without a gap, with all its postings there,
-- and moves head, balances and holds with it. The application has no other way to move any of them.
CREATE FUNCTION ledger.journal_appended() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = auto
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off   -- by key, however few or many rows there are
SET enable_material = off SET enable_bitmapscan = off
AS $$ DECLARE g record; b record; a record; BEGIN
  FOR g IN SELECT book_id, min(seq) AS first, max(seq) AS last, count(*) AS n, sum(lines) AS lines, min(lines) AS fewest,
                  min(effective_at) AS earliest, min(recorded_at) AS r1, max(recorded_at) AS r2
             FROM added GROUP BY book_id
  LOOP
    UPDATE ledger.book SET head = g.last
     WHERE book_id = g.book_id AND head = g.first - 1 AND g.last - g.first + 1 = g.n
    RETURNING recorded_at, closed_through INTO b;
    IF NOT FOUND THEN
      PERFORM ledger.refuse('KH001', format('book %s: journals %s to %s do not follow its head', g.book_id, g.first, g.last));
    ELSIF g.r1 <> b.recorded_at OR g.r2 <> b.recorded_at THEN
      PERFORM ledger.refuse('KH011', format('book %s is written at %s, not at %s', g.book_id, b.recorded_at, g.r1));
    ELSIF (g.earliest AT TIME ZONE 'UTC')::date <= b.closed_through THEN
      PERFORM ledger.refuse('KH002', format('book %s is closed through %s', g.book_id, b.closed_through));
    END IF;
    PERFORM ledger.plan_for(g.first);
    a := ledger.apply_balances(g.book_id, g.first, g.last);
    -- As many postings as stated in all and no journal with one too many: then none lacks one.
    IF a.postings <> g.lines OR (a.last_line > g.fewest AND EXISTS (
         SELECT FROM added j CROSS JOIN LATERAL (
           SELECT FROM ledger.posting p
            WHERE p.book_id = j.book_id AND p.journal_seq = j.seq AND p.line > j.lines LIMIT 1) AS extra
          WHERE j.book_id = g.book_id)) THEN
      PERFORM ledger.refuse('KH003', format('book %s: journals %s to %s do not have the postings they state', g.book_id, g.first, g.last));
    END IF;
    IF a.of_holds > 0 THEN
      PERFORM ledger.apply_holds(g.book_id, g.first, g.last, b.recorded_at);
    END IF;
    IF a.limited IS NOT NULL THEN
      PERFORM ledger.apply_limits(g.book_id, g.first, g.last, b.recorded_at, a.limited);
    END IF;
  END LOOP;
  RETURN NULL;
END $$;
CREATE TRIGGER journal_appended AFTER INSERT ON ledger.journal REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.journal_appended();

-- ---------------------------------------------------------------- what a batch must know

-- Read by key under the book's lock, however many there are: a hash join would walk the whole book for a large
-- batch, and so would a plan by book_id alone, which looks as good as the whole key until a table is analysed: OFFSET 0
-- fences each look-up off, so that it is planned by itself. Lists of words come as text, one a line: a tenth of an
-- array's cost to the client.
CREATE FUNCTION ledger.find_sources(of_book integer, types text, ids text, events text)
RETURNS TABLE (source_type text, source_id text, source_event text, seq bigint, id uuid, canonical text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$ BEGIN
  PERFORM ledger.plan_for((SELECT head FROM ledger.book WHERE book_id = of_book));
  RETURN QUERY
    SELECT j.source_type, j.source_id, j.source_event, j.seq, j.id, j.canonical
      FROM unnest(string_to_array(types, E'\n'), string_to_array(ids, E'\n'), string_to_array(events, E'\n')) AS s(type, id, event)
     CROSS JOIN LATERAL (
       SELECT * FROM ledger.journal x
        WHERE x.book_id = of_book AND x.source_id = s.id AND x.source_type = s.type AND x.source_event = s.event OFFSET 0) AS j;
END $$;

-- The accounts of these paths, and those behind these holds and journals (some may come twice).
CREATE FUNCTION ledger.find_accounts(of_book integer, paths text, holds uuid[], journals bigint[])
RETURNS TABLE (account_id integer, path text, currency text, debit_normal boolean, status text, floor bigint, limits smallint,
               seq bigint, posted_debits bigint, posted_credits bigint, pending_debits bigint, pending_credits bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$ BEGIN
  PERFORM ledger.plan_for((SELECT head FROM ledger.book WHERE book_id = of_book));
  RETURN QUERY
    SELECT a.account_id, a.path, a.currency, a.debit_normal, b.status, b.floor, b.limits, b.seq,
           b.posted_debits, b.posted_credits, b.pending_debits, b.pending_credits
      FROM unnest(string_to_array(paths, E'\n')) AS p(path)
     CROSS JOIN LATERAL (SELECT * FROM ledger.account x WHERE x.book_id = of_book AND x.path = p.path OFFSET 0) AS a
     CROSS JOIN LATERAL (SELECT * FROM ledger.balance x WHERE x.book_id = of_book AND x.account_id = a.account_id OFFSET 0) AS b;
  IF cardinality(holds) + cardinality(journals) > 0 THEN
    RETURN QUERY
      SELECT a.account_id, a.path, a.currency, a.debit_normal, b.status, b.floor, b.limits, b.seq,
             b.posted_debits, b.posted_credits, b.pending_debits, b.pending_credits
        FROM ledger.account a CROSS JOIN LATERAL (
             SELECT * FROM ledger.balance x WHERE x.book_id = of_book AND x.account_id = a.account_id OFFSET 0) AS b
       WHERE a.book_id = of_book AND a.account_id = ANY (ARRAY(
             SELECT unnest(ARRAY[h.debit_account, h.credit_account]) FROM ledger.hold h
              WHERE h.book_id = of_book AND h.hold_id = ANY (holds)
             UNION
             SELECT unnest(ARRAY[p.debit_account, p.credit_account]) FROM ledger.posting p
              WHERE p.book_id = of_book AND p.journal_seq = ANY (journals)));
  END IF;
END $$;

CREATE FUNCTION ledger.find_holds(of_book integer, ids uuid[])
RETURNS TABLE (hold_id uuid, debit text, credit text, currency text, tolerance_bps integer, expires_at timestamptz,
               held bigint, consumed bigint, captured bigint, released bigint, expired bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = auto
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$ BEGIN
  PERFORM ledger.plan_for((SELECT head FROM ledger.book WHERE book_id = of_book));
  RETURN QUERY
    SELECT h.hold_id, d.path, c.path, d.currency, h.tolerance_bps, h.expires_at,
           h.held, h.consumed, h.captured, h.released, h.expired
      FROM ledger.hold h
     CROSS JOIN LATERAL (SELECT * FROM ledger.account x WHERE x.book_id = of_book AND x.account_id = h.debit_account OFFSET 0) AS d
     CROSS JOIN LATERAL (SELECT * FROM ledger.account x WHERE x.book_id = of_book AND x.account_id = h.credit_account OFFSET 0) AS c
     WHERE h.book_id = of_book AND h.hold_id = ANY (ids);
END $$;

-- ---------------------------------------------------------------- books and accounts

CREATE FUNCTION ledger.create_book(book_name text, at timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE found integer; BEGIN
  IF book_name IS NULL OR at IS NULL THEN PERFORM ledger.refuse('KH019', 'a book needs a name and a time'); END IF;
  SELECT book_id INTO found FROM ledger.book WHERE name = book_name;
  IF found IS NULL THEN   -- the lock stops every writer: only a new book takes it
    LOCK TABLE ledger.book IN SHARE ROW EXCLUSIVE MODE;
    SELECT book_id INTO found FROM ledger.book WHERE name = book_name;
  END IF;
  IF found IS NULL THEN
    INSERT INTO ledger.book (book_id, name, recorded_at)
    SELECT coalesce(max(book_id), 0) + 1, book_name, at FROM ledger.book RETURNING book_id INTO found;
  END IF;
  RETURN found;
END $$;

-- Opens the accounts that are not there yet; those that are stay as they are.
CREATE FUNCTION ledger.open_accounts(of_book integer, paths text[], currencies text[], floors bigint[], owners text[], at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE top integer; clock timestamptz; BEGIN
  IF EXISTS (SELECT FROM unnest(paths, currencies, floors, owners) AS w(path, currency, floor, owner)
              WHERE w.path IS NULL OR w.currency IS NULL) THEN
    PERFORM ledger.refuse('KH019', 'an account needs a path and a currency');
  END IF;
  UPDATE ledger.book SET recorded_at = greatest(recorded_at, at) WHERE book_id = of_book RETURNING accounts, recorded_at INTO top, clock;
  IF NOT FOUND THEN PERFORM ledger.refuse('KH005', format('there is no book %s', of_book)); END IF;
  WITH wanted AS (
    SELECT DISTINCT ON (w.path, w.currency) w.*
      FROM unnest(paths, currencies, floors, owners) WITH ORDINALITY AS w(path, currency, floor, owner, n)
     WHERE NOT EXISTS (SELECT FROM ledger.account a WHERE a.book_id = of_book AND a.path = w.path AND a.currency = w.currency)
     ORDER BY w.path, w.currency, w.n
  ), opened AS (
    INSERT INTO ledger.account (book_id, account_id, path, currency, owner, opened_at)
    SELECT of_book, top + (row_number() OVER (ORDER BY n))::integer, path, currency, owner, clock FROM wanted
    RETURNING account_id, path, currency, debit_normal
  ), facts AS (
    INSERT INTO ledger.account_fact (book_id, account_id, fact, floor, status, reason, recorded_at, after_seq)
    SELECT of_book, o.account_id, 1, w.floor, 'open', 'opened', clock, 0 FROM opened o JOIN wanted w USING (path, currency)
  ), balances AS (
    INSERT INTO ledger.balance (book_id, account_id, floor, fact, debit_normal, currency)
    SELECT of_book, o.account_id, w.floor, 1, o.debit_normal, o.currency FROM opened o JOIN wanted w USING (path, currency))
  UPDATE ledger.book SET accounts = top + (SELECT count(*) FROM opened) WHERE book_id = of_book;
END $$;

-- A fact is applied as it is recorded; a floor above what is available, or closing what is not empty, is refused.
CREATE FUNCTION ledger.change_account(of_book integer, account integer, new_floor bigint, new_status text, why text, who text,
                                      at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE b record; number integer; said_of text; BEGIN
  UPDATE ledger.book SET recorded_at = greatest(recorded_at, at) WHERE book_id = of_book RETURNING recorded_at, head INTO b;
  UPDATE ledger.balance SET floor = new_floor, status = new_status, fact = fact + 1
   WHERE book_id = of_book AND account_id = account AND status <> 'closed' RETURNING fact INTO number;
  IF NOT FOUND THEN PERFORM ledger.refuse('KH012', format('account %s is closed or unknown', account)); END IF;
  SELECT path || ' ' || currency INTO said_of FROM ledger.account a WHERE a.book_id = of_book AND a.account_id = account;
  INSERT INTO ledger.account_fact (book_id, account_id, fact, floor, status, reason, person, recorded_at, after_seq, act)
  VALUES (of_book, account, number, new_floor, new_status, why, who, b.recorded_at, b.head,
          ledger.record_act(of_book, who, 'change_account', said_of, why, jsonb_build_object(
            'account', account, 'after', b.head, 'fact', number, 'floor', new_floor::text, 'status', new_status), at));
END $$;

-- ---------------------------------------------------------------- what people read

-- Auditors read lines: each posting as its debit line and its credit line.
CREATE VIEW ledger.line WITH (security_barrier) AS
  SELECT p.book_id, p.debit_account AS account_id, p.debit_seq AS seq, p.journal_seq, p.line, p.layer, 'debit' AS side, p.amount,
         p.currency, p.debit_posted AS posted, p.debit_available AS available, p.debit_incoming AS incoming,
         p.credit_account AS counter_account_id, p.hold_id, p.hold_action
    FROM ledger.posting p
  UNION ALL
  SELECT p.book_id, p.credit_account, p.credit_seq, p.journal_seq, p.line, p.layer, 'credit', p.amount,
         p.currency, p.credit_posted, p.credit_available, p.credit_incoming,
         p.debit_account, p.hold_id, p.hold_action
    FROM ledger.posting p;

-- A merchant-scoped session (setting khata.owner) sees its own lines only; without the setting it sees none.
CREATE VIEW ledger.own_line WITH (security_barrier) AS
  SELECT l.book_id, a.path, l.seq, l.journal_seq, j.id AS journal_id, j.kind, j.effective_at, j.recorded_at,
         l.layer, l.side, l.amount, l.currency, l.posted, l.available, l.incoming
    FROM ledger.account a
    JOIN ledger.line l ON l.book_id = a.book_id AND l.account_id = a.account_id
    JOIN ledger.journal j ON j.book_id = l.book_id AND j.seq = l.journal_seq
   WHERE a.owner = current_setting('khata.owner', true);

ALTER TABLE ledger.account ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger.balance ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger.hold ENABLE ROW LEVEL SECURITY;
CREATE POLICY everyone ON ledger.account TO khata_app, khata_audit USING (true);
CREATE POLICY everyone ON ledger.balance TO khata_app, khata_audit USING (true);
CREATE POLICY everyone ON ledger.hold TO khata_app, khata_audit USING (true);
CREATE POLICY new_hold ON ledger.hold FOR INSERT TO khata_app WITH CHECK (true);
CREATE POLICY own ON ledger.account FOR SELECT TO khata_merchant USING (owner = current_setting('khata.owner', true));
CREATE POLICY own ON ledger.balance FOR SELECT TO khata_merchant USING (
  EXISTS (SELECT FROM ledger.account a WHERE a.book_id = balance.book_id AND a.account_id = balance.account_id));

-- ---------------------------------------------------------------- who may do what

REVOKE ALL ON ALL TABLES IN SCHEMA ledger FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
GRANT USAGE ON SCHEMA ledger TO khata_app, khata_audit, khata_merchant;
GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO khata_app, khata_audit;
GRANT INSERT ON ledger.journal, ledger.posting TO khata_app;
GRANT INSERT (book_id, hold_id, debit_account, credit_account, tolerance_bps, expires_at) ON ledger.hold TO khata_app;
GRANT UPDATE (recorded_at) ON ledger.book TO khata_app;   -- taking the book's lock is a write (ledger.md, "One write path")
GRANT EXECUTE ON FUNCTION ledger.create_book, ledger.open_accounts, ledger.change_account,
  ledger.plan_for, ledger.find_sources, ledger.find_accounts, ledger.find_holds,
  ledger.broken TO khata_app;   -- the checks of what it inserts call it
GRANT SELECT ON ledger.account, ledger.balance, ledger.own_line TO khata_merchant;
