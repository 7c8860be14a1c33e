#!/bin/bash
# Builds the guide and the reference into .build/docs; a warning is an error.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

wheel=$(find_wheel)
tools=$("$root/tests/lanes/tools.sh")
if ! "$tools/python" -c 'import myst_parser, sphinx' 2>/dev/null &&
    ! "$tools/python" -m pip install --quiet --disable-pip-version-check sphinx myst-parser >&2; then
    loud "SKIPPED: docs: Sphinx cannot be installed"
    exit 0
fi
"$tools/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$wheel"
# Built from a copy, since the build writes a table beside the pages.
rm -rf --one-file-system "$build/docs-source"
mkdir -p "$build"/docs-source/{python/src,asm/src,benches/record}
cp -r "$root/python/docs" "$build/docs-source/python/docs"
for crate in python asm; do cp "$root/$crate/src/refusals.rs" "$build/docs-source/$crate/src/"; done
cp "$root/benches/record/peers.svg" "$build/docs-source/benches/record/"
"$tools/python" -m sphinx --quiet --fail-on-warning --keep-going -b html "$build/docs-source/python/docs" "$build/docs"
say "docs: $build/docs/index.html"
