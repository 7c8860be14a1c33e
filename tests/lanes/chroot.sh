#!/bin/bash
# Tests Python 3.14 and 3.15 in a chroot of Debian sid, for machines that do not have them; with HOTCALL_BENCH=1 it compares
# hotcall with an extension module and ctypes there instead. With HOTCALL_LONG=1 a debug build of CPython is tested too, whose
# assertions see what others overlook.
# The chroot is made once, in .build/chroot-sid or HOTCALL_CHROOT. Where none can be made the lane is skipped with one loud
# line; once there is one, a test that fails in it fails the lane.
#
# All mounts are made in a mount namespace of their own, so that the kernel takes them down however the lane ends.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

chroot=${HOTCALL_CHROOT:-$build/chroot-sid}
inside_versions=(3.14 3.15)
debug_version=3.14

skip() {
    loud "SKIPPED: 3.14/3.15 lane: $1"
    exit 0
}

# Prints the Debian mirror from which apt on this machine takes its packages.
find_mirror() {
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -F'|' '$1 == "Debian" && $2 == "Debian" && !found++ { print $3 }'
}

# Prints the packages that testing version $1 needs.
packages_of() {
    echo "python$1,python$1-dev,python$1-venv,libpython$1-testsuite"
}

# Fills $1 with a base system, a C compiler, and those of the Python versions that sid has.
# All of it is debootstrap's work: apt inside would refuse a mirror whose copy of sid is some days old.
make_chroot() {
    local tree=$1 mirror=$2 packages include=gcc,libc6-dev,make
    for packages in $(for version in "${inside_versions[@]}"; do packages_of "$version"; done) ${HOTCALL_LONG:+"python$debug_version-dbg"}; do
        if debootstrap --variant=minbase --print-debs --include="$packages" sid "$tree.list" "$mirror"; then
            include+=,$packages
        fi
        rm -rf --one-file-system "$tree.list"
    done
    debootstrap --variant=minbase --include="$include" sid "$tree" "$mirror"
    rm -f "$tree"/var/cache/apt/archives/*.deb
}

# Runs a command in the chroot $1 with a clean environment.
run_in() {
    local tree=$1
    shift
    chroot "$tree" /usr/bin/env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# The stage that builds, in a namespace of its own. A tree under the final name is complete: it is renamed last.
stage_make() {
    rm -rf --one-file-system "$chroot.partial"
    mkdir -p "$chroot.partial"
    make_chroot "$chroot.partial" "$1"
    mv "$chroot.partial" "$chroot"
}

# The stage that tests, in a namespace of its own. The checkout is seen read-only; nothing is fetched from a network.
stage_test() {
    local wheel=$1 version status=0 seen=0
    mkdir -p "$chroot"/{src,build,wheels}
    mount --bind "$root" "$chroot/src"
    mount -o remount,bind,ro "$chroot/src"
    mount --bind "$build/wheels-pytest" "$chroot/wheels"
    mount --rbind /dev "$chroot/dev"
    mount -t proc proc "$chroot/proc"
    mount -t tmpfs tmpfs "$chroot/tmp"
    cp "$wheel" "$chroot/build/"
    # What Debian calls a debug build has a "d" in its name.
    for version in "${inside_versions[@]}" ${HOTCALL_LONG:+"${debug_version}d"}; do
        if [ ! -x "$chroot/usr/bin/python$version" ]; then
            loud "SKIPPED: Python $version is not in the chroot"
            continue
        fi
        seen=1
        say "chroot: $(run_in "$chroot" "python$version" -V)"
        inside "$version" "$(basename "$wheel")" || status=$?
    done
    [ "$seen" = 1 ] || skip "the chroot has no Python"
    rm -f "$chroot"/build/*.whl
    return "$status"
}

# Runs the tests of one version in the chroot.
inside() {
    local lanes=/src/tests/lanes venv=/build/venv-$1 status=0
    local settings=(HOTCALL_BUILD=/build HOTCALL_WHEEL="/build/$2" PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels)
    settings+=(HOTCALL_LONG="${HOTCALL_LONG:-}" HOTCALL_LANE_SECONDS="${HOTCALL_LANE_SECONDS:-}")
    settings+=(HOTCALL_SEED="${HOTCALL_SEED:-}")
    run_in "$chroot" "${settings[@]}" "$lanes/venv.sh" "/usr/bin/python$1" "$venv" || return
    if [ -n "${HOTCALL_BENCH:-}" ]; then
        run_in "$chroot" "${settings[@]}" PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" /src/benches/python/peers \
            --record /build || return
        cp "$chroot/build/peers-$1.csv" "$root/benches/record/"
        return
    fi
    run_in "$chroot" "${settings[@]}" "$lanes/pytest.sh" "$venv" || status=$?
    run_in "$chroot" "${settings[@]}" "$lanes/suite.sh" "$venv" || status=$?
    return "$status"
}

case ${1:-} in
--make) stage_make "$2"; exit ;;
--test) stage_test "$2"; exit ;;
esac

[ "$(id -u)" = 0 ] || skip "only root can make a chroot"
unshare --mount --propagation private true 2>/dev/null || skip "mount namespaces are denied here"
mkdir -p "$build"
exec 9> "$build/chroot.lock"
flock 9

if [ ! -d "$chroot" ]; then
    if ! command -v debootstrap >/dev/null; then
        command -v apt-get >/dev/null || skip "neither debootstrap nor apt-get is here"
        { apt-get update -q && apt-get install -q -y debootstrap; } > "$build/debootstrap-install.log" 2>&1 ||
            skip "debootstrap cannot be installed: $(tail -n 1 "$build/debootstrap-install.log")"
    fi
    mirror=$(find_mirror)
    [ -n "$mirror" ] || skip "apt on this machine knows no Debian mirror"
    say "making a chroot of Debian sid (log in .build/chroot.log)"
    unshare --mount --propagation private "$0" --make "$mirror" > "$build/chroot.log" 2>&1 < /dev/null ||
        skip "the chroot cannot be made: $(grep -v '^$' "$build/chroot.log" | tail -n 1)"
fi

wheel=$(find_wheel)
if [ ! -f "$build/wheels-pytest/.ready" ]; then
    rm -rf "$build/wheels-pytest"
    pip=$("$root/tests/lanes/tools.sh")/pip
    "$pip" download --quiet --disable-pip-version-check --only-binary :all: -d "$build/wheels-pytest" pytest ||
        skip "pytest cannot be downloaded"
    touch "$build/wheels-pytest/.ready"
fi
unshare --mount --propagation private "$0" --test "$wheel" < /dev/null
