"""The log and the audit pack of a large book: sealing beside posting, export, verification; memory."""
