#!/bin/bash
# Builds the wheel into .build/wheels. Always runs; cargo decides what there is to do.
# The one abi3 wheel serves every Python version.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

if [ -n "${HOTCALL_WHEEL:-}" ]; then
    say "testing the given wheel"
    exit
fi
python=$(first_python)
tools=$("$root/tests/lanes/tools.sh" maturin)

# The wheel is made beside its place and then moved, so that an interrupted build leaves the old one.
rm -rf "$build/wheels.partial"
"$tools/maturin" build --release -m "$root/python/Cargo.toml" -i "$python" -o "$build/wheels.partial"
rm -rf "$build/wheels"
mv "$build/wheels.partial" "$build/wheels"
