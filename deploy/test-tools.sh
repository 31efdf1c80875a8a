#!/usr/bin/env bash
# Programs the tests compare with, drive or run on, from Debian: installed if root, else named. Tests of absent ones skip.
set -euo pipefail

missing=()
for program in chromium hledger ledger; do
    command -v "$program" >/dev/null || missing+=("$program")
done
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
[ ${#missing[@]} -gt 0 ] || exit 0

install=(apt-get install -y --no-install-recommends "${missing[@]}")
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "khata: installing ${missing[*]} for the tests" >&2
    said=$(mktemp)
    if (apt-get update && DEBIAN_FRONTEND=noninteractive "${install[@]}") >"$said" 2>&1; then
        rm "$said"
        exit 0
    fi
    tail -n 20 "$said" >&2
fi
echo "khata: tests that need ${missing[*]} are skipped; to run them, as root: ${install[*]}" >&2
