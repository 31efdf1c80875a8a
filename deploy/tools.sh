#!/usr/bin/env bash
# Debian programs that Khata is compared with, driven by or run on: installed if root, else named.
#   deploy/tools.sh hledger ledger
set -euo pipefail

missing=()
for program in "$@"; do
    case $program in
        postgresql) compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ;;
        fonts-dejavu-core) compgen -G '/usr/share/fonts/truetype/*/*.ttf' >/dev/null ;;  # a browser without any font
        libatomic1) compgen -G '/usr/lib/*/libatomic.so.1' >/dev/null ;;  # of the node that playwright and pyright bring
        *) command -v "$program" >/dev/null ;;
    esac || missing+=("$program")
done
[ ${#missing[@]} -gt 0 ] || exit 0

install=(apt-get install -y --no-install-recommends "${missing[@]}")
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "khata: installing ${missing[*]}" >&2
    said=$(mktemp)
    if (apt-get update && DEBIAN_FRONTEND=noninteractive "${install[@]}") >"$said" 2>&1; then
        rm "$said"
        exit 0
    fi
    tail -n 20 "$said" >&2
fi
echo "khata: going on without ${missing[*]}, and what needs them; to have them, as root: ${install[*]}" >&2
