#!/bin/bash
# Counts the instructions of calls, and compares them with what is recorded: `instructions.sh VENV`.
# Where valgrind, the headers of this Python, or a compiler is missing it is skipped with one loud line.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

export PYTHONDONTWRITEBYTECODE=1 HOTCALL_BUILD=$build
exec "$1/bin/python" "$root/benches/python/instructions.py" --check "$root/benches/record"
