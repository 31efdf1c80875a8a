-- Transfers between books: two journals, one in each book, never one transaction over both (docs/adr/0030).
-- The sending book keeps what shall happen and how it ended; the receiving book keeps its one answer.

-- book_id: the sending book. end_seq: the journal that ended it, of the receiving book if completed, of this one if
-- returned. What its own journal says is said here again so that what is in flight is found without reading journals.
CREATE TABLE ledger.transfer (
  book_id     integer NOT NULL REFERENCES ledger.book,
  transfer_id uuid NOT NULL,
  to_book     integer NOT NULL,
  side        text COLLATE "C" NOT NULL,   -- of account, in the sending journal
  account     text COLLATE "C" NOT NULL,
  to_account  text COLLATE "C" NOT NULL,
  amount      bigint NOT NULL,
  currency    text COLLATE "C" NOT NULL,
  sent_seq    bigint NOT NULL,
  state       text COLLATE "C" NOT NULL DEFAULT 'in_flight',
  end_seq     bigint,
  reason      text COLLATE "C",            -- why it was returned: the code of the receiving book's refusal
  PRIMARY KEY (book_id, transfer_id),
  CONSTRAINT transfer_books CHECK (to_book > 0 AND to_book <> book_id OR ledger.broken('KH032', 'transfer', 'transfer_books')),
  CONSTRAINT transfer_side CHECK (side IN ('debit', 'credit') OR ledger.broken('KH032', 'transfer', 'transfer_side')),
  -- As ledger.transfers.Transfer: a row it could not build would be carried by nobody.
  CONSTRAINT transfer_accounts CHECK (
    (account ~ '^(Assets|Liabilities|Equity|Income|Expenses)(:[A-Za-z0-9][A-Za-z0-9_-]*){1,7}$' AND account !~ '[^:]{65}'
     AND to_account ~ '^(Assets|Liabilities|Equity|Income|Expenses)(:[A-Za-z0-9][A-Za-z0-9_-]*){1,7}$' AND to_account !~ '[^:]{65}'
     AND length(account) <= 200 AND length(to_account) <= 200
     AND NOT starts_with(account, 'Assets:Clearing:Book:') AND NOT starts_with(to_account, 'Assets:Clearing:Book:'))
    OR ledger.broken('KH032', 'transfer', 'transfer_accounts')),
  CONSTRAINT transfer_amount CHECK (
    amount BETWEEN 1 AND 1000000000000000 OR ledger.broken('KH032', 'transfer', 'transfer_amount')),
  CONSTRAINT transfer_currency CHECK (currency ~ '^[A-Z]{3}$' OR ledger.broken('KH032', 'transfer', 'transfer_currency')),
  CONSTRAINT transfer_state CHECK (
    state IN ('in_flight', 'completed', 'returned') OR ledger.broken('KH032', 'transfer', 'transfer_state')),
  CONSTRAINT transfer_ended CHECK (
    (state = 'in_flight') = (end_seq IS NULL) OR ledger.broken('KH032', 'transfer', 'transfer_ended')),
  CONSTRAINT transfer_reason CHECK (
    (state = 'returned') = (reason IS NOT NULL) OR ledger.broken('KH032', 'transfer', 'transfer_reason'))
);
CREATE INDEX transfer_in_flight ON ledger.transfer (book_id, sent_seq) WHERE state = 'in_flight';
CREATE INDEX transfer_sent ON ledger.transfer (book_id, sent_seq);
CREATE INDEX transfer_by_end ON ledger.transfer (book_id, to_book, state, end_seq);

-- The receiving book's answer, given once: book_id's journal received_seq, or the code of its refusal.
CREATE TABLE ledger.arrival (
  book_id      integer NOT NULL REFERENCES ledger.book,
  from_book    integer NOT NULL,
  transfer_id  uuid NOT NULL,
  received_seq bigint,
  reason       text COLLATE "C",
  PRIMARY KEY (book_id, from_book, transfer_id),
  CONSTRAINT arrival_books CHECK (from_book > 0 AND from_book <> book_id OR ledger.broken('KH033', 'arrival', 'arrival_books')),
  CONSTRAINT arrival_reason CHECK (
    (reason ~ '^[a-z][a-z0-9_]{0,39}$') IS NOT FALSE OR ledger.broken('KH033', 'arrival', 'arrival_reason')),
  CONSTRAINT arrival_answer CHECK (
    (received_seq IS NULL) = (reason IS NOT NULL) OR ledger.broken('KH033', 'arrival', 'arrival_answer'))
);

-- ---------------------------------------------------------------- what their journals say

-- The source id of a transfer's journals, in both books.
CREATE FUNCTION ledger.transfer_source(from_book integer, of_transfer uuid) RETURNS text LANGUAGE sql IMMUTABLE
RETURN from_book || '/' || of_transfer;

-- The number of the transfer's journal of that event in of_book, null if there is none.
CREATE FUNCTION ledger.transfer_journal(of_book integer, from_book integer, of_transfer uuid, event text) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT seq FROM ledger.journal
         WHERE book_id = of_book AND source_id = ledger.transfer_source(from_book, of_transfer)
           AND source_type = 'transfer' AND source_event = event);

-- Whether journal seq moves amount between the clearing account for another book and account, which is on that side.
CREATE FUNCTION ledger.clears(of_book integer, seq bigint, other_book integer, side text, account text, amount bigint, currency text)
RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN coalesce((
  SELECT count(*) = 1 AND bool_and(
           p.amount = clears.amount AND p.currency = clears.currency AND p.layer = 0
           AND CASE clears.side WHEN 'debit' THEN d.path ELSE c.path END = clears.account
           AND CASE clears.side WHEN 'debit' THEN c.path ELSE d.path END = 'Assets:Clearing:Book:' || b.name)
    FROM ledger.posting p
    JOIN ledger.account d ON d.book_id = p.book_id AND d.account_id = p.debit_account
    JOIN ledger.account c ON c.book_id = p.book_id AND c.account_id = p.credit_account
    JOIN ledger.book b ON b.book_id = other_book
   WHERE p.book_id = of_book AND p.journal_seq = clears.seq), false);

-- ---------------------------------------------------------------- the three steps

-- In the transaction of the sending journal.
CREATE FUNCTION ledger.record_transfer(of_book integer, of_transfer uuid, to_book integer, side text, account text, to_account text,
                                       amount bigint, currency text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE sent bigint := ledger.transfer_journal(of_book, of_book, of_transfer, 'sent'); BEGIN
  IF sent IS NULL OR NOT ledger.clears(of_book, sent, to_book, side, account, amount, currency) THEN
    PERFORM ledger.refuse('KH032', format('transfer %s of book %s is not what its journal says', of_transfer, of_book));
  END IF;
  INSERT INTO ledger.transfer (book_id, transfer_id, to_book, side, account, to_account, amount, currency, sent_seq)
  VALUES (of_book, of_transfer, to_book, side, account, to_account, amount, currency, sent);
END $$;

-- In the transaction of the receiving journal, or (why: the refusal's code) alone. The first answer stands: a second
-- one hits the primary key.
CREATE FUNCTION ledger.record_arrival(of_book integer, from_book integer, of_transfer uuid, why text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE received bigint := ledger.transfer_journal(of_book, from_book, of_transfer, 'received'); BEGIN
  IF (received IS NULL) <> (why IS NOT NULL) OR from_book IS NULL OR of_transfer IS NULL
     OR NOT EXISTS (SELECT FROM ledger.book b WHERE b.book_id = of_book) THEN
    PERFORM ledger.refuse('KH033', format('book %s answers transfer %s of book %s otherwise than its journals do',
                                          of_book, of_transfer, from_book));
  END IF;
  INSERT INTO ledger.arrival (book_id, from_book, transfer_id, received_seq, reason)
  VALUES (of_book, from_book, of_transfer, received, why);
END $$;

-- It ends as the receiving book has answered. why null: it was received by journal seq of that book, nothing is booked
-- here. Else in the transaction of the returning journal, which must be the end of it. False: it had ended already.
CREATE FUNCTION ledger.end_transfer(of_book integer, of_transfer uuid, seq bigint, why text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE returned bigint := ledger.transfer_journal(of_book, of_book, of_transfer, 'returned'); BEGIN
  IF (returned IS NULL) <> (why IS NULL) THEN
    PERFORM ledger.refuse('KH034', format('transfer %s of book %s ends otherwise than its journals do', of_transfer, of_book));
  END IF;
  IF NOT EXISTS (
    SELECT FROM ledger.transfer t
      JOIN ledger.arrival a ON a.book_id = t.to_book AND a.from_book = t.book_id AND a.transfer_id = t.transfer_id
     WHERE t.book_id = of_book AND t.transfer_id = of_transfer
       AND CASE WHEN why IS NULL THEN a.received_seq = seq ELSE a.reason = why END) THEN
    PERFORM ledger.refuse('KH034', format('transfer %s of book %s ends otherwise than was answered', of_transfer, of_book));
  END IF;
  UPDATE ledger.transfer
     SET state = CASE WHEN why IS NULL THEN 'completed' ELSE 'returned' END, end_seq = coalesce(returned, seq), reason = why
   WHERE book_id = of_book AND transfer_id = of_transfer AND state = 'in_flight';
  IF NOT FOUND AND why IS NOT NULL THEN
    PERFORM ledger.refuse('KH034', format('transfer %s of book %s is not in flight', of_transfer, of_book));
  END IF;
  RETURN FOUND;
END $$;

-- ---------------------------------------------------------------- guards and rights

CREATE FUNCTION ledger.transfer_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ BEGIN
  IF OLD.state <> 'in_flight'
     OR (to_jsonb(OLD) - ARRAY['state', 'end_seq', 'reason']) <> (to_jsonb(NEW) - ARRAY['state', 'end_seq', 'reason']) THEN
    PERFORM ledger.refuse('KH035', format('transfer %s of book %s ends once, its terms never change', OLD.transfer_id, OLD.book_id));
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER transfer_changed BEFORE UPDATE ON ledger.transfer FOR EACH ROW EXECUTE FUNCTION ledger.transfer_changed();
CREATE TRIGGER never_deleted BEFORE DELETE ON ledger.transfer FOR EACH ROW EXECUTE FUNCTION ledger.immutable();
CREATE TRIGGER immutable_row BEFORE UPDATE OR DELETE ON ledger.arrival FOR EACH ROW EXECUTE FUNCTION ledger.immutable();
CREATE TRIGGER immutable_table BEFORE TRUNCATE ON ledger.transfer FOR EACH STATEMENT EXECUTE FUNCTION ledger.immutable();
CREATE TRIGGER immutable_table BEFORE TRUNCATE ON ledger.arrival FOR EACH STATEMENT EXECUTE FUNCTION ledger.immutable();

REVOKE ALL ON ledger.transfer, ledger.arrival FROM PUBLIC;
GRANT SELECT ON ledger.transfer, ledger.arrival TO khata_app, khata_audit;
REVOKE ALL ON FUNCTION ledger.transfer_source, ledger.transfer_journal, ledger.clears, ledger.record_transfer,
  ledger.record_arrival, ledger.end_transfer, ledger.transfer_changed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.record_transfer, ledger.record_arrival, ledger.end_transfer TO khata_app;
