-- banks: what each bank owes us, and the settlement files that pay it. Everything here is append-only:
-- an expected item is settled exactly when a settlement line bears its reference.

CREATE SCHEMA IF NOT EXISTS banks;

CREATE TABLE banks.bank (
  code text PRIMARY KEY CHECK (code ~ '^[a-z][a-z0-9]{1,30}$'),  -- part of account paths
  name text NOT NULL,
  rail text NOT NULL CHECK (rail IN ('card'))
);
INSERT INTO banks.bank (code, name, rail) VALUES ('meridian', 'Meridian Bank', 'card');

-- One number gives a STAN and the second half of an RRN: banks/references.py.
CREATE SEQUENCE banks.reference AS bigint MINVALUE 0 START 0 MAXVALUE 1073741823 CYCLE;

CREATE TABLE banks.expected_item (
  book_id      bigint NOT NULL,
  bank         text   NOT NULL REFERENCES banks.bank,
  rrn          text   NOT NULL CHECK (rrn ~ '^[0-9A-Z]{12}$'),
  kind         text   NOT NULL CHECK (kind IN ('capture', 'refund')),
  amount       bigint NOT NULL CHECK (amount > 0),           -- minor units, before the bank's cost
  currency     char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  merchant_id  text   NOT NULL,
  operation_id uuid   NOT NULL,
  booked_on    date   NOT NULL,
  PRIMARY KEY (book_id, bank, rrn),
  UNIQUE (book_id, operation_id),
  UNIQUE (book_id, bank, rrn, kind, amount, currency)        -- what a settlement line must agree with
);
CREATE INDEX ON banks.expected_item (book_id, bank, booked_on);

-- One row for each book that a file has lines of: the book's part. Its sums are the part's; file_lines and file_net
-- are those of the whole, books the books of all its parts (docs/adr/0031).
CREATE TABLE banks.settlement_file (
  book_id         bigint NOT NULL,
  bank            text   NOT NULL REFERENCES banks.bank,
  file_id         text   NOT NULL CHECK (file_id ~ '^[a-z0-9-]{1,40}$'),
  sha256          bytea  NOT NULL CHECK (length(sha256) = 32),
  settled_on      date   NOT NULL,
  currency        char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  state           text   NOT NULL DEFAULT 'imported' CHECK (state = 'imported'),
  captures        bigint NOT NULL CHECK (captures >= 0),
  refunds         bigint NOT NULL CHECK (refunds >= 0),
  gross_captured  bigint NOT NULL CHECK (gross_captured >= 0),
  gross_refunded  bigint NOT NULL CHECK (gross_refunded >= 0),
  cost            bigint NOT NULL CHECK (cost >= 0),
  tax             bigint NOT NULL CHECK (tax >= 0),
  net             bigint NOT NULL,
  books           bigint[] NOT NULL,
  file_lines      bigint NOT NULL,
  file_net        bigint NOT NULL,
  imported_at     timestamptz NOT NULL,
  PRIMARY KEY (book_id, bank, file_id),
  UNIQUE (book_id, bank, file_id, currency),
  CHECK (captures + refunds > 0),
  CHECK (book_id = ANY (books)),
  CHECK (CASE cardinality(books) WHEN 1 THEN file_lines = captures + refunds AND file_net = net
                                 ELSE file_lines > captures + refunds END),
  CHECK (net = gross_captured - gross_refunded - cost - tax)
);

CREATE INDEX ON banks.settlement_file (bank, file_id);

-- Whose turn it is with a file, whatever the book: who imports it locks its row before anything else. A row, not an
-- advisory lock: of those anybody who may log in can name and hold any.
CREATE TABLE banks.settlement_turn (
  bank    text NOT NULL REFERENCES banks.bank,
  file_id text NOT NULL,
  PRIMARY KEY (bank, file_id)
);

CREATE TABLE banks.settlement_line (
  book_id    bigint NOT NULL,
  bank       text   NOT NULL,
  file_id    text   NOT NULL,
  line       integer NOT NULL CHECK (line > 1),              -- place in the file; the header is line 1
  kind       text   NOT NULL,
  rrn        text   NOT NULL,
  amount     bigint NOT NULL CHECK (amount > 0),
  currency   char(3) NOT NULL,
  cost       bigint NOT NULL CHECK (cost >= 0),
  tax        bigint NOT NULL CHECK (tax >= 0),
  net        bigint NOT NULL,
  journal_id uuid   NOT NULL,
  PRIMARY KEY (book_id, bank, file_id, line),
  UNIQUE (book_id, bank, rrn),                               -- an item is settled once, whatever the file
  FOREIGN KEY (book_id, bank, file_id, currency)
    REFERENCES banks.settlement_file (book_id, bank, file_id, currency),
  FOREIGN KEY (book_id, bank, rrn, kind, amount, currency)
    REFERENCES banks.expected_item (book_id, bank, rrn, kind, amount, currency),
  CHECK (CASE kind WHEN 'capture' THEN net = amount - cost - tax AND net >= 0
                   ELSE net = -amount AND cost = 0 AND tax = 0 END)
);

-- What a bank still owes us (captures) or will still keep back (refunds): the explanation of Receivable:{bank}.
CREATE VIEW banks.open_item AS
  SELECT e.* FROM banks.expected_item e
  WHERE NOT EXISTS (SELECT FROM banks.settlement_line l
                    WHERE (l.book_id, l.bank, l.rrn) = (e.book_id, e.bank, e.rrn));

CREATE VIEW banks.settled_item AS
  SELECT e.*, l.file_id, l.line, l.cost, l.tax, l.net, l.journal_id, f.settled_on, f.imported_at
  FROM banks.expected_item e
  JOIN banks.settlement_line l USING (book_id, bank, rrn)
  JOIN banks.settlement_file f USING (book_id, bank, file_id);

CREATE FUNCTION banks.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'KB001',
    MESSAGE = format('%s on banks.%s: its rows are facts and stay as they are', TG_OP, TG_TABLE_NAME);
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON banks.expected_item
  FOR EACH STATEMENT EXECUTE FUNCTION banks.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON banks.settlement_file
  FOR EACH STATEMENT EXECUTE FUNCTION banks.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON banks.settlement_line
  FOR EACH STATEMENT EXECUTE FUNCTION banks.refuse_change();

GRANT USAGE ON SCHEMA banks TO khata_app, khata_audit;
GRANT SELECT ON ALL TABLES IN SCHEMA banks TO khata_app, khata_audit;
GRANT INSERT ON banks.expected_item, banks.settlement_file, banks.settlement_line TO khata_app;
GRANT INSERT, UPDATE ON banks.settlement_turn TO khata_app;
GRANT USAGE ON SEQUENCE banks.reference TO khata_app;
