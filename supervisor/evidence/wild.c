/* Unwinding on from a call through a wild pointer: see wild.h. */
#include <stddef.h>

#include "supervisor/evidence/wild.h"

/* The accessors of the second cursor: its registers are the saved ones, all else is the process's. */

static int find_proc_info(
    unw_addr_space_t as, unw_word_t ip, unw_proc_info_t *info, int need_unwind_info, void *arg)
{
	const struct wild *w = arg;

	(void)as;
	return _UPT_find_proc_info(w->inner, ip, info, need_unwind_info, w->upt);
}

static void put_unwind_info(unw_addr_space_t as, unw_proc_info_t *info, void *arg)
{
	const struct wild *w = arg;

	(void)as;
	_UPT_put_unwind_info(w->inner, info, w->upt);
}

static int get_dyn_info_list_addr(unw_addr_space_t as, unw_word_t *address, void *arg)
{
	const struct wild *w = arg;

	(void)as;
	return _UPT_get_dyn_info_list_addr(w->inner, address, w->upt);
}

static int access_mem(unw_addr_space_t as, unw_word_t address, unw_word_t *value, int write, void *arg)
{
	const struct wild *w = arg;

	(void)as;
	return write ? -UNW_EINVAL : _UPT_access_mem(w->inner, address, value, 0, w->upt);
}

static int access_reg(unw_addr_space_t as, unw_regnum_t number, unw_word_t *value, int write, void *arg)
{
	const struct wild *w = arg;

	(void)as;
	if (write || number < 0 || (unsigned)number >= WILD_REGISTERS)
		return -UNW_EBADREG;
	*value = w->value[number];
	return 0;
}

/* NOLINTBEGIN(readability-non-const-parameter): libunwind's type of this function */
static int access_fpreg(
    unw_addr_space_t as, unw_regnum_t number, unw_fpreg_t *value, int write, void *arg)
{
	(void)as;
	(void)number;
	(void)value;
	(void)write;
	(void)arg;
	return -UNW_EBADREG;
}

/* NOLINTEND(readability-non-const-parameter): of libunwind's types */

static int resume(unw_addr_space_t as, unw_cursor_t *cursor, void *arg)
{
	(void)as;
	(void)cursor;
	(void)arg;
	return -UNW_EINVAL;
}

static int get_proc_name(
    unw_addr_space_t as, unw_word_t address, char *name, size_t size, unw_word_t *offset, void *arg)
{
	const struct wild *w = arg;

	(void)as;
	return _UPT_get_proc_name(w->inner, address, name, size, offset, w->upt);
}

/* Take the call back: the caller's address from where the processor put it. */
static int undo_call(struct wild *w)
{
#if defined(__x86_64__)
	unw_word_t *ip = &w->value[UNW_X86_64_RIP], *sp = &w->value[UNW_X86_64_RSP];

	if (_UPT_access_mem(w->inner, *sp, ip, 0, w->upt) < 0)
		return -1;
	*sp += sizeof(*ip);
	return 0;
#elif defined(__aarch64__)
	w->value[UNW_AARCH64_PC] = w->value[UNW_AARCH64_X30];
	return 0;
#else
#error "this processor's calls are not known here"
#endif
}

int wild_return(struct wild *w, unw_addr_space_t inner, void *upt, unw_cursor_t *cursor)
{
	unw_accessors_t accessors = {
	    .find_proc_info = find_proc_info,
	    .put_unwind_info = put_unwind_info,
	    .get_dyn_info_list_addr = get_dyn_info_list_addr,
	    .access_mem = access_mem,
	    .access_reg = access_reg,
	    .access_fpreg = access_fpreg,
	    .resume = resume,
	    .get_proc_name = get_proc_name,
	};
	unw_cursor_t next;

	*w = (struct wild){.upt = upt, .inner = inner};
	for (unsigned i = 0; i < WILD_REGISTERS; i++)
		if (unw_get_reg(cursor, (unw_regnum_t)i, &w->value[i]) < 0)
			w->value[i] = 0;
	w->space = undo_call(w) == 0 ? unw_create_addr_space(&accessors, 0) : NULL;
	if (w->space == NULL)
		return -1;
	if (unw_init_remote(&next, w->space, w) < 0) {
		wild_fini(w);
		return -1;
	}
	*cursor = next;
	return 0;
}

void wild_fini(struct wild *w)
{
	if (w->space != NULL)
		unw_destroy_addr_space(w->space);
	w->space = NULL;
}
