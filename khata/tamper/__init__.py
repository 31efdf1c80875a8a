"""Proves that the audit can tell: tampers with a scratch book in every way it knows, and audits each time."""
