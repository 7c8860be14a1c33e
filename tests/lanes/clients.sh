#!/bin/bash
# Runs programs over real bindings of C libraries, from the package index, with and without hotcall: same results, shares of
# calls in stubs, times. Where the bindings cannot be had it is skipped with one loud line.
#
#   HOTCALL_PYTHONS="3.11 3.13"   the versions, these unless it is set
#   HOTCALL_QUICK=1               one short run of each, and no records
#   HOTCALL_INSTRUCTIONS=1        instructions too, counted by callgrind, which takes some minutes for each version
set -euo pipefail
source "$(dirname "$0")/lib.sh"

arguments=(--record "$root/benches/record")
if [ -n "${HOTCALL_QUICK:-}" ]; then arguments=(--quick); fi
if [ -n "${HOTCALL_INSTRUCTIONS:-}" ]; then arguments+=(--instructions); fi
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
requirements=$root/benches/clients/requirements.txt
status=0
for version in ${HOTCALL_PYTHONS:-3.11 3.13}; do
    if ! python=$(find_python "$version"); then
        loud "SKIPPED: Python $version is not on this machine"
        continue
    fi
    venv=$build/clients-$version
    "$root/tests/lanes/venv.sh" "$python" "$venv"
    if ! cmp -s "$requirements" "$venv/.requirements"; then
        if ! "$venv/bin/python" -m pip install --quiet --only-binary :all: -r "$requirements"; then
            loud "SKIPPED: the bindings cannot be installed for Python $version"
            continue
        fi
        cp "$requirements" "$venv/.requirements"
    fi
    "$venv/bin/python" "$root/benches/clients" "${arguments[@]}" || status=$?
done
exit "$status"
