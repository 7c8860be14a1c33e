#!/bin/bash
# Tests that everything works where the kernel denies executable memory: `denied.sh VENV`.
# HOTCALL_DENY says which ways of denying are used, both unless it is set. Under the stricter one ctypes itself cannot make
# callbacks, so the tests that need them are skipped there.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

venv=$1
deny=$build/deny_exec
mkdir -p "$build"
"${CC:-cc}" -O1 -Wall "$root/tests/lanes/deny_exec.c" -o "$deny.partial"
mv "$deny.partial" "$deny"

# Stubs must be off and said to be off, and calls must be right all the same.
check='
import ctypes
import hotcall
hotcall.install()
function = ctypes.CDLL(None).abs
function.argtypes = [ctypes.c_int]
assert [function(-number) for number in range(1000)] == list(range(1000))
stats, status = hotcall.stats(), str(hotcall.status())
print(status)
assert stats["stub_calls"] == 0 and stats["stubs"] == 0, stats
assert stats["interpreter_calls"] > 900, stats
assert "memory" in status.lower(), "the status does not say that executable memory is denied"
'

if "$deny" probe; then die "executable memory is denied before anything was done"; fi
tested=0
for way in ${HOTCALL_DENY:-mdwe seccomp}; do
    found=0
    "$deny" "$way" "$deny" probe 2>/dev/null || found=$?
    case $found in
    0) ;;
    3) loud "SKIPPED: this kernel cannot deny executable memory by $way"; continue ;;
    *) die "$way does not deny executable memory" ;;
    esac
    say "executable memory denied by $way"
    tested=1
    HOTCALL=threshold=1,count=1 "$deny" "$way" "$venv/bin/python" -X faulthandler -c "$check"
    HOTCALL_DENIED=$way HOTCALL_SECONDS=0.3 "$deny" "$way" "$root/tests/lanes/pytest.sh" "$venv"
done
[ "$tested" = 1 ] || loud "SKIPPED: denied memory: no way to deny it here"
