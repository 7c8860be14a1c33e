#!/bin/bash
# Runs the benchmarks: those in Rust, and the comparison with ctypes and with a hand-written extension on each Python version.
#
#   HOTCALL_PYTHONS="3.11 3.13"   the versions, these unless it is set
#   HOTCALL_QUICK=1               a few seconds for each, and no records
#   HOTCALL_INSTRUCTIONS=1        instructions are counted and recorded as well, which takes valgrind and a minute
set -euo pipefail
source "$(dirname "$0")/lib.sh"

# Called again by pythons.sh, with an environment that has the wheel.
if [ "${1:-}" = compare ]; then
    arguments=(--record "$root/benches/record")
    if [ -n "${HOTCALL_QUICK:-}" ]; then arguments=(--quick); fi
    export PYTHONDONTWRITEBYTECODE=1 HOTCALL_BUILD=$build
    "$2/bin/python" "$root/benches/python" "${arguments[@]}"
    if [ -n "${HOTCALL_INSTRUCTIONS:-}" ]; then "$2/bin/python" "$root/benches/python/instructions.py" --record "$root/benches/record"; fi
    exit
fi

cd "$root"
cargo bench --workspace --exclude hotcall-python --bench '*' -- ${HOTCALL_QUICK:+--test}
export HOTCALL_PYTHONS=${HOTCALL_PYTHONS:-3.11 3.13}
"$root/tests/lanes/pythons.sh" "$root/tests/lanes/bench.sh" compare
exec "$root/tests/lanes/peers.sh"
