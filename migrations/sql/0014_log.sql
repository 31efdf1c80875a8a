-- The transparency log (docs/log.md): in what order entries of a book became leaves, full tiles of their hashes, signed
-- checkpoints, what witnesses added, and the keys. Only inserted, by the functions below; nobody may insert a row by hand.
-- None of them takes the book's lock: an entry that the book counts is there, and stays as it is.
--
-- KH038 other than the log's last size   KH039 sealing what the book does not hold   KH040 form of what is sealed
-- KH041 key of the log                   KH042 cosignature of no checkpoint

-- Leaf first_index + i is entry first_number + i of the source.
CREATE TABLE ledger.log_run (
  book_id      integer NOT NULL REFERENCES ledger.book,
  first_index  bigint NOT NULL,
  source       text COLLATE "C" NOT NULL
               CONSTRAINT run_source CHECK (source IN ('account', 'act', 'journal') OR ledger.broken('KH040', 'log_run', 'run_source')),
  first_number bigint NOT NULL,
  count        bigint NOT NULL CONSTRAINT run_count CHECK (count > 0 OR ledger.broken('KH040', 'log_run', 'run_count')),
  PRIMARY KEY (book_id, first_index),
  CONSTRAINT run_numbers UNIQUE (book_id, source, first_number)
);

-- The leaf hash of each sealed account, whose line is not kept anywhere (those of journals and acts are in their rows).
CREATE TABLE ledger.account_leaf (
  book_id    integer NOT NULL,
  account_id integer NOT NULL,
  leaf_hash  bytea NOT NULL
             CONSTRAINT account_leaf_hash CHECK (octet_length(leaf_hash) = 32 OR ledger.broken('KH040', 'account_leaf', 'account_leaf_hash')),
  PRIMARY KEY (book_id, account_id),
  FOREIGN KEY (book_id, account_id) REFERENCES ledger.account
);

-- Full tiles only (C2SP tlog-tiles): 256 hashes of 32 bytes; of level 0 leaf hashes, above that roots of the level below.
CREATE TABLE ledger.log_tile (
  book_id integer NOT NULL REFERENCES ledger.book,
  level   smallint NOT NULL,
  tile    bigint NOT NULL,
  hashes  bytea NOT NULL CONSTRAINT tile_hashes CHECK (octet_length(hashes) = 8192 OR ledger.broken('KH040', 'log_tile', 'tile_hashes')),
  root    bytea NOT NULL CONSTRAINT tile_root CHECK (octet_length(root) = 32 OR ledger.broken('KH040', 'log_tile', 'tile_root')),
  PRIMARY KEY (book_id, level, tile)
);
ALTER TABLE ledger.log_tile ALTER hashes SET STORAGE EXTERNAL;   -- hashes do not compress

-- All entries of a checkpoint that the one before has not are of one UTC day.
CREATE TABLE ledger.checkpoint (
  book_id          integer NOT NULL REFERENCES ledger.book,
  size             bigint NOT NULL,
  prior_size       bigint NOT NULL,         -- of the checkpoint before it; 0: of none
  root             bytea NOT NULL CONSTRAINT checkpoint_root CHECK (octet_length(root) = 32 OR ledger.broken('KH040', 'checkpoint', 'checkpoint_root')),
  recorded_through timestamptz NOT NULL,    -- when its last entry was recorded
  opens_day        date,                    -- the UTC day of its entries, if the checkpoint before it ended an earlier one
  sealed_at        timestamptz NOT NULL,
  note             text COLLATE "C" NOT NULL
                   CONSTRAINT checkpoint_note CHECK (octet_length(note) BETWEEN 1 AND 10000 OR ledger.broken('KH040', 'checkpoint', 'checkpoint_note')),
  PRIMARY KEY (book_id, size),
  CONSTRAINT checkpoint_grows CHECK ((prior_size >= 0 AND prior_size < size) OR ledger.broken('KH040', 'checkpoint', 'checkpoint_grows'))
);
CREATE UNIQUE INDEX checkpoint_day ON ledger.checkpoint (book_id, opens_day) WHERE opens_day IS NOT NULL;

-- Checkpoints at which days end: everything recorded before covers_before (00:00 UTC) is in the first ``size`` leaves, and
-- nothing recorded later. Of a day without entries there is no row: the first one with a later covers_before tells its size.
CREATE VIEW ledger.day_end AS
  SELECT book_id, opens_day::timestamp AT TIME ZONE 'UTC' AS covers_before, prior_size AS size
    FROM ledger.checkpoint WHERE opens_day IS NOT NULL;

-- What a witness added: a signature line, without its newline. witness: its vkey.
CREATE TABLE ledger.cosignature (
  book_id integer NOT NULL,
  size    bigint NOT NULL,
  witness text COLLATE "C" NOT NULL,
  line    text COLLATE "C" NOT NULL
          CONSTRAINT cosignature_line CHECK (line ~ '^— [^ ]+ [A-Za-z0-9+/]+=*$' OR ledger.broken('KH042', 'cosignature', 'cosignature_line')),
  PRIMARY KEY (book_id, size, witness),
  FOREIGN KEY (book_id, size) REFERENCES ledger.checkpoint
);

-- The keys that sign a book's checkpoints, numbered without gaps. A key signs from signs_from until the next one's old_until.
CREATE TABLE ledger.log_key (
  book_id        integer NOT NULL REFERENCES ledger.book,
  key            integer NOT NULL,
  name           text COLLATE "C" NOT NULL      -- the log's origin, the same for all keys
                 CONSTRAINT key_name CHECK (name ~ '^[!-*,-~]{1,200}$' OR ledger.broken('KH041', 'log_key', 'key_name')),
  public         bytea NOT NULL CONSTRAINT key_public CHECK (octet_length(public) = 32 OR ledger.broken('KH041', 'log_key', 'key_public')),
  sealed_private bytea NOT NULL,
  signs_from     timestamptz NOT NULL,
  old_until      timestamptz,                   -- until when the key before it signs as well
  endorsement    text COLLATE "C",              -- a signed note of the key before it
  PRIMARY KEY (book_id, key),
  CONSTRAINT key_public_once UNIQUE (book_id, public),
  CONSTRAINT key_form CHECK (
    CASE key WHEN 1 THEN old_until IS NULL AND endorsement IS NULL
             ELSE key > 1 AND endorsement IS NOT NULL AND (old_until >= signs_from) IS TRUE END
    OR ledger.broken('KH041', 'log_key', 'key_form'))
);

-- ---------------------------------------------------------------- sealing

-- The number of the last sealed entry of a source.
CREATE FUNCTION ledger.sealed(of_book integer, of_source text) RETURNS bigint LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off   -- here and below: by key, however young the tables were when it was planned
RETURN coalesce((SELECT first_number + count - 1 FROM ledger.log_run
                  WHERE book_id = of_book AND source = of_source ORDER BY first_number DESC LIMIT 1), 0);

-- When an entry was recorded; null: there is none.
CREATE FUNCTION ledger.entry_at(of_book integer, of_source text, number bigint) RETURNS timestamptz LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
RETURN CASE of_source
  WHEN 'account' THEN (SELECT opened_at FROM ledger.account WHERE book_id = of_book AND account_id = number)
  WHEN 'act' THEN (SELECT recorded_at FROM ledger.act WHERE book_id = of_book AND act = number)
  WHEN 'journal' THEN (SELECT recorded_at FROM ledger.journal WHERE book_id = of_book AND seq = number) END;

-- Takes the next so many entries of each source into the log, which has ``from_size`` leaves, and keeps the checkpoint of them.
-- account_leaves: their leaf hashes. tiles: the tiles that this fills, of level 0 in order, then of level 1 and so on, and
-- tile_roots their roots; each one text of bytes, one value after the other. note: the signed checkpoint.
CREATE FUNCTION ledger.seal(of_book integer, from_size bigint, accounts integer, acts bigint, journals bigint, account_leaves bytea,
                            tiles bytea, tile_roots bytea, root bytea, note text, at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$ DECLARE
  last ledger.checkpoint; b ledger.book; r record; new_size bigint := from_size; since timestamptz; through timestamptz;
  left_at timestamptz; day date; filled bigint; given bigint := 0;
BEGIN
  IF num_nulls(of_book, from_size, accounts, acts, journals, account_leaves, tiles, tile_roots, root, note, at) > 0 THEN
    PERFORM ledger.refuse('KH019', 'sealing needs all its arguments');
  END IF;
  PERFORM pg_advisory_xact_lock(hashtext('ledger.seal'), of_book);
  SELECT * INTO b FROM ledger.book WHERE book_id = of_book;
  SELECT * INTO last FROM ledger.checkpoint WHERE book_id = of_book ORDER BY size DESC LIMIT 1;
  IF b.book_id IS NULL OR from_size <> coalesce(last.size, 0) OR at < last.sealed_at THEN
    PERFORM ledger.refuse('KH038', format('the log of book %s has %s leaves, sealed at %s, not %s', of_book, last.size, last.sealed_at, from_size));
  END IF;
  FOR r IN SELECT * FROM (VALUES ('account', accounts::bigint, b.accounts::bigint), ('act', acts, b.acts), ('journal', journals, b.head))
                    AS s(source, count, held) LOOP
    DECLARE done bigint := ledger.sealed(of_book, r.source); BEGIN
      IF r.count < 0 OR done + r.count > r.held THEN
        PERFORM ledger.refuse('KH039', format('book %s has %s entries of %s, not %s', of_book, r.held, r.source, done + r.count));
      END IF;
      left_at := least(left_at, ledger.entry_at(of_book, r.source, done + r.count + 1));
      CONTINUE WHEN r.count = 0;
      INSERT INTO ledger.log_run VALUES (of_book, new_size, r.source, done + 1, r.count);
      since := least(since, ledger.entry_at(of_book, r.source, done + 1));
      through := greatest(through, ledger.entry_at(of_book, r.source, done + r.count));
      IF r.source = 'account' THEN
        INSERT INTO ledger.account_leaf
        SELECT of_book, done + n, substring(account_leaves FROM n * 32 - 31 FOR 32) FROM generate_series(1, accounts) AS n;
      END IF;
      new_size := new_size + r.count;
    END;
  END LOOP;
  IF new_size = from_size OR octet_length(account_leaves) <> accounts * 32 THEN
    PERFORM ledger.refuse('KH040', 'a checkpoint needs new leaves, and the leaf hash of each of their accounts');
  END IF;
  day := (through AT TIME ZONE 'UTC')::date;
  IF (since AT TIME ZONE 'UTC')::date <> day OR (last.recorded_through AT TIME ZONE 'UTC')::date > day
     OR (left_at AT TIME ZONE 'UTC')::date < day THEN
    PERFORM ledger.refuse('KH040', format('book %s: a checkpoint from %s to %s is of more than one day, or leaves entries of an earlier one', of_book, since, through));
  END IF;
  FOR level IN 0 .. 6 LOOP
    filled := (new_size >> 8 * (level + 1)) - (from_size >> 8 * (level + 1));
    INSERT INTO ledger.log_tile
    SELECT of_book, level, (from_size >> 8 * (level + 1)) + n - 1, substring(tiles FROM ((given + n - 1) * 8192 + 1)::integer FOR 8192),
           substring(tile_roots FROM ((given + n - 1) * 32 + 1)::integer FOR 32)
      FROM generate_series(1, filled) AS n;
    given := given + filled;
  END LOOP;
  IF octet_length(tiles) <> given * 8192 OR octet_length(tile_roots) <> given * 32 THEN
    PERFORM ledger.refuse('KH040', format('leaves %s to %s fill %s tiles', from_size, new_size - 1, given));
  END IF;
  INSERT INTO ledger.checkpoint VALUES (of_book, new_size, from_size, root, greatest(through, last.recorded_through),
    CASE WHEN last.size IS NULL OR day > (last.recorded_through AT TIME ZONE 'UTC')::date THEN day END, at, note);
END $$;

-- Adds a key to a book's log, the first or the next.
CREATE FUNCTION ledger.add_log_key(of_book integer, of_key integer, of_name text, of_public bytea, sealed bytea, of_signs_from timestamptz,
                                   of_old_until timestamptz, of_endorsement text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE last ledger.log_key; BEGIN
  IF num_nulls(of_book, of_key, of_name, of_public, sealed, of_signs_from) > 0 THEN
    PERFORM ledger.refuse('KH019', 'a key needs its number, name, both halves and when it begins');
  END IF;
  PERFORM pg_advisory_xact_lock(hashtext('ledger.log_key'), of_book);
  SELECT * INTO last FROM ledger.log_key WHERE book_id = of_book ORDER BY key DESC LIMIT 1;
  IF of_key <> coalesce(last.key, 0) + 1 OR of_name <> last.name OR of_signs_from < last.signs_from
     OR NOT EXISTS (SELECT FROM ledger.book WHERE book_id = of_book)
     OR EXISTS (SELECT FROM ledger.log_key WHERE book_id = of_book AND public = of_public) THEN
    PERFORM ledger.refuse('KH041', format('the last key of the log of book %s is %s, of %s, from %s', of_book, last.key, last.name, last.signs_from));
  END IF;
  INSERT INTO ledger.log_key VALUES (of_book, of_key, of_name, of_public, sealed, of_signs_from, of_old_until, of_endorsement);
END $$;

-- Keeps what a witness added to a checkpoint; a second line of the same witness changes nothing.
CREATE FUNCTION ledger.add_cosignature(of_book integer, of_size bigint, of_witness text, of_line text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ BEGIN
  IF num_nulls(of_book, of_size, of_witness, of_line) > 0 THEN
    PERFORM ledger.refuse('KH019', 'a cosignature needs its checkpoint, its witness and its line');
  ELSIF NOT EXISTS (SELECT FROM ledger.checkpoint WHERE book_id = of_book AND size = of_size) THEN
    PERFORM ledger.refuse('KH042', format('the log of book %s has no checkpoint of size %s', of_book, of_size));
  END IF;
  INSERT INTO ledger.cosignature VALUES (of_book, of_size, of_witness, of_line) ON CONFLICT DO NOTHING;
END $$;

-- As in 0001, but that a status that is missing is refused as other missing arguments are.
CREATE OR REPLACE FUNCTION ledger.change_account(of_book integer, account integer, new_floor bigint, new_status text, why text, who text,
                                      at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ DECLARE b record; number integer; said_of text; BEGIN
  IF new_status IS NULL THEN PERFORM ledger.refuse('KH019', 'an account needs a status'); END IF;
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

-- ---------------------------------------------------------------- who may do what

DO $$ DECLARE t text; BEGIN
  FOREACH t IN ARRAY ARRAY['log_run', 'account_leaf', 'log_tile', 'checkpoint', 'cosignature', 'log_key'] LOOP
    EXECUTE format('CREATE TRIGGER immutable_row BEFORE UPDATE OR DELETE ON ledger.%I
                    FOR EACH ROW EXECUTE FUNCTION ledger.immutable()', t);
    EXECUTE format('CREATE TRIGGER immutable_table BEFORE TRUNCATE ON ledger.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION ledger.immutable()', t);
    EXECUTE format('REVOKE ALL ON ledger.%I FROM PUBLIC', t);
    EXECUTE format('GRANT SELECT ON ledger.%I TO khata_app', t);
  END LOOP;
END $$;
REVOKE ALL ON ledger.day_end FROM PUBLIC;
GRANT SELECT ON ledger.day_end TO khata_app, khata_audit;
GRANT SELECT ON ledger.log_run, ledger.account_leaf, ledger.log_tile, ledger.checkpoint, ledger.cosignature TO khata_audit;
GRANT SELECT (book_id, key, name, public, signs_from, old_until, endorsement) ON ledger.log_key TO khata_audit;
REVOKE ALL ON FUNCTION ledger.sealed, ledger.entry_at, ledger.seal, ledger.add_log_key, ledger.add_cosignature FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.sealed, ledger.entry_at TO khata_app, khata_audit;
GRANT EXECUTE ON FUNCTION ledger.seal, ledger.add_log_key, ledger.add_cosignature TO khata_app;
