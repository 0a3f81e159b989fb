#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What `make install` leaves is all that a program needs: install.sh BUILD EXAMPLE USE_SIM CC PKG-CONFIG MESON
# Installs under a temporary DESTDIR, and builds and runs the example, and a program with the simulated VM, there
# through pkg-config, against the shared and the static libraries.
set -eu
build=$1
example=$2
use_sim=$3
cc=$4
pkg_config=$5
meson=$6

dest=$(mktemp -d)
trap 'rm -rf "$dest"' EXIT
DESTDIR=$dest $meson install -C "$build" --no-rebuild --quiet

pc=$(find "$dest" -name gpamap.pc)
lib=$(dirname "$(dirname "$pc")")
PKG_CONFIG_PATH=$(dirname "$pc")
PKG_CONFIG_SYSROOT_DIR=$dest
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR

# Flags of pkg-config for a program with the archives of $1, which has to name the libraries.
libs_static() {
    for name in $($pkg_config --static --libs-only-l "$1"); do
        case $name in
            -lgpamap*) echo "$lib/lib${name#-l}.a" ;;
            *) echo "$name" ;;
        esac
    done
}

is_static() {
    if ldd "$1" | grep -q libgpamap; then
        echo "$1 is not static"
        exit 1
    fi
}

run_hello() {
    r=0
    "$@" || r=$?
    # 77: no KVM here; it has been loaded and started all the same.
    [ $r -eq 0 ] || [ $r -eq 77 ]
}

$cc -o "$dest/hello" "$example" $($pkg_config --cflags --libs gpamap) -pthread
run_hello env LD_LIBRARY_PATH="$lib" "$dest/hello"

# Nothing of the library may be missing from the archive, nor of what it needs from gpamap.pc.
$cc -o "$dest/hello-static" "$example" $($pkg_config --cflags gpamap) $(libs_static gpamap) -pthread
run_hello "$dest/hello-static"
is_static "$dest/hello-static"

# The simulated VM, likewise; and with all objects of both archives, to see that they have no symbol in common.
$cc -o "$dest/use-sim" "$use_sim" $($pkg_config --cflags --libs gpamap-sim) -pthread
[ "$(LD_LIBRARY_PATH="$lib" "$dest/use-sim")" = written ] || { echo "use-sim: failed"; exit 1; }
sim_static="$use_sim $($pkg_config --cflags gpamap-sim)"
$cc -o "$dest/use-sim-static" $sim_static $(libs_static gpamap-sim) -pthread
[ "$("$dest/use-sim-static")" = written ] || { echo "use-sim-static: failed"; exit 1; }
is_static "$dest/use-sim-static"
$cc -o "$dest/use-sim-whole" $sim_static -Wl,--whole-archive "$lib/libgpamap-sim.a" "$lib/libgpamap.a" \
    -Wl,--no-whole-archive $(libs_static gpamap-sim) -pthread
[ "$("$dest/use-sim-whole")" = written ] || { echo "use-sim-whole: failed"; exit 1; }
# Who does not ask for it does not get it.
if nm -D "$lib/libgpamap.so" | grep -q gpamap_sim; then
    echo "the simulated VM is in libgpamap.so"
    exit 1
fi
for header in gpamap.h gpamap-vcpu.h gpamap-listener.h gpamap-sim.h; do
    [ -n "$(find "$dest" -path "*include/$header")" ] || { echo "no $header"; exit 1; }
done
[ -x "$(find "$dest" -path '*/bin/gpamap')" ] || { echo "no gpamap command"; exit 1; }
echo "install: fine"
