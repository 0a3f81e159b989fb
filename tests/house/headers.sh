#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Each public header compiles alone, as C11 and C++17, without a warning: headers.sh INCLUDE CC [CXX]
set -eu
include=$1
cc=$2
cxx=${3:-}
warn="-Wall -Wextra -pedantic -Werror -fsyntax-only"

# Say what is checked, so that a failure names it.
for header in gpamap.h gpamap-vcpu.h gpamap-listener.h gpamap-sim.h; do
    for std in c11 gnu17; do
        echo "$header: $cc -std=$std"
        printf '#include <%s>\nint gpamap_test_unit;\n' "$header" |
            $cc -std=$std $warn -I"$include" -x c -
    done
    if [ -n "$cxx" ]; then
        echo "$header: $cxx -std=c++17"
        printf '#include <%s>\nint gpamap_test_unit;\n' "$header" |
            $cxx -std=c++17 $warn -I"$include" -x c++ -
    fi
done

# The check itself must be able to fail.
if printf '#include <gpamap.h>\nint f(void) { int x; }\n' |
    $cc -std=c11 $warn -I"$include" -x c - 2>/dev/null; then
    echo "a warning was not seen"
    exit 1
fi
