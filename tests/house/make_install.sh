#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# `make install` and `make uninstall` heed PREFIX and DESTDIR: make_install.sh SOURCE CC PKG-CONFIG MESON
# Starts from a build of its own for another prefix. A program is built and started with what `make install` says is to
# be done, and `make uninstall` leaves nothing but what is somebody else's.
set -eu
source=$1
cc=$2
pkg_config=$3
meson=$4

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset MAKEFLAGS MFLAGS PREFIX DESTDIR LD_LIBRARY_PATH PKG_CONFIG_PATH

fail() {
    echo "$*"
    cat "$work/log" || :
    exit 1
}

# What is needed is installed, or this build would not be here: no package is to be installed by a test.
run_make() {
    make -C "$source" -o deps BUILD="$work/build" "$@" >"$work/log" 2>&1
}

CC=$cc $meson setup "$work/build" "$source" --prefix="$work/first" --buildtype=plain -Dtests=false -Dtool=false \
    >"$work/log" || fail "meson setup"

run_make install PREFIX="$work/second" || fail "make install PREFIX="
[ ! -e "$work/first" ] || fail "PREFIX is ignored: installed in the prefix of the existing build"
eval "$(grep '^ *export ' "$work/log")"
[ "$($pkg_config --variable=prefix gpamap)" = "$work/second" ] || fail "gpamap.pc has another prefix"
$cc -o "$work/hello" "$source/examples/hello.c" $($pkg_config --cflags --libs gpamap) -pthread
ldd "$work/hello" | grep -q "libgpamap.so.0 => $work/second/" || fail "hello does not get the library in PREFIX"
# 77: no KVM here; it has been loaded and started all the same.
r=0
"$work/hello" || r=$?
[ $r -eq 0 ] || [ $r -eq 77 ] || fail "hello: exit status $r"

# Twice, for then no folder is made anew. No PREFIX: that of the build.
run_make install DESTDIR="$work/stage" || fail "make install DESTDIR="
run_make install DESTDIR="$work/stage" || fail "make install DESTDIR=, again"
staged=$work/stage$work/second
[ -f "$staged/include/gpamap.h" ] || fail "DESTDIR is ignored"
grep -rqF "$work/stage" "$staged" && fail "DESTDIR is in a file that was installed"

touch "$staged/include/other.h"
run_make uninstall PREFIX="$work/second" DESTDIR="$work/stage" || fail "make uninstall DESTDIR="
[ "$(find "$work/stage" ! -type d)" = "$staged/include/other.h" ] || fail "uninstalled too much or too little"
[ "$(find "$staged" -type d | wc -l)" = 2 ] || fail "make uninstall leaves empty folders"
[ -f "$work/second/include/gpamap.h" ] || fail "what is not under DESTDIR was uninstalled too"
run_make uninstall || fail "make uninstall"
[ ! -e "$work/second" ] || fail "make uninstall leaves something: $(find "$work/second")"
run_make uninstall && fail "uninstalled what is not there"

touch "$work/file"
run_make install PREFIX="$work/file/prefix" && fail "installed below a file"
grep -q "^$work/file can't be written to" "$work/log" || fail "does not say where it can't write"
echo "make install: fine"
