#!/bin/bash
# Runs one lane: `lane.sh NAME COMMAND...` shows its output, keeps it in .build/logs, and notes how long it took.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

name=$1
shift
mkdir -p "$build/logs"
say "lane $name"
started=$SECONDS
status=0
"$@" 2>&1 | tee "$build/logs/$name.log" || status=$?
verdict=passed
if grep -q '^#### SKIPPED' "$build/logs/$name.log"; then verdict="passed, with parts skipped"; fi
[ "$status" = 0 ] || verdict="FAILED ($status)"
printf '%-12s %6d s  %s\n' "$name" $((SECONDS - started)) "$verdict" | tee -a "$build/logs/times"
exit "$status"
