#!/bin/bash
# Runs the Rust tests. The crate of the extension module links to no interpreter, so its tests are those in Python.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

cd "$root"
cargo nextest run --workspace --exclude hotcall-python --no-tests=pass
cargo test --doc --workspace --exclude hotcall-python
