/*
 * Unwinding on from a call through a wild pointer.
 *
 * The address that such a call went to has no code and so no unwind information; libunwind then takes the
 * frame pointer for that of the missing frame and loses the caller wherever frame pointers are kept.  But
 * nothing has run since the call: every register is the caller's, and only the return address has to be
 * taken back.  A second cursor is started from those registers.
 *
 * Must not: write to the process; libunwind's own way of setting a register would.
 */
#ifndef EVIDENCE_WILD_H
#define EVIDENCE_WILD_H

#include <libunwind-ptrace.h>

#define WILD_REGISTERS 34u

/* Lives as long as the cursor that was made from it. */
struct wild {
	void *upt;              /* borrowed; of _UPT_create() */
	unw_addr_space_t inner; /* borrowed; of _UPT_accessors */
	unw_addr_space_t space; /* owned */
	unw_word_t value[WILD_REGISTERS];
};

/*
 * Set *cursor, which stands at the wild address, to the place it was called from.
 * Returns 0, or -1 when the return address cannot be read; the cursor is as before then.
 */
int wild_return(struct wild *w, unw_addr_space_t inner, void *upt, unw_cursor_t *cursor);
void wild_fini(struct wild *w);

#endif
