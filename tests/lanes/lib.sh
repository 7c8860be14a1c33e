# What the lanes share: where things are, and how to speak. Sourced, never run.
# HOTCALL_BUILD moves the state, which otherwise all lives in .build.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${HOTCALL_BUILD:-$root/.build}
versions=(3.11 3.12 3.13 3.14 3.15)

say() { printf '==> %s\n' "$*"; }
loud() { printf '\n#### %s ####\n\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Whether $1 is a CPython that can be used as version $2.
is_python() {
    [ -x "$1" ] && "$1" -c '
import sys
wanted = tuple(map(int, sys.argv[1].split(".")))
sys.exit(sys.version_info[:2] != wanted or sys.implementation.name != "cpython")' "$2" 2>/dev/null
}

# Prints the interpreter of version $1, or fails.
find_python() {
    local name candidate
    if command -v pyenv >/dev/null; then
        for name in $(pyenv versions --bare 2>/dev/null | grep -E "^${1//./\\.}(\.[0-9]+)?$" | sort -rV); do
            candidate=$(PYENV_VERSION=$name pyenv prefix 2>/dev/null)/bin/python
            if is_python "$candidate" "$1"; then echo "$candidate"; return; fi
        done
    fi
    # A shim of pyenv may be first on PATH and fail, so every match is tried.
    for candidate in $(type -ap "python$1"); do
        if is_python "$candidate" "$1"; then echo "$candidate"; return; fi
    done
    return 1
}

# Prints the versions that this machine has, in order.
found_versions() {
    local version
    for version in "${versions[@]}"; do
        if find_python "$version" >/dev/null; then echo "$version"; fi
    done
}

# Prints the interpreter of the first version that this machine has.
first_python() {
    local found
    found=$(found_versions)
    [ -n "$found" ] || die "no Python version was found"
    find_python "${found%%$'\n'*}"
}

# Prints the wheel under test: HOTCALL_WHEEL, or the one that wheel.sh built.
find_wheel() {
    local wheel=${HOTCALL_WHEEL:-}
    if [ -z "$wheel" ]; then
        wheel=$(echo "$build"/wheels/hotcall-*.whl)
    fi
    [ -f "$wheel" ] || die "no wheel: run 'make wheel' first"
    echo "$wheel"
}
