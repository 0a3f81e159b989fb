/* SPDX-License-Identifier: BSD-3-Clause */
/* Trace points: USDT probes of provider "gpamap", one nop each when nobody looks. */
#ifndef GM_BASE_TRACE_H
#define GM_BASE_TRACE_H

#include <sys/sdt.h>

#define gm_trace1(name, a) DTRACE_PROBE1(gpamap, name, a)
#define gm_trace2(name, a, b) DTRACE_PROBE2(gpamap, name, a, b)
#define gm_trace3(name, a, b, c) DTRACE_PROBE3(gpamap, name, a, b, c)

#endif
