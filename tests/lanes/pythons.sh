#!/bin/bash
# Runs a command once per Python version: `pythons.sh COMMAND...` runs `COMMAND... VENV` for every
# version that this machine has, after bringing its virtual environment up to date. A missing version is one loud line.
# The exit status is that of the first failure; later versions run all the same.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

status=0
seen=0
for version in ${HOTCALL_PYTHONS:-${versions[@]}}; do
    if ! python=$(find_python "$version"); then
        loud "SKIPPED: Python $version is not on this machine"
        continue
    fi
    seen=1
    say "Python $version ($("$python" -V))"
    "$root/tests/lanes/venv.sh" "$python" "$build/venv-$version"
    "$@" "$build/venv-$version" || status=$?
done
[ "$seen" = 1 ] || die "no Python version was found"
exit "$status"
