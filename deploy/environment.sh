#!/usr/bin/env bash
# Makes .venv/ with hash-checked requirements and this project in it; does nothing when they have not changed.
#   deploy/environment.sh run|dev      PYTHON=python3.12 deploy/environment.sh run
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:?run or dev}
python=${PYTHON:-python3}
venv=.venv

fail() { echo "khata: $*" >&2; exit 1; }

make_venv() {
    command -v "$python" >/dev/null || fail "$python is not installed (Python 3.11 or later is needed)"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        || fail "$("$python" --version) is too old; Python 3.11 or later is needed (PYTHON=python3.11 make ...)"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then  # Debian keeps them in a package of their own
        [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null \
            || fail "$python has no venv module; as root: apt-get install python3-venv"
        echo "khata: installing python3-venv" >&2
        said=$(mktemp)
        (apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv) \
            >"$said" 2>&1 || { tail -n 20 "$said" >&2; fail "python3-venv could not be installed"; }
        rm "$said"
    fi
    rm -rf "$venv"
    "$python" -m venv "$venv"
}

working() { "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Two make targets at once must not install over each other.
exec 9<pyproject.toml
if command -v flock >/dev/null; then flock 9; fi

working || make_venv
stamp=$(cat pyproject.toml requirements/*.txt deploy/environment.sh | sha256sum | cut -d' ' -f1)
# The development environment holds all of the other.
for done in "$venv/khata-$kind" "$venv/khata-dev"; do
    [ "$(cat "$done" 2>/dev/null)" != "$stamp" ] || exit 0
done

echo "khata: installing requirements/$kind.txt into $venv" >&2
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install --require-hashes --no-deps -r requirements/build.txt -r "requirements/$kind.txt"
pip install --no-deps --no-build-isolation --editable .
echo "$stamp" >"$venv/khata-$kind"
