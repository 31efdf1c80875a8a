#!/usr/bin/env bash
# Resolves the requirements for every platform and Python from 3.11 on, with hashes and without the registry's address.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
    local out=$1
    shift
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
        --no-annotate --no-header --no-emit-index-url --no-emit-find-links "$@" --output-file "requirements/$out"
}

compile run.txt pyproject.toml
compile dev.txt --extra dev --constraint requirements/run.txt pyproject.toml
compile build.txt requirements/build.in
