-- Asked each second: the last checkpoint that a witness signed. Without it one that never signed has all the others' looked through.
CREATE INDEX cosignature_witness ON ledger.cosignature (book_id, witness, size);
