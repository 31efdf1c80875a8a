"""Speed of the ledger beside a hand-rolled one, on one server, in one run: ``python -m bench`` (docs/bench.md)."""
