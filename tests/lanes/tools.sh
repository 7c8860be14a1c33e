#!/bin/bash
# Installs the named tools from the Python package index, each once: `tools.sh maturin ruff` prints the folder of the programs.
# They live in an environment of their own, apart from those under test.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

venv=$build/venv-tools
export PIP_DISABLE_PIP_VERSION_CHECK=1
if [ ! -f "$venv/.ready" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    python=$(first_python)
    rm -rf "$venv"
    "$python" -m venv "$venv"
    touch "$venv/.ready"
fi
for tool in "$@"; do
    [ -x "$venv/bin/$tool" ] || "$venv/bin/python" -m pip install --quiet "$tool" >&2
done
echo "$venv/bin"
