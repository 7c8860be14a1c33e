#!/bin/bash
# Runs tests/python in a virtual environment: `pytest.sh VENV ARGS...`.
# The cache of pytest and the compiled fixtures stay out of the checkout, which may be read-only.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

venv=$1
shift
export PYTHONDONTWRITEBYTECODE=1
export HOTCALL_FIXTURES=$build/fixtures
exec timeout "${HOTCALL_LANE_SECONDS:-900}" "$venv/bin/python" -X faulthandler -m pytest \
    -p no:cacheprovider -q --rootdir="$root/tests/python" "$root/tests/python" "$@"
