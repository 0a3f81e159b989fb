/* SPDX-License-Identifier: BSD-3-Clause */
/* Standard input as the guest's keyboard. */
#ifndef PC_TERMINAL_H
#define PC_TERMINAL_H

#include "pc.h"

/* Type what comes from standard input on the machine's serial line, in a thread. A terminal gives each key as it is until
 * pc_terminal_stop(), which comes when the machine has ended, or a signal ends the program. */
int pc_terminal_start(struct pc *pc);
void pc_terminal_stop(void);

#endif
