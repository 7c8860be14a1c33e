#!/bin/bash
# Compares hotcall with other ways to call C from Python, on each version, and draws the picture from the records.
# The peers come from the package index and are compiled once, which takes a minute; what cannot be had is left out.
#
#   HOTCALL_PYTHONS="3.11 3.13"   the versions, these unless it is set
#   HOTCALL_QUICK=1               a few seconds for each, and no records
set -euo pipefail
source "$(dirname "$0")/lib.sh"

arguments=(--record "$root/benches/record")
if [ -n "${HOTCALL_QUICK:-}" ]; then arguments=(--quick); fi
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HOTCALL_BUILD=$build
requirements=$root/benches/python/peers/requirements.txt
for version in ${HOTCALL_PYTHONS:-3.11 3.13}; do
    if ! python=$(find_python "$version"); then
        loud "SKIPPED: Python $version is not on this machine"
        continue
    fi
    venv=$build/peers-$version
    "$root/tests/lanes/venv.sh" "$python" "$venv"
    if ! cmp -s "$requirements" "$venv/.requirements"; then
        "$venv/bin/python" -m pip install --quiet -r "$requirements" ||
            loud "SKIPPED: the peers cannot be installed for Python $version"
        cp "$requirements" "$venv/.requirements"
    fi
    "$venv/bin/python" "$root/benches/python/peers" "${arguments[@]}"
done
if [ -z "${HOTCALL_QUICK:-}" ]; then "$venv/bin/python" "$root/benches/python/picture.py" "$root/benches/record"; fi
