#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What `make install` leaves is all that a program needs: install.sh BUILD EXAMPLE CC PKG-CONFIG MESON
# Installs under a temporary DESTDIR, and builds and runs the example there through pkg-config, against the
# shared and the static library.
set -eu
build=$1
example=$2
cc=$3
pkg_config=$4
meson=$5

dest=$(mktemp -d)
trap 'rm -rf "$dest"' EXIT
DESTDIR=$dest $meson install -C "$build" --no-rebuild --quiet

pc=$(find "$dest" -name gpamap.pc)
lib=$(dirname "$(dirname "$pc")")
PKG_CONFIG_PATH=$(dirname "$pc")
PKG_CONFIG_SYSROOT_DIR=$dest
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR

run_hello() {
    r=0
    "$@" || r=$?
    # 77: no KVM here; it has been loaded and started all the same.
    [ $r -eq 0 ] || [ $r -eq 77 ]
}

$cc -o "$dest/hello" "$example" $($pkg_config --cflags --libs gpamap) -pthread
run_hello env LD_LIBRARY_PATH="$lib" "$dest/hello"

# Nothing of the library may be missing from the archive, nor of what it needs from gpamap.pc.
$cc -o "$dest/hello-static" "$example" $($pkg_config --cflags gpamap) "$lib/libgpamap.a" \
    $(PKG_CONFIG_SYSROOT_DIR='' $pkg_config --static --libs-only-l gpamap |
        sed 's/-lgpamap//') -pthread
run_hello "$dest/hello-static"
if ldd "$dest/hello-static" | grep -q libgpamap; then
    echo "hello-static is not static"
    exit 1
fi
for header in gpamap.h gpamap-listener.h gpamap-sim.h; do
    [ -n "$(find "$dest" -path "*include/$header")" ] || { echo "no $header"; exit 1; }
done
[ -x "$(find "$dest" -path '*/bin/gpamap')" ] || { echo "no gpamap command"; exit 1; }
echo "install: fine"
