#!/bin/bash
# Makes or refreshes a virtual environment with pytest and the wheel: `venv.sh PYTHON VENV`.
# The wheel is installed again only if its contents changed.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

python=$1
venv=$2
export PIP_DISABLE_PIP_VERSION_CHECK=1

# An interrupted or moved environment lacks the last mark, or an interpreter that starts.
if [ ! -f "$venv/.ready" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet pytest
    touch "$venv/.ready"
fi

# Tests of greenlets and of NumPy arrays are skipped without them.
for package in greenlet numpy; do
    if [ ! -f "$venv/.$package" ]; then
        "$venv/bin/python" -m pip install --quiet --only-binary :all: "$package" 2>/dev/null ||
            loud "SKIPPED: $package cannot be installed for $("$python" -V)"
        touch "$venv/.$package"
    fi
done

wheel=$(find_wheel)
contents=$("$python" -c '
import hashlib, sys, zipfile
rows = sorted((i.filename, i.CRC, i.file_size) for i in zipfile.ZipFile(sys.argv[1]).infolist())
print(hashlib.sha256(repr(rows).encode()).hexdigest())' "$wheel")
if [ "$(cat "$venv/.wheel" 2>/dev/null)" != "$contents" ]; then
    "$venv/bin/python" -m pip install --quiet --no-deps --force-reinstall "$wheel"
    echo "$contents" > "$venv/.wheel"
fi
