"""Speed of the HTTP API beside a bare Litestar route, on one machine, in one run: ``python -m bench.web``."""
