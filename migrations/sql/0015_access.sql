-- Who looked, and who was turned away. What people did to the books stands in ledger.act; this is the rest: every call of a
-- platform client, written before it is carried out, and every attempt of anybody that was denied, before that is said.

CREATE TABLE api.access_entry (
    entry_id   uuid PRIMARY KEY,                        -- UUIDv7: by time
    at         timestamptz NOT NULL,
    person     text COLLATE "C" CHECK (person ~ '^[!-~]{1,64}$'),   -- a client's id, or who was logged in; null: not known
    address    text NOT NULL CHECK (length(address) BETWEEN 1 AND 64),
    method     text COLLATE "C" NOT NULL CHECK (method ~ '^[A-Z]{2,10}$'),          -- of HTTP; CLI: a command
    route      text COLLATE "C" NOT NULL CHECK (length(route) BETWEEN 1 AND 200),   -- its template, never the path
    subject    text NOT NULL CHECK (length(subject) <= 600 AND subject !~ '[[:cntrl:]]'),   -- the ids in the path, or the client claimed
    asked      text[] COLLATE "C" NOT NULL,             -- names of the query's parameters, never their values
    book       text CHECK (length(book) BETWEEN 1 AND 64),
    outcome    text COLLATE "C" NOT NULL CHECK (outcome IN ('admitted', 'denied')),
    code       text COLLATE "C" CHECK (code ~ '^[a-z][a-z0-9_]{0,63}$'),            -- why it was denied
    request_id uuid,                                    -- finds the request in the structured log; null: a command
    CHECK ((outcome = 'denied') = (code IS NOT NULL)),
    CHECK (person IS NOT NULL OR outcome = 'denied')
);
CREATE INDEX access_entry_by_person ON api.access_entry (person, entry_id);
CREATE INDEX access_entry_denied ON api.access_entry (entry_id) WHERE outcome = 'denied';

CREATE FUNCTION api.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN
  RAISE EXCEPTION USING ERRCODE = 'KA001',
    MESSAGE = format('%s on api.%s: its rows are facts and stay as they are', TG_OP, TG_TABLE_NAME);
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON api.access_entry
  FOR EACH STATEMENT EXECUTE FUNCTION api.refuse_change();

GRANT SELECT, INSERT ON api.access_entry TO khata_app;
GRANT SELECT ON api.access_entry TO khata_audit;
