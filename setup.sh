#!/bin/sh
# Creates .venv with all packages, also on a fresh Debian or Ubuntu machine; installed packages stay.
# With the argument gnuradio: installs GNU Radio (a minute, 1 GB), needed only by `make demo AIR=gnuradio` and its tests.
set -eu

say() { echo "setup: $*" >&2; }

# Prints a Python for the environment: 3.11 or newer, with venv and ensurepip.
find_python() {
    for python in python3 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

as_root=no
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    as_root=sudo
fi
command -v apt-get >/dev/null || as_root=no

# Installs Debian packages; fails without permission.
install() {
    [ "$as_root" != no ] || return 1
    if [ -z "${updated:-}" ]; then
        $as_root apt-get update -qq || say "apt-get update failed; trying with the present package lists"
        updated=yes
    fi
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1
}

if [ "${1:-}" = gnuradio ]; then
    if ! .venv/bin/python -c 'from airnet_sdr.sim.channel.gnuradio_process import find_python; find_python()' 2>/dev/null; then
        say "installing GNU Radio"
        install gnuradio || say "GNU Radio is missing, and this user may not install it"
    fi
    exit 0
fi

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    if ! python=$(find_python); then
        install python3 python3-venv || true
        find_python >/dev/null || install python3.12 python3.12-venv || install python3.11 python3.11-venv || true
        python=$(find_python) || {
            say "no Python 3.11 or newer with venv; as root, run: apt-get install python3 python3-venv"
            exit 1
        }
    fi
    say "making .venv with $python"
    "$python" -m venv --clear .venv
fi

if [ ! -e /usr/share/datasets/fashion-mnist ]; then
    install dataset-fashion-mnist || say "without Debian's dataset-fashion-mnist, which only training needs"
fi
if ! command -v iio_info >/dev/null; then
    install libiio0 libiio-utils || say "without Debian's libiio0 and libiio-utils, which only PlutoSDRs need"
fi

# torch first and alone: later packages must use this build.
pip=".venv/bin/python -m pip --disable-pip-version-check"
$pip install -q "torch==$(sed -n 's/^torch==//p' constraints.txt)"
$pip install -q -c constraints.txt -e '.[test,train,digital,sweep,pluto,networks,lab]'
