"""What the ledger does when its books have grown: ``python -m bench.growth`` (docs/bench.md)."""
