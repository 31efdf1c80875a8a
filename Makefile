# Everything runs from `.venv/`, which the first target to need it makes. ARGS go to the command: make test ARGS="-k ledger"
.DEFAULT_GOAL := help
.PHONY: help up demo test check format bench bench-reads bench-pack explain chaos crash attack lock run-environment dev-environment
MAKEFLAGS += --no-print-directory

PYTHON := .venv/bin/python
WORKERS ?= 2

help:
	@echo "up       database, bank simulators, API and worker, with demo data; Ctrl-C stops"
	@echo "demo     the scripted story, start to end"
	@echo "test     the tests (WORKERS=2, ARGS=...)"
	@echo "check    format, lint, types, direction of imports"
	@echo "format   rewrite to the agreed format"
	@echo "bench    figures (QUICK=1: a short run; PGLEDGER_SQL=files, TIGERBEETLE=binary: beside them)"
	@echo "bench-growth, bench-api    books of 10^7 postings (POSTINGS=...); HTTP"
	@echo "bench-reads  reads of the past in a long book beside a short one (QUICK=1: a shorter one)"
	@echo "bench-pack   the log and the audit pack of a large book: rates and memory (JOURNALS=1000000)"
	@echo "explain  the plan of every read of the API on a large book (JOURNALS=1000000)"
	@echo "chaos    faults and kills (CYCLES=10, SEED=...)"
	@echo "crash    kill -9 of database and writers, nothing acknowledged lost (CYCLES=500, SEED=...)"
	@echo "attack   raw SQL against every refusal, as each role"
	@echo "lock     resolve the requirements anew"

up: run-environment
	@.venv/bin/khata up $(ARGS)

demo: run-environment
	@deploy/tools.sh hledger ledger
	@.venv/bin/khata demo $(ARGS)

test: dev-environment
	@deploy/tools.sh age chromium curl fonts-dejavu-core hledger ledger libatomic1 postgresql
	@$(PYTHON) -m pytest -n $(WORKERS) $(ARGS)

check: dev-environment
	@deploy/tools.sh libatomic1
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/basedpyright
	.venv/bin/lint-imports

format: dev-environment
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

bench: dev-environment
	@QUICK=$(QUICK) $(PYTHON) -m bench $(ARGS)

bench-growth: dev-environment
	@QUICK=$(QUICK) POSTINGS=$(POSTINGS) $(PYTHON) -m bench.growth $(ARGS)

bench-api: dev-environment
	@QUICK=$(QUICK) $(PYTHON) -m bench.web $(ARGS)

bench-reads: dev-environment
	@QUICK=$(QUICK) $(PYTHON) -m bench.reads $(ARGS)

bench-pack: dev-environment
	@JOURNALS=$(JOURNALS) $(PYTHON) -m bench.pack $(ARGS)

explain: dev-environment
	@JOURNALS=$(or $(JOURNALS),1000000) $(PYTHON) -m pytest -n 0 -s tests/reads $(ARGS)

chaos: dev-environment
	@deploy/tools.sh chromium curl fonts-dejavu-core hledger ledger libatomic1 postgresql
	@CYCLES=$(or $(CYCLES),10) SEED=$(SEED) $(PYTHON) -m pytest tests/chaos -s $(ARGS)

crash: dev-environment
	@CYCLES=$(CYCLES) SEED=$(SEED) $(PYTHON) -m tests.crash

attack: dev-environment
	@ATTACKS=1 $(PYTHON) -m pytest -q -n 0 -p no:cacheprovider tests/attacks $(ARGS)

lock: dev-environment
	deploy/lock.sh

run-environment:
	@deploy/environment.sh run

dev-environment:
	@deploy/environment.sh dev
