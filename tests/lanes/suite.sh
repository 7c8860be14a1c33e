#!/bin/bash
# Runs CPython's own ctypes suite, plain and with hotcall, in a virtual environment: `suite.sh VENV ARGS...`.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

venv=$1
shift
export PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" "$root/tests/lanes/suite.py" "$@"
