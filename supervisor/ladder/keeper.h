/*
 * helper-keeper and helper-restore: the hands of the ladder on files, as programs: `holdfast helper-…`.
 *
 * The keeper watches the files that match a pattern, finds the checkpoints that are complete, keeps a copy of
 * each under RUNDIR/checkpoints and says so.  The restore puts one of them back where the script looks for it.
 * Both may block, crash and be killed at any moment; the agent may not wait for them without a deadline (H10).
 * Neither changes a file of the user that is complete and that nobody asked to replace, and neither deletes one.
 *
 * PATTERN is an absolute path; "{step}" may stand in it once, in its last or in any other component, and stands
 * for a decimal number.  A pattern without it is one path, whose step the agent supplies (KEEPER_WRITING).
 * What matches may be a file, or a directory, which is then one checkpoint with all that is in it.
 *
 * A kept copy is RUNDIR/checkpoints/NNNNNN-step-S/NAME, with NNNNNN its ordinal, S its step ("none" where the
 * pattern has none) and NAME the last component of the original; beside it lies .kept.json, which says what it
 * is.  The directory appears by one rename, so that whatever has this name is whole.
 */
#ifndef LADDER_KEEPER_H
#define LADDER_KEEPER_H

#include <assert.h>
#include <stdint.h>

#include "journal/record.h"

#define KEEPER_SOCKET_FD 3 /* the keeper's end of a SOCK_SEQPACKET pair */

enum keeper_kind {
	/*
	 * Keeper to agent.
	 *
	 * KEEPER_READY: it watches; the copies that were already kept follow as KEEPER_KEPT with KEEPER_AGAIN, oldest
	 * first, and only then what is new.  The agent answers with KEEPER_PROTECT.
	 */
	KEEPER_READY = 1,
	/*
	 * Files of the pattern are being written: original, step, writing, and in size_bytes how large they are by
	 * now.  Said at once (KEEPER_BEGINS) when a writing begins, then at most once a second.  For a pattern without
	 * {step} the agent notes the last step at each KEEPER_BEGINS: it is that of the KEEPER_KEPT with the same
	 * writing, which may come after the beginning of the next one.
	 */
	KEEPER_WRITING = 2,
	/* A complete checkpoint has its kept copy and its digest, durably: every field but error. */
	KEEPER_KEPT = 3,
	/* Something could not be done: error is an errno, original or kept the path; it goes on. */
	KEEPER_TROUBLE = 4,
	/* The kept copy of this ordinal is no more: pruned, or changed under us (error: ESTALE). */
	KEEPER_DROPPED = 5,
	/*
	 * Agent to keeper.
	 *
	 * KEEPER_PROTECT: ordinal and also must not be pruned (the newest good rung, or the one that is about to be put back;
	 * and one that is about to become good);
	 * replaces the one before; 0: none in particular.  Before the first one nothing is pruned at all, so that a
	 * new keeper cannot take what the policy needs: the agent sends one after every KEEPER_READY.
	 *
	 * Pruned are, the oldest first, the copies beyond the newest N and those that exceed the budget; never the
	 * protected ones and never the newest.
	 */
	KEEPER_PROTECT = 16,
	/* The policy will never want this ordinal (it is bad): it is pruned first, and at once. */
	KEEPER_DROP = 17,
	/* End; what is under way is given up.  So does the end of the socket. */
	KEEPER_STOP = 18,
};

enum keeper_flag {
	KEEPER_BEGINS = 1, /* WRITING: the first word of this writing */
	KEEPER_AGAIN = 2,  /* KEPT: it was kept before; the ordinal is the one it has had since */
	KEEPER_DIRECTORY = 4, /* KEPT: a directory */
	KEEPER_LINKED = 8, /* KEPT: hard links to the original's files, which share their bytes */
	KEEPER_IN_PLACE = 16, /* KEPT: nothing was copied (--mode inplace): kept equals original */
	KEEPER_AT_START = 32, /* KEPT: it lay there, complete, when the keeper began */
	KEEPER_POLLING = 64,  /* READY: no notices from this file system, it looks once a second */
	/*
	 * KEPT: its format has no check, it is complete as far as closing and quiet tell.  When the attempt had died
	 * before this was said, it may be torn and is not to be trusted.
	 */
	KEEPER_UNCHECKED = 128,
	/* KEPT: the script wrote the same bytes again; the ordinal is the one they have had since. */
	KEEPER_REWRITTEN = 256,
};

/* One datagram of the socket.  What a kind does not mention is 0, STEP_NONE or "". */
struct keeper_message {
	uint32_t kind;    /* enum keeper_kind */
	uint32_t flags;   /* enum keeper_flag */
	uint64_t step;    /* from the name, or STEP_NONE */
	uint64_t ordinal; /* counts the kept checkpoints of the run from 1, over all its keepers */
	uint64_t size_bytes; /* of all its files */
	uint64_t file_count;
	uint64_t also;      /* PROTECT: a second ordinal, or 0 */
	uint64_t writing;   /* counts the writings this keeper saw from 1; 0: it saw none */
	uint8_t digest[16]; /* XXH3-128, canonical (big-endian); of a directory: see content.h */
	int32_t error;      /* errno */
	uint32_t finite;    /* as in struct record_rung */
	char kept[RECORD_TEXT_MAX]; /* absolute, NUL-terminated, like the next */
	char original[RECORD_TEXT_MAX];
};
static_assert(sizeof(struct keeper_message) == 80 + 2 * RECORD_TEXT_MAX, "keeper message");

/*
 * --pattern PATTERN --run-dir DIR --mode auto|link|copy|inplace --keep N --budget-bytes N
 *
 * mode		auto: hard links where the script replaces whole files by a rename or numbers them, copies (reflinks
 *		where the file system has them) where it writes into them; link, copy: always that; inplace: no
 *		copy, the checkpoint is used where it lies and is lost when the script overwrites it.
 * keep		how many kept copies, at least 2.
 * budget	bytes of all kept copies, 0: no limit.  The newest and the protected ones are kept in any case; when they
 *		alone exceed it, that is a KEEPER_TROUBLE with EDQUOT.
 *
 * Returns 0 after KEEPER_STOP or the end of the socket, 64 for bad arguments, 1 when it cannot go on.
 */
int helper_keeper_main(int argc, char **argv);

enum restore_flag {
	RESTORE_PUT = 1,     /* the kept copy was put at the original's place */
	RESTORE_ALREADY = 2, /* the original was the kept copy already */
};

/* What helper-restore writes to standard output. */
struct restore_answer {
	int32_t error;        /* errno; 0: done.  EBADMSG: the kept copy is not what was kept */
	uint32_t flags;       /* enum restore_flag */
	uint32_t moved_count; /* of files and directories that were moved aside */
	uint32_t reserved;
	char subject[RECORD_TEXT_MAX]; /* error is about this path */
	char aside[RECORD_TEXT_MAX];   /* the directory they were moved into; "": none was */
};

/*
 * --run-dir DIR --pattern PATTERN --kept PATH --original PATH, or --run-dir DIR --pattern PATTERN --none
 *
 * Only while no trainer is alive.  Verifies the kept copy against its digest, puts it back atomically, and moves
 * what stood there, and whatever matches the pattern with a later step, to RUNDIR/checkpoints/aside.  Where the
 * original is the kept copy already it stays untouched.
 *
 * --none: nothing was chosen: only what is torn, by the check of its format, is moved aside.
 *
 * Killed at any moment it leaves either what was there or the whole kept copy, and can be run again.  Returns 0
 * when the answer was written, whatever it says; 64 for bad arguments.
 */
int helper_restore_main(int argc, char **argv);

#endif
