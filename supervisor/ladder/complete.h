/*
 * Whether a checkpoint is whole, as far as its format tells.
 *
 * safetensors	the header is JSON and lies in the file, and the tensors end exactly where the file does.
 * zip		(torch.save, .npz) the end record closes the file, also in its 64-bit form, the central directory
 *		lies right before it, and every entry's bytes lie before that.
 * directory	no file of it is torn; what names the parts (*.index.json) finds them; and the file that is written
 *		last is there: trainer_state.json where the Hugging Face Trainer wrote it, .metadata beside *.distcp.
 *
 * Anything else has no check.  Bytes are not believed (H10); nothing is written.
 */
#ifndef LADDER_COMPLETE_H
#define LADDER_COMPLETE_H

#include "journal/status.h"
#include "supervisor/ladder/listing.h"

enum completeness {
	COMPLETE_TORN = 0,      /* the format says that something is missing */
	COMPLETE_UNCHECKED = 1, /* the format has no check */
	COMPLETE_WHOLE = 2,
};

/* STATUS_SYS: it could not be read; why->subject is the file. */
enum status complete_check(const char *path, const struct listing *l, enum completeness *out,
    struct cause *why) MUST_CHECK;

#endif
