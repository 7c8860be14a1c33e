#!/bin/bash
# Checks formatting, lints and documentation of the Rust crates, then lints and types of the Python sources.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

cd "$root"
cargo fmt --all --check
cargo clippy --workspace --all-targets -- -D warnings
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items

tools=$("$root/tests/lanes/tools.sh" ruff mypy)
"$tools/ruff" check --no-cache --config python/pyproject.toml python/hotcall
"$tools/ruff" check --no-cache --isolated --select E,F,B --ignore B008 --line-length 140 tests/lanes tests/python python/demo python/docs benches
"$tools/mypy" --strict --config-file python/pyproject.toml --cache-dir "$build/mypy" python/hotcall
python=$(first_python)
"$python" -B benches/python/picture.py --check benches/record
bash -n tests/lanes/*.sh .ci/run
