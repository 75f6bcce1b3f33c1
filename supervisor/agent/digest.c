/*
 * helper-digest and helper-survey: whether a checkpoint (a file or a directory) or a snapshot is what it was.
 *
 * H8, H10.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/agent/helper.h"
#include "supervisor/ladder/content.h"
#include "trainer/snapshot.h"

#define SURVEY_ENOUGH 2u /* good snapshots a rank: ranks are at most one step apart */

static const char *path_argument(int argc, char **argv)
{
	return argc == 3 && strcmp(argv[1], "--path") == 0 ? argv[2] : NULL;
}

static int write_result(const void *bytes, size_t size)
{
	return write(STDOUT_FILENO, bytes, size) == (ssize_t)size ? 0 : 1;
}

/* A trainer may name anything: a FIFO that nobody writes to and a device without end are no checkpoints (H10). */
int helper_digest_main(int argc, char **argv)
{
	struct helper_digest out = {.finite = 2};
	const char *path = path_argument(argc, argv);
	struct content content;
	struct cause why = {0};
	struct listing l;

	if (path == NULL)
		return 64;
	enum status status = listing_take(&l, path, &why);

	if (status == STATUS_OK && l.file_count == 0) {
		cause_set(&why, CAUSE_ERRNO, EISDIR, "digest", path);
		status = STATUS_BAD;
	}
	if (status == STATUS_OK)
		status = content_take(path, &l, &content, &why);
	if (status == STATUS_OK) {
		out.finite = content.finite;
		out.size_bytes = content.size_bytes;
		memcpy(out.digest, content.digest, sizeof(out.digest));
	} else {
		out.error = why.number > 0 ? (int32_t)why.number : EIO;
	}
	listing_fini(&l);
	return write_result(&out, sizeof(out));
}

int helper_survey_main(int argc, char **argv)
{
	struct snapshot_finding findings[MEMORY_SLOTS] = {0};

	if (argc != 5 || strcmp(argv[1], "--path") != 0 || strcmp(argv[3], "--before-step") != 0)
		return 64;
	/* No file, or not ours: nothing found. */
	(void)snapshot_survey_newest(argv[2], strtoull(argv[4], NULL, 10), SURVEY_ENOUGH, findings);
	return write_result(findings, sizeof(findings));
}
