/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line, with QEMU's names for what QEMU has, too. */
#ifndef PC_OPTIONS_H
#define PC_OPTIONS_H

#include "pc.h"

extern const char pc_usage[];

/* 0: @options is filled in, with pointers into argv. 1: help is asked for. Negative: the command line is wrong. */
int pc_options_parse(int argc, char **argv, struct pc_options *options, struct pc_error *error);

#endif
