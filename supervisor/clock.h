/*
 * The three clocks: monotonic (one boot of one machine), wall (only printed), run time (in the journal).
 *
 * Run time starts at 0 with the run and is monotonic time plus an offset that each session fixes: within one
 * boot the offset stays, after a reboot run time goes on from the last turn by as much as wall time went on.
 */
#ifndef SUPERVISOR_CLOCK_H
#define SUPERVISOR_CLOCK_H

#include <stdint.h>

#include "journal/record.h"

/* CLOCK_MONOTONIC. */
uint64_t clock_monotonic_ns(void);

/* CLOCK_REALTIME, since 1970. */
int64_t clock_wall_ns(void);

/* The kernel's boot id; zeros when it cannot be read, which no other boot's id equals by chance. */
void clock_boot_id(uint8_t boot_id[16]);

/*
 * What to add (modulo 2^64) to monotonic time to get run time.
 * last		the last session's record, or NULL for a new run: run time 0 is now.
 * last_time_ns	run time of the last turn; run time never goes back behind it.
 */
uint64_t clock_run_offset(const struct record_session *last, uint64_t last_time_ns);

#endif
