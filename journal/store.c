/*
 * The writer.  Beside LMDB's two files lies "writer", a file that is only ever locked: with flock(), which
 * excludes a second writer in this process too, and with a POSIX lock, from which another process learns
 * the holder's pid.  The kernel drops both when the writer dies.
 */
#include "journal/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/env.h"

#define WRITER_FILE "writer"
#define WRITER_TRIES 16
#define READER_CHECK_TURNS 1024u /* how often slots of readers that died are freed */

/* The last key of the step index: what is greater may be appended. */
struct step_end {
	struct env_step_key key;
	bool valid; /* false: the index is empty */
};

struct store {
	struct env *env;
	int lock_fd;
	MDB_txn *txn; /* of the open turn, else NULL */
	MDB_cursor *records, *steps;
	uint64_t last_seq, last_turn;  /* committed */
	uint64_t next_seq;             /* of the open turn */
	struct step_end committed_end; /* of the step index */
	struct step_end end;           /* the same with the open turn */
	bool map_full;                 /* the map must grow before the next turn */
	bool broken;                   /* a commit failed: only store_close() is left */
};

/* What store_open() has made and takes back when it refuses. */
struct made {
	bool dir, lock;
};

static enum status take_lock(int fd, const char *path, struct cause *why)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct stat mine, named;

	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		int error = errno;
		if (error != EWOULDBLOCK)
			return env_failed(error, "lock", path, why);
		if (fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK || lock.l_pid < 0)
			lock.l_pid = 0;
		cause_set(why, CAUSE_DATA, lock.l_pid, "lock", path);
		return STATUS_AGAIN;
	}
	if (fcntl(fd, F_SETLK, &lock) != 0)
		return env_failed(errno, "lock", path, why);
	/* A writer that refused may have removed the file between our open and our lock. */
	if (fstat(fd, &mine) != 0 || stat(path, &named) != 0 || mine.st_ino != named.st_ino ||
	    mine.st_dev != named.st_dev)
		return STATUS_NONE;
	return STATUS_OK;
}

/* Open and lock dir's writer file; a journal's that has none is looked at before one is made there. */
static enum status lock_writer(const char *dir, int *fd_out, struct made *made, struct cause *why)
{
	char path[ENV_PATH_MAX];
	enum status status = env_path(dir, WRITER_FILE, path, why);

	if (status != STATUS_OK)
		return status;
	for (int tries = 0; tries < WRITER_TRIES; tries++) {
		int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		made->lock = false;
		if (fd < 0 && errno == ENOENT) {
			status = env_probe(dir, why);
			if (status != STATUS_OK && status != STATUS_NONE)
				return status;
			fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_CREAT | O_EXCL, 0600);
			made->lock = fd >= 0;
			if (fd < 0 && errno == EEXIST)
				continue;
		}
		if (fd < 0)
			return env_failed(errno, "open", path, why);
		status = take_lock(fd, path, why);
		if (status == STATUS_OK) {
			*fd_out = fd;
			return STATUS_OK;
		}
		made->lock = false; /* another's now */
		close(fd);
		if (status != STATUS_NONE)
			return status;
	}
	cause_set(why, CAUSE_DATA, 0, "lock", path);
	return STATUS_AGAIN;
}

/*
 * A writer that was killed between writing its meta page and saying so in LMDB's lock file left a commit that
 * readers do not see while another process holds the journal open; the next writing transaction finds it.
 * So one is begun, for nothing else, before anybody asks where the journal ends.
 */
static enum status find_unsaid(struct store *st, struct cause *why)
{
	MDB_txn *txn;
	int code = mdb_txn_begin(st->env->mdb, NULL, 0, &txn);

	if (code != 0)
		return env_failed(code, "begin", st->env->path, why);
	mdb_txn_abort(txn);
	return STATUS_OK;
}

/* Learn from the tables where the journal ends, and that its last record is whole. */
static enum status find_end(struct store *st, struct cause *why)
{
	MDB_txn *txn;
	MDB_cursor *cursor = NULL;
	MDB_val key, value;
	uint64_t seq;
	enum status status = env_snapshot(st->env, &txn, why);
	int code;

	if (status != STATUS_OK)
		return status;
	code = mdb_cursor_open(txn, st->env->record, &cursor);
	if (code == 0)
		code = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
	if (code == 0 && key.mv_size == sizeof(seq)) {
		memcpy(&seq, key.mv_data, sizeof(seq));
		status = env_check_value(&value, seq, why);
		if (status == STATUS_OK) {
			st->last_seq = seq;
			st->last_turn = ((const struct record *)value.mv_data)->turn;
		}
	} else if (code != MDB_NOTFOUND) {
		status = env_failed(code != 0 ? code : MDB_CORRUPTED, "read", st->env->path, why);
	}
	mdb_cursor_close(cursor);
	cursor = NULL;
	if (status == STATUS_OK) {
		code = mdb_cursor_open(txn, st->env->step, &cursor);
		if (code == 0)
			code = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
		if (code == 0 && key.mv_size == sizeof(st->committed_end.key)) {
			memcpy(&st->committed_end.key, key.mv_data, key.mv_size);
			st->committed_end.valid = true;
		} else if (code != MDB_NOTFOUND) {
			status = env_failed(
			    code != 0 ? code : MDB_CORRUPTED, "read", st->env->path, why);
		}
		mdb_cursor_close(cursor);
	}
	env_snapshot_end(st->env, txn);
	return status;
}

/* With the writer's lock held: make the journal if there is none, and open it. */
static enum status open_locked(struct store *st, const char *dir, struct cause *why)
{
	enum status status = env_probe(dir, why);
	int dead;

	if (status == STATUS_NONE)
		status = env_create(dir, why);
	if (status == STATUS_OK)
		status = env_open(dir, &st->env, why);
	if (status == STATUS_OK)
		status = find_unsaid(st, why);
	if (status == STATUS_OK)
		status = find_end(st, why);
	if (status == STATUS_OK)
		(void)mdb_reader_check(st->env->mdb, &dead);
	return status;
}

static enum status make_dir(const char *dir, struct made *made, struct cause *why)
{
	char parent[ENV_PATH_MAX];
	enum status status = env_path(dir, "..", parent, why);
	int fd;

	if (status != STATUS_OK)
		return status;
	if (mkdir(dir, 0700) != 0)
		return errno == EEXIST ? STATUS_OK : env_failed(errno, "make directory", dir, why);
	made->dir = true;
	/* The new name must be as durable as what will lie under it (H2). */
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return env_failed(errno, "open", parent, why);
	if (fsync(fd) != 0)
		status = env_failed(errno, "sync", parent, why);
	close(fd);
	return status;
}

enum status store_open(const char *dir, struct store **out, struct cause *why)
{
	struct made made = {.dir = false};
	char path[ENV_PATH_MAX];
	struct store *st;
	enum status status = env_path(dir, WRITER_FILE, path, why);

	if (status != STATUS_OK)
		return status;
	st = calloc(1, sizeof(*st));
	if (st == NULL)
		return env_failed(ENOMEM, "open", dir, why);
	st->lock_fd = -1;
	status = make_dir(dir, &made, why);
	if (status == STATUS_OK)
		status = lock_writer(dir, &st->lock_fd, &made, why);
	if (status == STATUS_OK)
		status = open_locked(st, dir, why);
	if (status != STATUS_OK) {
		if (made.lock)
			(void)unlink(path);
		store_close(st);
		if (made.dir)
			(void)rmdir(dir);
		return status;
	}
	*out = st;
	return STATUS_OK;
}

void store_close(struct store *st)
{
	if (st == NULL)
		return;
	store_abort(st);
	env_close(st->env);
	if (st->lock_fd >= 0)
		close(st->lock_fd);
	free(st);
}

uint64_t store_last_seq(const struct store *st)
{
	return st->last_seq;
}

uint64_t store_last_turn(const struct store *st)
{
	return st->last_turn;
}

static enum status misused(const struct store *st, const char *step, struct cause *why)
{
	cause_set(why, CAUSE_NONE, 0, step, st->env->path);
	return STATUS_BUG;
}

enum status store_begin(struct store *st, struct cause *why)
{
	enum status status;
	int code, dead;

	if (st->broken)
		return misused(st, "begin: a commit failed, the journal must be opened again", why);
	if (st->txn != NULL)
		return misused(st, "begin: a turn is open", why);
	status = env_grow(st->env, st->map_full, why);
	st->broken = st->env->lost;
	if (status != STATUS_OK)
		return status;
	st->map_full = false;
	if (st->last_turn % READER_CHECK_TURNS == 0)
		(void)mdb_reader_check(st->env->mdb, &dead);
	code = mdb_txn_begin(st->env->mdb, NULL, 0, &st->txn);
	if (code != 0) {
		st->txn = NULL;
		return env_failed(code, "begin", st->env->path, why);
	}
	code = mdb_cursor_open(st->txn, st->env->record, &st->records);
	if (code == 0)
		code = mdb_cursor_open(st->txn, st->env->step, &st->steps);
	if (code != 0) {
		store_abort(st);
		return env_failed(code, "begin", st->env->path, why);
	}
	st->next_seq = st->last_seq + 1;
	st->end = st->committed_end;
	return STATUS_OK;
}

static int put_step(struct store *st, const struct record_step *row)
{
	struct env_step_key step_key = env_step_key(row->role, row->step, row->attempt);
	uint64_t seq = row->head.seq;
	MDB_val key = {sizeof(step_key), &step_key}, value = {sizeof(seq), &seq};
	bool last = !st->end.valid || memcmp(&step_key, &st->end.key, sizeof(step_key)) > 0;
	int code = mdb_cursor_put(st->steps, &key, &value, last ? MDB_APPEND : 0);

	if (code == 0 && last)
		st->end = (struct step_end){.key = step_key, .valid = true};
	return code;
}

enum status store_append(struct store *st, struct record *r, struct cause *why)
{
	MDB_val key, value;
	int code;

	if (st->broken || st->txn == NULL)
		return misused(st, "append: no turn is open", why);
	if (r->size_bytes < sizeof(*r) || r->size_bytes > RECORD_SIZE_MAX || r->size_bytes % 8 != 0 ||
	    (r->kind == RECORD_STEP && r->size_bytes < sizeof(struct record_step)) ||
	    (r->kind == RECORD_RUN && r->size_bytes < sizeof(struct record_run)))
		return misused(st, "append: size of the record", why);
	r->seq = st->next_seq;
	r->turn = st->last_turn + 1;
	r->checksum = 0;
	r->checksum = env_checksum(r);
	key = (MDB_val){sizeof(r->seq), &r->seq};
	value = (MDB_val){r->size_bytes, r};
	code = mdb_cursor_put(st->records, &key, &value, MDB_APPEND);
	if (code == 0 && r->kind == RECORD_STEP)
		code = put_step(st, (const struct record_step *)r);
	if (code == 0 && r->kind == RECORD_RUN) {
		struct record_run *run = (struct record_run *)r;
		key = (MDB_val){sizeof("run_id") - 1, (void *)"run_id"};
		value = (MDB_val){sizeof(run->run_id), run->run_id};
		code = mdb_put(st->txn, st->env->meta, &key, &value, 0);
	}
	if (code == MDB_MAP_FULL)
		st->map_full = true;
	if (code != 0)
		return env_failed(code, "append", st->env->path, why);
	st->next_seq++;
	return STATUS_OK;
}

/* Close the turn's cursors; LMDB leaves that to us in a write transaction that is aborted or committed. */
static void close_cursors(struct store *st)
{
	if (st->records != NULL)
		mdb_cursor_close(st->records);
	if (st->steps != NULL)
		mdb_cursor_close(st->steps);
	st->records = st->steps = NULL;
}

enum status store_commit(struct store *st, struct cause *why)
{
	int code;

	if (st->broken || st->txn == NULL)
		return misused(st, "commit: no turn is open", why);
	if (st->next_seq == st->last_seq + 1) {
		/* An empty turn is no turn. */
		store_abort(st);
		return STATUS_OK;
	}
	close_cursors(st);
	code = mdb_txn_commit(st->txn);
	st->txn = NULL;
	if (code != 0) {
		st->broken = true;
		return env_failed(code, "commit", st->env->path, why);
	}
	st->last_seq = st->next_seq - 1;
	st->last_turn++;
	st->committed_end = st->end;
	return STATUS_OK;
}

void store_abort(struct store *st)
{
	if (st->txn == NULL)
		return;
	close_cursors(st);
	mdb_txn_abort(st->txn);
	st->txn = NULL;
}
