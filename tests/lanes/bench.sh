#!/bin/bash
# Runs the benchmarks in Rust, and then each Python program in benches, on every Python version of this machine.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

cd "$root"
cargo bench --workspace --exclude hotcall-python
for program in benches/*.py; do
    [ -f "$program" ] || continue
    for version in $(found_versions); do
        "$root/tests/lanes/venv.sh" "$(find_python "$version")" "$build/venv-$version"
        say "$program on Python $version"
        "$build/venv-$version/bin/python" "$program"
    done
done
