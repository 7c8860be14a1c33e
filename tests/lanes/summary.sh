#!/bin/bash
# Prints the time of each lane, everything that was skipped, and last what the test runners said of themselves.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

lanes=$(awk '!seen[$1]++ { print $1 }' "$build/logs/times")

echo
say "lanes"
cat "$build/logs/times"
for log in $lanes; do
    sed -n 's/^#### \(SKIPPED.*\) ####$/    \1/p' "$build/logs/$log.log"
done | sort -u
echo
say "test runners"
for log in $lanes; do
    # The lines of nextest, of cargo's documentation tests, of pytest and of the ctypes suite.
    sed 's/\x1b\[[0-9;]*m//g' "$build/logs/$log.log" |
        { grep -E '^ *Summary \[|^test result: .* [1-9][0-9]* passed|^[0-9]+ (passed|failed).* in [0-9]|^suite .*: ran ' || true; } |
        sed "s/^ */$log: /"
done
