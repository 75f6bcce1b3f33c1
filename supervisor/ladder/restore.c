/*
 * helper-restore.  See keeper.h.
 *
 * The copy is laid down beside its place as .holdfast-putting-PID, checked against its digest, named
 * .holdfast-put-PID, and exchanged with what stands there, which is then moved aside.  Whoever is killed leaves
 * at most one of these two names: the first is a part of a copy and is removed by the next one, the second may
 * be what stood there and is moved aside.  H8, H10.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/ladder/complete.h"
#include "supervisor/ladder/content.h"
#include "supervisor/ladder/copying.h"
#include "supervisor/ladder/keeper.h"
#include "supervisor/ladder/manifest.h"
#include "supervisor/ladder/pattern.h"

#define PUTTING ".holdfast-putting-"
#define PUT ".holdfast-put-"
#define ASIDE_BESIDE ".holdfast-aside"
#define ASIDE_TRIES 1000000u

struct restore {
	struct pattern pattern;
	const char *run_dir, *kept, *original;
	bool none;
	struct restore_answer answer;
};

static enum status fail(struct cause *why, int error, const char *path)
{
	cause_set(why, CAUSE_ERRNO, error, "restore", path);
	return STATUS_SYS;
}

/* The directory that a path lies in. */
static void parent_of(const char *path, char out[PATTERN_PATH_MAX])
{
	size_t length = (size_t)(pattern_last(path) - path);

	snprintf(out, PATTERN_PATH_MAX, "%.*s", (int)(length > 1 ? length - 1 : length), path);
}

static bool join(char out[PATTERN_PATH_MAX], const char *dir, const char *name)
{
	int length = snprintf(out, PATTERN_PATH_MAX, "%s/%s", dir, name);

	return length > 0 && (unsigned)length < PATTERN_PATH_MAX;
}

/* --- aside ----------------------------------------------------------------------------------------------- */

/* A directory under `dir` that nobody used before: NNNN. */
static enum status new_directory(const char *dir, char out[PATTERN_PATH_MAX], struct cause *why)
{
	enum status status = copying_make_directories(dir, why);
	char name[16];

	for (unsigned i = 1; status == STATUS_OK && i < ASIDE_TRIES; i++) {
		snprintf(name, sizeof(name), "%04u", i);
		if (!join(out, dir, name))
			return fail(why, ENAMETOOLONG, dir);
		if (mkdir(out, 0700) == 0)
			return copying_sync_directory(dir, why);
		if (errno != EEXIST)
			return fail(why, errno, out);
	}
	return status == STATUS_OK ? fail(why, EEXIST, dir) : status;
}

/*
 * Rename into the run directory; where that is another file system, into a hidden directory beside the pattern's
 * names: a rename needs no space and no time and is never half done, which a copy of a large file is not.
 */
static enum status move_to(
    struct restore *r, const char *path, const char *name, const char *dir, struct cause *why)
{
	char target[PATTERN_PATH_MAX];
	enum status status = STATUS_OK;

	if (r->answer.aside[0] == '\0' || strncmp(r->answer.aside, dir, strlen(dir)) != 0 ||
	    (join(target, r->answer.aside, name) &&
		faccessat(AT_FDCWD, target, F_OK, AT_SYMLINK_NOFOLLOW) == 0))
		status = new_directory(dir, r->answer.aside, why);
	if (status != STATUS_OK)
		return status;
	if (!join(target, r->answer.aside, name))
		return fail(why, ENAMETOOLONG, path);
	if (renameat2(AT_FDCWD, path, AT_FDCWD, target, RENAME_NOREPLACE) != 0 &&
	    (errno != EINVAL || rename(path, target) != 0)) {
		(void)fail(why, errno, path);
		(void)rmdir(r->answer.aside);
		r->answer.aside[0] = '\0';
		return STATUS_SYS;
	}
	r->answer.moved_count++;
	return copying_sync_directory(r->answer.aside, why);
}

/* name: of it there. */
static enum status move_aside(struct restore *r, const char *path, const char *name, struct cause *why)
{
	char ours[PATTERN_PATH_MAX], beside[PATTERN_PATH_MAX], parent[PATTERN_PATH_MAX];
	struct stat there, here;
	enum status status;

	parent_of(path, parent);
	if (!join(ours, r->run_dir, "checkpoints/aside") ||
	    !join(beside, r->pattern.base, ASIDE_BESIDE))
		return fail(why, ENAMETOOLONG, path);
	status = copying_make_directories(ours, why);
	if (status == STATUS_OK && stat(parent, &here) == 0 && stat(ours, &there) == 0 &&
	    here.st_dev == there.st_dev) {
		status = move_to(r, path, name, ours, why);
		/* Two mounts of one file system look the same and are not. */
		if (status == STATUS_OK || why->number != EXDEV)
			goto moved;
	}
	status = move_to(r, path, name, beside, why);
moved:
	return status == STATUS_OK ? copying_sync_directory(parent, why) : status;
}

/* What an earlier restore that was killed left in this directory. */
static enum status clean(struct restore *r, const char *dir, struct cause *why)
{
	enum status status = STATUS_OK;
	char path[PATTERN_PATH_MAX];
	struct dirent *entry;
	DIR *stream = opendir(dir);

	while (stream != NULL && status == STATUS_OK && (entry = readdir(stream)) != NULL) {
		if (!join(path, dir, entry->d_name))
			continue;
		if (strncmp(entry->d_name, PUTTING, strlen(PUTTING)) == 0)
			copying_remove(path);
		else if (strncmp(entry->d_name, PUT, strlen(PUT)) == 0)
			status = move_aside(r, path,
			    r->original != NULL ? pattern_last(r->original) : entry->d_name, why);
	}
	if (stream != NULL)
		closedir(stream);
	return status;
}

/* --- putting it back ------------------------------------------------------------------------------------- */

/* Whether the very files that were kept stand there, and nobody wrote to them. */
static bool same_files(const char *path, const struct manifest *m)
{
	uint8_t signature[16] = {0};
	struct listing l;

	if (listing_take(&l, path, NULL) == STATUS_OK)
		listing_signature(&l, signature);
	listing_fini(&l);
	return memcmp(signature, m->source, sizeof(signature)) == 0;
}

static bool same_bytes(const char *path, const struct manifest *m)
{
	struct content content;
	struct listing l;
	bool same = listing_take(&l, path, NULL) == STATUS_OK && l.size_bytes == m->size_bytes &&
	    l.file_count == m->file_count && l.directory == ((m->flags & KEEPER_DIRECTORY) != 0) &&
	    content_take(path, &l, &content, NULL) == STATUS_OK &&
	    memcmp(content.digest, m->digest, sizeof(m->digest)) == 0;

	listing_fini(&l);
	return same;
}

/* Lay a copy down at `stage` and see that it is what was kept. */
static enum status lay(const struct restore *r, const struct manifest *m, const char *stage,
    bool link, struct cause *why)
{
	enum status status;
	uint8_t digest[16];
	struct listing l;

	status = listing_take(&l, r->kept, why);
	if (status == STATUS_NONE || status == STATUS_BAD)
		status = STATUS_SYS;
	if (status == STATUS_OK)
		status = copying_lay(r->kept, &l, stage, link, digest, why);
	listing_fini(&l);
	if (status != STATUS_OK)
		return status;
	if (link ? same_bytes(stage, m) : memcmp(digest, m->digest, sizeof(digest)) == 0)
		return STATUS_OK;
	return fail(why, EBADMSG, r->kept);
}

/* Exchange `ready` with what stands at original; afterwards `ready` is what stood there, or is gone. */
static enum status put(const struct restore *r, const char *ready, bool *was_there, struct cause *why)
{
	*was_there = true;
	if (renameat2(AT_FDCWD, ready, AT_FDCWD, r->original, RENAME_EXCHANGE) == 0)
		return STATUS_OK;
	if (errno == ENOENT) {
		*was_there = false;
		return rename(ready, r->original) == 0 ? STATUS_OK : fail(why, errno, r->original);
	}
	return fail(why, errno, r->original);
}

/* Where the file system cannot exchange: what stands there goes first. */
static enum status put_in_two(struct restore *r, const char *ready, struct cause *why)
{
	enum status status = move_aside(r, r->original, pattern_last(r->original), why);

	if (status == STATUS_OK && rename(ready, r->original) != 0)
		status = fail(why, errno, r->original);
	return status;
}

static enum status exchange(
    struct restore *r, const char *parent, const char *stage, bool shared, struct cause *why)
{
	char ready[PATTERN_PATH_MAX], name[64];
	bool was_there = true;
	enum status status;

	snprintf(name, sizeof(name), PUT "%d", (int)getpid());
	if (!join(ready, parent, name) || rename(stage, ready) != 0)
		return fail(why, errno, stage);
	status = put(r, ready, &was_there, why);
	if (status != STATUS_OK && (why->number == EINVAL || why->number == ENOSYS)) {
		status = put_in_two(r, ready, why);
		was_there = false;
	}
	if (status != STATUS_OK)
		return status;
	r->answer.flags |= RESTORE_PUT;
	/* What is left are other names of the kept files themselves, or it is the suspect. */
	if (was_there && shared)
		copying_remove(ready);
	else if (was_there)
		status = move_aside(r, ready, pattern_last(r->original), why);
	return status == STATUS_OK ? copying_sync_directory(parent, why) : status;
}

static enum status put_back(struct restore *r, const struct manifest *m, struct cause *why)
{
	char parent[PATTERN_PATH_MAX], stage[PATTERN_PATH_MAX], name[64];
	bool linked = (m->flags & KEEPER_LINKED) != 0, renamed = (m->flags & MANIFEST_RENAMED) != 0;
	bool shared = linked && same_files(r->original, m);
	enum status status;

	parent_of(r->original, parent);
	status = clean(r, parent, why);
	if (status != STATUS_OK)
		return status;
	/*
	 * A script that renames its checkpoints into place never writes to what is there.  Any other may write to
	 * the one it resumes from, which must not be the kept copy as well: then that is what is put there, a copy.
	 */
	if ((shared && renamed) || (!shared && same_bytes(r->original, m))) {
		r->answer.flags |= RESTORE_ALREADY;
		return STATUS_OK;
	}
	status = copying_make_directories(parent, why);
	if (status != STATUS_OK)
		return status;
	snprintf(name, sizeof(name), PUTTING "%d", (int)getpid());
	if (!join(stage, parent, name))
		return fail(why, ENAMETOOLONG, parent);
	status = STATUS_REFUSED;
	if (linked && renamed) {
		status = lay(r, m, stage, true, why);
		if (status == STATUS_REFUSED)
			copying_remove(stage);
	}
	if (status == STATUS_REFUSED)
		status = lay(r, m, stage, false, why);
	if (status == STATUS_OK)
		status = exchange(r, parent, stage, shared, why);
	copying_remove(stage);
	return status;
}

/* --- the rest -------------------------------------------------------------------------------------------- */

static bool torn(const char *path, struct cause *why)
{
	enum completeness found = COMPLETE_UNCHECKED;
	struct listing l;
	bool answer = listing_take(&l, path, why) == STATUS_OK &&
	    complete_check(path, &l, &found, why) == STATUS_OK && found == COMPLETE_TORN;

	listing_fini(&l);
	return answer;
}

/* What a script would take for later than the chosen one, or what it could not load. */
static enum status move_others(struct restore *r, uint64_t chosen, struct cause *why)
{
	char path[PATTERN_PATH_MAX], unit[PATTERN_PATH_MAX];
	struct matches found;
	enum status status = pattern_find(&r->pattern, &found, why);

	for (size_t i = 0; status == STATUS_OK && i < found.count; i++) {
		const struct match *match = &found.at[i];
		struct cause ignored;
		struct stat st;

		if (!pattern_path(&r->pattern, match->name, path) ||
		    !pattern_unit(&r->pattern, match->name, unit) || lstat(unit, &st) != 0)
			continue;
		if (r->none ? torn(path, &ignored) : match->step != STEP_NONE && match->step > chosen)
			status = move_aside(r, unit, match->name, why);
	}
	pattern_forget(&found);
	return status;
}

static enum status restore(struct restore *r, struct cause *why)
{
	char dir[PATTERN_PATH_MAX], name[PATTERN_NAME_MAX];
	struct manifest m = {0};
	uint64_t chosen = STEP_NONE;
	enum status status = STATUS_OK;
	const char *more;

	if (r->none) {
		status = clean(r, r->pattern.base, why);
		return status == STATUS_OK ? move_others(r, chosen, why) : status;
	}
	/* Which step that is, says its name. */
	if (r->pattern.numbered) {
		size_t base = strcmp(r->pattern.base, "/") == 0 ? 0 : strlen(r->pattern.base);

		if (strncmp(r->original, r->pattern.base, base) != 0 || r->original[base] != '/')
			return fail(why, EINVAL, r->original);
		more = r->original + base + 1;
		if (strcspn(more, "/") >= sizeof(name))
			return fail(why, EINVAL, r->original);
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(more, "/"), more);
		if (!pattern_match(&r->pattern, name, &chosen))
			return fail(why, EINVAL, r->original);
	}
	/* Kept in place: there is nothing to put back. */
	if (strcmp(r->kept, r->original) == 0) {
		r->answer.flags |= RESTORE_ALREADY;
		return access(r->kept, R_OK) == 0 ? move_others(r, chosen, why)
						  : fail(why, errno, r->kept);
	}
	parent_of(r->kept, dir);
	status = manifest_read(&m, dir, why);
	if (status != STATUS_OK)
		return status == STATUS_BAD ? fail(why, EBADMSG, r->kept) : fail(why, ENOENT, r->kept);
	status = put_back(r, &m, why);
	return status == STATUS_OK ? move_others(r, chosen, why) : status;
}

static bool parse(struct restore *r, int argc, char **argv)
{
	const char *pattern = NULL;
	struct cause why;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--none") == 0) {
			r->none = true;
			continue;
		}
		if (i + 1 >= argc)
			return false;
		if (strcmp(argv[i], "--pattern") == 0)
			pattern = argv[++i];
		else if (strcmp(argv[i], "--run-dir") == 0)
			r->run_dir = argv[++i];
		else if (strcmp(argv[i], "--kept") == 0)
			r->kept = argv[++i];
		else if (strcmp(argv[i], "--original") == 0)
			r->original = argv[++i];
		else
			return false;
	}
	if (pattern == NULL || r->run_dir == NULL ||
	    pattern_parse(&r->pattern, pattern, &why) != STATUS_OK)
		return false;
	if (r->none)
		return r->kept == NULL && r->original == NULL;
	return r->kept != NULL && r->original != NULL && r->kept[0] == '/' && r->original[0] == '/';
}

int helper_restore_main(int argc, char **argv)
{
	static struct restore r;
	struct cause why = {0};

	if (!parse(&r, argc, argv))
		return 64;
	(void)prctl(PR_SET_NAME, "holdfast-restor");
	if (restore(&r, &why) != STATUS_OK) {
		r.answer.error = why.number > 0 ? (int32_t)why.number : EIO;
		snprintf(r.answer.subject, sizeof(r.answer.subject), "%s", why.subject);
	}
	return write(STDOUT_FILENO, &r.answer, sizeof(r.answer)) == (ssize_t)sizeof(r.answer) ? 0 : 1;
}
