/* See kept.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/ladder/complete.h"
#include "supervisor/ladder/content.h"
#include "supervisor/ladder/copying.h"
#include "supervisor/ladder/keeper.h"
#include "supervisor/ladder/kept.h"
#include "supervisor/ladder/writers.h"

#define STAGE_WORD ".stage-"
#define STEP_WORD "-step-"

static bool join(char out[PATTERN_PATH_MAX], const char *dir, const char *name)
{
	int length = snprintf(out, PATTERN_PATH_MAX, "%s/%s", dir, name);

	return length > 0 && (unsigned)length < PATTERN_PATH_MAX;
}

static void name_of(const struct manifest *m, char out[KEPT_NAME_MAX])
{
	if (m->step == STEP_NONE)
		snprintf(out, KEPT_NAME_MAX, "%06" PRIu64 STEP_WORD "none", m->ordinal);
	else
		snprintf(out, KEPT_NAME_MAX, "%06" PRIu64 STEP_WORD "%" PRIu64, m->ordinal, m->step);
}

bool kept_directory(const struct kept *k, const struct manifest *m, char out[PATTERN_PATH_MAX])
{
	char name[KEPT_NAME_MAX];

	name_of(m, name);
	return join(out, k->dir, name);
}

bool kept_path(const struct kept *k, const struct manifest *m, char out[PATTERN_PATH_MAX])
{
	char dir[PATTERN_PATH_MAX];

	if ((m->flags & KEEPER_IN_PLACE) != 0)
		return snprintf(out, PATTERN_PATH_MAX, "%s", m->original) < (int)PATTERN_PATH_MAX;
	return kept_directory(k, m, dir) && join(out, dir, m->name);
}

/* "NNNNNN-step-S": the ordinal, 0 when the name is none of ours. */
static uint64_t ordinal_of(const char *name)
{
	char *end;
	uint64_t ordinal = name[0] >= '0' && name[0] <= '9' ? strtoull(name, &end, 10) : 0;

	return ordinal != 0 && strncmp(end, STEP_WORD, strlen(STEP_WORD)) == 0 ? ordinal : 0;
}

static int by_ordinal(const void *a, const void *b)
{
	const struct manifest *const *x = a, *const *y = b;

	return (*x)->ordinal < (*y)->ordinal ? -1 : (*x)->ordinal > (*y)->ordinal;
}

enum status kept_enter(struct kept *k, const struct manifest *made)
{
	struct manifest *entry;

	if (k->count >= KEPT_MAX)
		return STATUS_FULL;
	entry = malloc(sizeof(*entry));
	if (entry == NULL)
		return STATUS_SYS;
	*entry = *made;
	k->entries[k->count++] = entry;
	if (made->ordinal > k->last_ordinal)
		k->last_ordinal = made->ordinal;
	return STATUS_OK;
}

/*
 * One directory with a name of ours.  It came with its manifest, so that one without is what a drop left; that of
 * the highest ordinal stays as a name, so that no ordinal is given twice.
 */
static enum status read_one(struct kept *k, const char *name)
{
	char dir[PATTERN_PATH_MAX], own[KEPT_NAME_MAX];
	struct manifest *m;
	enum status status;

	if (!join(dir, k->dir, name) || (m = calloc(1, sizeof(*m))) == NULL)
		return STATUS_SYS;
	status = manifest_read(m, dir, NULL);
	if (status == STATUS_OK) {
		name_of(m, own);
		status = strcmp(own, name) == 0 ? kept_enter(k, m) : STATUS_BAD;
	} else if (status == STATUS_NONE) {
		copying_remove(dir);
		if (ordinal_of(name) == k->last_ordinal)
			(void)mkdir(dir, 0700);
	}
	free(m);
	return status == STATUS_SYS || status == STATUS_FULL ? status : STATUS_OK;
}

static enum status read_all(struct kept *k, struct cause *why)
{
	enum status status = STATUS_OK;
	struct dirent *entry;
	DIR *dir = opendir(k->dir);

	if (dir == NULL) {
		cause_set(why, CAUSE_ERRNO, errno, "open", k->dir);
		return STATUS_SYS;
	}
	while ((entry = readdir(dir)) != NULL)
		if (ordinal_of(entry->d_name) > k->last_ordinal)
			k->last_ordinal = ordinal_of(entry->d_name);
	rewinddir(dir);
	while (status == STATUS_OK && (entry = readdir(dir)) != NULL)
		if (ordinal_of(entry->d_name) != 0)
			status = read_one(k, entry->d_name);
	if (status != STATUS_OK)
		cause_set(why, CAUSE_ERRNO, status == STATUS_FULL ? E2BIG : ENOMEM, "read", k->dir);
	closedir(dir);
	qsort(k->entries, k->count, sizeof(struct manifest *), by_ordinal);
	return status;
}

void kept_clean(const struct kept *k)
{
	char path[PATTERN_PATH_MAX];
	struct dirent *entry;
	DIR *dir = opendir(k->dir);

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
		if (strncmp(entry->d_name, STAGE_WORD, strlen(STAGE_WORD)) == 0 &&
		    join(path, k->dir, entry->d_name))
			copying_remove(path);
	closedir(dir);
}

enum status kept_open(struct kept *k, const char *run_dir, struct cause *why)
{
	char path[PATTERN_PATH_MAX];
	enum status status;
	int error = 0;

	*k = (struct kept){.lock_fd = -1};
	if (!join(k->dir, run_dir, "checkpoints") || !join(path, k->dir, ".rewritten"))
		error = ENAMETOOLONG;
	else if (mkdir(k->dir, 0700) != 0 && errno != EEXIST)
		error = errno;
	k->rewritten = error == 0 && access(path, F_OK) == 0;
	if (error == 0 && join(path, k->dir, ".lock")) {
		k->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (k->lock_fd < 0 || flock(k->lock_fd, LOCK_EX | LOCK_NB) != 0)
			error = errno;
	}
	if (error != 0) {
		cause_set(why, CAUSE_ERRNO, error, "open", k->dir);
		status = error == EWOULDBLOCK ? STATUS_AGAIN
		    : error == ENOSPC         ? STATUS_FULL
					      : STATUS_SYS;
	} else {
		kept_clean(k);
		status = read_all(k, why);
	}
	if (status != STATUS_OK)
		kept_close(k);
	return status;
}

void kept_close(struct kept *k)
{
	for (size_t i = 0; i < k->count; i++)
		free(k->entries[i]);
	k->count = 0;
	if (k->lock_fd >= 0)
		close(k->lock_fd);
	k->lock_fd = -1;
}

size_t kept_find(const struct kept *k, uint64_t ordinal)
{
	for (size_t i = 0; i < k->count; i++)
		if (k->entries[i]->ordinal == ordinal)
			return i;
	return KEPT_NONE;
}

size_t kept_known(const struct kept *k, const char *original, const uint8_t source[16])
{
	for (size_t i = k->count; i-- > 0;)
		if (memcmp(k->entries[i]->source, source, 16) == 0 &&
		    strcmp(k->entries[i]->original, original) == 0)
			return i;
	return KEPT_NONE;
}

uint64_t kept_size_bytes(const struct kept *k)
{
	uint64_t total = 0;

	for (size_t i = 0; i < k->count; i++)
		if ((k->entries[i]->flags & KEEPER_IN_PLACE) == 0)
			total += k->entries[i]->size_bytes;
	return total;
}

/* The manifest goes first: from then on it is no kept copy, whatever becomes of the rest. */
void kept_drop(struct kept *k, size_t index)
{
	struct manifest *m = k->entries[index];
	char dir[PATTERN_PATH_MAX], path[PATTERN_PATH_MAX];

	if (kept_directory(k, m, dir) && join(path, dir, MANIFEST_NAME)) {
		(void)unlink(path);
		if (join(path, dir, m->name))
			copying_remove(path);
		if (m->ordinal < k->last_ordinal)
			(void)rmdir(dir);
	}
	free(m);
	memmove(&k->entries[index], &k->entries[index + 1],
	    (--k->count - index) * sizeof(struct manifest *));
}

bool kept_changed(const struct kept *k, const struct manifest *m)
{
	char path[PATTERN_PATH_MAX];
	uint8_t signature[16] = {0};
	struct listing l;

	if ((m->flags & KEEPER_LINKED) == 0 || !kept_path(k, m, path))
		return false;
	if (listing_take(&l, path, NULL) == STATUS_OK)
		listing_signature(&l, signature);
	listing_fini(&l);
	return memcmp(signature, m->source, sizeof(signature)) != 0;
}

void kept_distrust_links(struct kept *k)
{
	char path[PATTERN_PATH_MAX];
	int fd = -1;

	k->rewritten = true;
	if (join(path, k->dir, ".rewritten"))
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0)
		close(fd);
}

/* --- keeping one ----------------------------------------------------------------------------------------- */

static enum status fail(struct cause *why, enum status status, int error, const char *path)
{
	cause_set(why, CAUSE_ERRNO, error, "keep", path);
	return status;
}

/* Whether it is still what was decided about, and whole as far as can be told. */
static enum status look(
    const struct kept_plan *plan, struct listing *l, enum completeness *found, struct cause *why)
{
	enum status status = listing_take(l, plan->path, why);
	uint8_t signature[16];

	if (status == STATUS_NONE)
		return fail(why, STATUS_AGAIN, ENOENT, plan->path);
	if (status != STATUS_OK)
		return status == STATUS_BAD ? STATUS_SYS : status;
	listing_signature(l, signature);
	if (memcmp(signature, plan->source, sizeof(signature)) != 0)
		return fail(why, STATUS_AGAIN, ESTALE, plan->path);
	if (writers_at(plan->path))
		return fail(why, STATUS_AGAIN, ETXTBSY, plan->path);
	status = complete_check(plan->path, l, found, why);
	if (status != STATUS_OK)
		return status;
	if (*found == COMPLETE_TORN)
		return fail(why, STATUS_BAD, EBADMSG, plan->path);
	if (l->directory && *found == COMPLETE_UNCHECKED && !plan->may_be_parts)
		return fail(why, STATUS_AGAIN, EINPROGRESS, plan->path);
	return STATUS_OK;
}

static enum status unchanged(const struct kept_plan *plan, struct cause *why)
{
	uint8_t signature[16] = {0};
	struct listing l;

	if (listing_take(&l, plan->path, NULL) == STATUS_OK)
		listing_signature(&l, signature);
	listing_fini(&l);
	return memcmp(signature, plan->source, sizeof(signature)) == 0
	    ? STATUS_OK
	    : fail(why, STATUS_AGAIN, ESTALE, plan->path);
}

/* The same bytes under the same name. */
static const struct manifest *twin(const struct kept *k, const struct manifest *made)
{
	for (size_t i = k->count; i-- > 0;) {
		const struct manifest *m = k->entries[i];

		if (m->size_bytes == made->size_bytes && m->step == made->step &&
		    m->file_count == made->file_count &&
		    memcmp(m->digest, made->digest, sizeof(m->digest)) == 0 &&
		    strcmp(m->original, made->original) == 0)
			return m;
	}
	return NULL;
}

/* Whether a look at the digest may spare the copy: after a restore, above all. */
static bool may_be_twin(const struct kept *k, const struct manifest *made)
{
	for (size_t i = 0; i < k->count; i++)
		if (k->entries[i]->size_bytes == made->size_bytes &&
		    k->entries[i]->mtime_ns == made->mtime_ns)
			return true;
	return false;
}

/* Lay it down in the stage and say what its digest is. */
static enum status lay(const struct kept_plan *plan, const struct listing *l, const char *copy,
    struct manifest *made, struct cause *why)
{
	bool link = plan->mode == KEPT_LINK || (plan->mode == KEPT_AUTO && plan->may_link);
	enum completeness found = COMPLETE_TORN;
	struct content content;
	struct listing laid;
	enum status status = STATUS_REFUSED;

	if (link) {
		status = copying_lay(plan->path, l, copy, true, NULL, why);
		if (status == STATUS_REFUSED)
			copying_remove(copy);
		else
			made->flags |= KEEPER_LINKED;
	}
	if (status == STATUS_REFUSED)
		status = copying_lay(plan->path, l, copy, false, made->digest, why);
	if (status != STATUS_OK)
		return status;
	/* The copy itself must hold what was seen of the original. */
	status = listing_take(&laid, copy, why);
	if (status == STATUS_OK && (made->flags & KEEPER_LINKED) != 0) {
		status = content_take(copy, &laid, &content, why);
		if (status == STATUS_OK)
			memcpy(made->digest, content.digest, sizeof(made->digest));
	}
	made->finite = status == STATUS_OK ? content_look(copy, &laid) : 2;
	if (status == STATUS_OK)
		status = complete_check(copy, &laid, &found, why);
	listing_fini(&laid);
	if (status == STATUS_OK && found == COMPLETE_TORN)
		return fail(why, STATUS_AGAIN, EBADMSG, plan->path);
	return status;
}

static enum status commit(
    const struct kept *k, const char *stage, const struct manifest *made, struct cause *why)
{
	char dir[PATTERN_PATH_MAX];
	enum status status;

	if (!kept_directory(k, made, dir))
		return fail(why, STATUS_SYS, ENAMETOOLONG, stage);
	status = manifest_write(made, stage, why);
	if (status == STATUS_OK)
		status = copying_sync_directory(stage, why);
	if (status != STATUS_OK)
		return status;
	if (rename(stage, dir) != 0)
		return fail(why, STATUS_SYS, errno, dir);
	return copying_sync_directory(k->dir, why);
}

/* Everything from the digest on; the stage is removed by the caller when it is still there. */
static enum status keep(const struct kept *k, const struct kept_plan *plan, const struct listing *l,
    const char *stage, struct kept_result *r)
{
	struct manifest *made = &r->made;
	struct content content;
	const struct manifest *same;
	char copy[PATTERN_PATH_MAX];
	bool digested = plan->mode == KEPT_IN_PLACE || may_be_twin(k, made);
	enum status status = STATUS_OK;

	if (digested) {
		status = content_take(plan->path, l, &content, &r->why);
		if (status == STATUS_OK) {
			memcpy(made->digest, content.digest, sizeof(made->digest));
			made->finite = content.finite;
		}
	}
	same = status == STATUS_OK && digested ? twin(k, made) : NULL;
	if (status == STATUS_OK && same == NULL && mkdir(stage, 0700) != 0)
		status = fail(&r->why, errno == ENOSPC ? STATUS_FULL : STATUS_SYS, errno, stage);
	if (status == STATUS_OK && same == NULL && plan->mode != KEPT_IN_PLACE) {
		if (!join(copy, stage, made->name))
			return fail(&r->why, STATUS_SYS, ENAMETOOLONG, stage);
		status = lay(plan, l, copy, made, &r->why);
		same = status == STATUS_OK ? twin(k, made) : NULL;
	}
	if (status == STATUS_OK)
		status = unchanged(plan, &r->why);
	if (status == STATUS_OK && same == NULL)
		return commit(k, stage, made, &r->why);
	if (status != STATUS_OK)
		return status;
	*made = *same;
	return STATUS_NONE;
}

void kept_save(const struct kept *k, const struct kept_plan *plan, struct kept_result *result)
{
	enum completeness found = COMPLETE_TORN;
	char stage[PATTERN_PATH_MAX], name[KEPT_NAME_MAX];
	struct manifest *made = &result->made;
	struct listing l;

	*result = (struct kept_result){.status = STATUS_SYS};
	snprintf(name, sizeof(name), STAGE_WORD "%d-%06" PRIu64, (int)getpid(), k->last_ordinal + 1);
	result->status = look(plan, &l, &found, &result->why);
	if (result->status == STATUS_OK && !join(stage, k->dir, name))
		result->status = fail(&result->why, STATUS_SYS, ENAMETOOLONG, k->dir);
	if (result->status == STATUS_OK) {
		made->ordinal = k->last_ordinal + 1;
		made->step = plan->step;
		made->size_bytes = l.size_bytes;
		made->file_count = l.file_count;
		made->mtime_ns = l.mtime_ns;
		made->finite = 2;
		made->flags = (l.directory ? KEEPER_DIRECTORY : 0) |
		    (found == COMPLETE_UNCHECKED ? KEEPER_UNCHECKED : 0) |
		    (plan->mode == KEPT_IN_PLACE ? KEEPER_IN_PLACE : 0) |
		    (plan->renamed ? MANIFEST_RENAMED : 0);
		memcpy(made->source, plan->source, sizeof(made->source));
		snprintf(made->name, sizeof(made->name), "%s", pattern_last(plan->path));
		snprintf(made->original, sizeof(made->original), "%s", plan->path);
		result->status = keep(k, plan, &l, stage, result);
		copying_remove(stage);
	}
	listing_fini(&l);
}
