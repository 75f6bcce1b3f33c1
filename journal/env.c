#include "journal/env.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define ENV_TABLES 3
#define ENV_NEW_MAP_BYTES ((size_t)1 << 20)
#define ENV_SPACE_MIN_BYTES ((uint64_t)1 << 20)
#define ENV_COPY_BYTES 4096u

static struct {
	pthread_mutex_t lock;
	struct env *first;
} opened = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct env_step_key env_step_key(uint32_t role, uint64_t step, uint32_t attempt)
{
	struct env_step_key key;
	uint32_t role_be = htobe32(role), attempt_be = htobe32(attempt);
	uint64_t step_be = htobe64(step);

	memcpy(key.bytes, &role_be, 4);
	memcpy(key.bytes + 4, &step_be, 8);
	memcpy(key.bytes + 12, &attempt_be, 4);
	return key;
}

uint32_t env_step_key_role(const struct env_step_key *key)
{
	uint32_t be;

	memcpy(&be, key->bytes, 4);
	return be32toh(be);
}

uint64_t env_step_key_step(const struct env_step_key *key)
{
	uint64_t be;

	memcpy(&be, key->bytes + 4, 8);
	return be64toh(be);
}

uint32_t env_step_key_attempt(const struct env_step_key *key)
{
	uint32_t be;

	memcpy(&be, key->bytes + 12, 4);
	return be32toh(be);
}

enum status env_path(const char *dir, const char *name, char out[ENV_PATH_MAX], struct cause *why)
{
	int length = snprintf(out, ENV_PATH_MAX, "%s/%s", dir, name);

	if (length < 0 || (size_t)length >= ENV_PATH_MAX)
		return env_failed(ENAMETOOLONG, "open", dir, why);
	return STATUS_OK;
}

/* LMDB reports a short write as EIO: where the file cannot grow, that is a full disk. */
static bool out_of_space(const char *dir)
{
	char path[ENV_PATH_MAX];
	struct statvfs fs;
	struct rlimit limit;
	struct stat file;
	uint64_t free_bytes;

	if (dir == NULL || statvfs(dir, &fs) != 0)
		return false;
	free_bytes = (uint64_t)(geteuid() == 0 ? fs.f_bfree : fs.f_bavail) * fs.f_frsize;
	if (free_bytes < ENV_SPACE_MIN_BYTES)
		return true;
	return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    env_path(dir, ENV_DATA, path, NULL) == STATUS_OK && stat(path, &file) == 0 &&
	    (uint64_t)file.st_size + ENV_SPACE_MIN_BYTES > limit.rlim_cur;
}

enum status env_failed(int code, const char *step, const char *subject, struct cause *why)
{
	cause_set(why, code > 0 ? CAUSE_ERRNO : CAUSE_LMDB, code, step, subject);
	switch (code) {
	case ENOSPC:
	case EDQUOT:
	case EFBIG: /* the limit on a file's size: as full as a disk */
	case MDB_MAP_FULL:
		return STATUS_FULL;
	case EIO:
		if (!out_of_space(subject))
			return STATUS_SYS;
		cause_set(why, CAUSE_ERRNO, ENOSPC, step, subject);
		return STATUS_FULL;
	case MDB_READERS_FULL:
	case EAGAIN:
		return STATUS_AGAIN;
	case MDB_BAD_TXN:
	case MDB_BAD_RSLOT:
	case MDB_BAD_DBI:
	case MDB_BAD_VALSIZE:
	case MDB_KEYEXIST:
	case MDB_TXN_FULL:
	case EINVAL:
		return STATUS_BUG;
	case MDB_PANIC:
		return STATUS_SYS;
	default:
		/* What is left of LMDB's codes speaks of the file's bytes. */
		return code > 0 ? STATUS_SYS : STATUS_BAD;
	}
}

/* schema: a u32 under "schema" in the table "meta". */
static enum status check_schema(struct env *env, MDB_txn *txn, struct cause *why)
{
	MDB_val key = {sizeof("schema") - 1, (void *)"schema"}, value;
	uint32_t schema;
	int code = mdb_get(txn, env->meta, &key, &value);

	if (code != 0 || value.mv_size != sizeof(schema)) {
		cause_set(why, CAUSE_LMDB, code, "schema", env->path);
		return STATUS_BAD;
	}
	memcpy(&schema, value.mv_data, sizeof(schema));
	if (schema == RECORD_SCHEMA)
		return STATUS_OK;
	cause_set(why, CAUSE_DATA, schema, "schema", env->path);
	return schema > RECORD_SCHEMA ? STATUS_REFUSED : STATUS_BAD;
}

static int open_tables(struct env *env, MDB_txn *txn, unsigned flags)
{
	int code = mdb_dbi_open(txn, "meta", flags, &env->meta);

	if (code == 0)
		code = mdb_dbi_open(txn, "record", flags | MDB_INTEGERKEY, &env->record);
	if (code == 0)
		code = mdb_dbi_open(txn, "step", flags, &env->step);
	return code;
}

/* Open an environment; under a limit on address space with a smaller map than asked for. */
static int open_mdb(struct env *env, const char *path, unsigned flags, size_t map_bytes)
{
	int code;

	for (;;) {
		code = mdb_env_create(&env->mdb);
		if (code != 0) {
			env->mdb = NULL;
			return code;
		}
		code = mdb_env_set_maxdbs(env->mdb, ENV_TABLES);
		if (code == 0 && map_bytes != 0)
			code = mdb_env_set_mapsize(env->mdb, map_bytes);
		if (code == 0)
			code = mdb_env_open(env->mdb, path, flags | MDB_NOTLS, 0600);
		if (code == 0)
			return 0;
		/* LMDB wants the failed environment closed all the same. */
		mdb_env_close(env->mdb);
		env->mdb = NULL;
		if (code != ENOMEM || map_bytes <= ENV_MAP_MIN_BYTES)
			return code;
		map_bytes /= 2;
	}
}

/* A read of a mapped page beyond the file's end is a SIGBUS: refuse such a file first (H10). */
static enum status check_length(const struct env *env, struct cause *why)
{
	MDB_envinfo info;
	MDB_stat stat;
	struct stat file;
	mdb_filehandle_t fd;
	int code = mdb_env_info(env->mdb, &info);

	if (code == 0)
		code = mdb_env_stat(env->mdb, &stat);
	if (code == 0)
		code = mdb_env_get_fd(env->mdb, &fd);
	if (code != 0)
		return env_failed(code, "open", env->path, why);
	if (fstat(fd, &file) != 0)
		return env_failed(errno, "stat", env->path, why);
	if ((uint64_t)file.st_size / stat.ms_psize > info.me_last_pgno)
		return STATUS_OK;
	cause_set(why, CAUSE_DATA, file.st_size, "open: file cut off", env->path);
	return STATUS_BAD;
}

/* Open dir's environment with its tables, and refuse what is not ours.  Fills env->mdb on STATUS_OK only. */
static enum status open_journal(struct env *env, const char *dir, unsigned flags, struct cause *why)
{
	bool reading = (flags & MDB_RDONLY) != 0;
	enum status status;
	MDB_txn *txn = NULL;
	MDB_envinfo info;
	int code = open_mdb(env, dir, flags, reading ? 0 : ENV_MAP_BYTES);

	if (code != 0)
		return env_failed(code, "open", dir, why);
	status = check_length(env, why);
	if (status == STATUS_OK) {
		code = mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, &txn);
		if (code == 0)
			code = open_tables(env, txn, 0);
		if (code != 0)
			status = env_failed(code, "open tables", dir, why);
		/* A missing table, or one of another shape, means that this is no journal. */
		if (code == MDB_NOTFOUND || code == MDB_INCOMPATIBLE)
			status = STATUS_BAD;
	}
	if (status == STATUS_OK)
		status = check_schema(env, txn, why);
	if (status == STATUS_OK) {
		/* The commit keeps the table handles for later transactions. */
		code = mdb_txn_commit(txn);
		txn = NULL;
		if (code == 0)
			code = mdb_env_info(env->mdb, &info);
		if (code == 0)
			env->map_bytes = info.me_mapsize;
		else
			status = env_failed(code, "open", dir, why);
	}
	if (txn != NULL)
		mdb_txn_abort(txn);
	if (status != STATUS_OK) {
		mdb_env_close(env->mdb);
		env->mdb = NULL;
	}
	return status;
}

static enum status sync_directory(const char *dir, struct cause *why)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int error = fd < 0 ? errno : 0;

	if (fd >= 0) {
		if (fsync(fd) != 0)
			error = errno;
		close(fd);
	}
	return error == 0 ? STATUS_OK : env_failed(error, "sync", dir, why);
}

static int fill_new(struct env *env)
{
	uint32_t schema = RECORD_SCHEMA;
	MDB_val key = {sizeof("schema") - 1, (void *)"schema"}, value = {sizeof(schema), &schema};
	MDB_txn *txn = NULL;
	int code = mdb_txn_begin(env->mdb, NULL, 0, &txn);

	if (code != 0)
		return code;
	code = open_tables(env, txn, MDB_CREATE);
	if (code == 0)
		code = mdb_put(txn, env->meta, &key, &value, 0);
	if (code != 0) {
		mdb_txn_abort(txn);
		return code;
	}
	return mdb_txn_commit(txn);
}

enum status env_create(const char *dir, struct cause *why)
{
	struct env env = {.mdb = NULL};
	char new_path[ENV_PATH_MAX], path[ENV_PATH_MAX];
	enum status status = env_path(dir, ENV_NEW, new_path, why);
	int code;

	if (status == STATUS_OK)
		status = env_path(dir, ENV_DATA, path, why);
	if (status != STATUS_OK)
		return status;
	/* One that was left half made by a crash holds nothing. */
	if (unlink(new_path) != 0 && errno != ENOENT)
		return env_failed(errno, "create", new_path, why);
	code = open_mdb(&env, new_path, MDB_NOSUBDIR | MDB_NOLOCK, ENV_NEW_MAP_BYTES);
	if (code == 0) {
		code = fill_new(&env);
		mdb_env_close(env.mdb);
	}
	if (code == 0 && rename(new_path, path) != 0)
		code = errno;
	if (code != 0) {
		status = env_failed(code, "create", dir, why);
		(void)unlink(new_path);
		return status;
	}
	return sync_directory(dir, why);
}

/* Which file dir's data.mdb is.  STATUS_NONE when there is none. */
static enum status identify(const char *dir, struct stat *file, struct cause *why)
{
	char path[ENV_PATH_MAX];
	enum status status = env_path(dir, ENV_DATA, path, why);

	if (status != STATUS_OK)
		return status;
	if (stat(path, file) != 0) {
		int error = errno;
		status = env_failed(error, "open", path, why);
		return error == ENOENT || error == ENOTDIR ? STATUS_NONE : status;
	}
	if (!S_ISREG(file->st_mode) || file->st_size == 0) {
		cause_set(why, CAUSE_DATA, 0, "open: not a journal", path);
		return STATUS_BAD;
	}
	return STATUS_OK;
}

enum status env_probe(const char *dir, struct cause *why)
{
	struct env env = {.mdb = NULL};
	struct stat file;
	enum status status = identify(dir, &file, why);

	if (status != STATUS_OK)
		return status;
	snprintf(env.path, sizeof(env.path), "%s", dir);
	status = open_journal(&env, dir, MDB_RDONLY | MDB_NOLOCK, why);
	if (status == STATUS_OK)
		mdb_env_close(env.mdb);
	return status;
}

static struct env *find_opened(const struct stat *file)
{
	struct env *env = opened.first;

	while (env != NULL && (env->device != file->st_dev || env->inode != file->st_ino))
		env = env->next;
	return env;
}

/* With opened.lock held: open and enter it into the list. */
static enum status enter(
    const char *dir, const struct stat *file, unsigned flags, struct env **out, struct cause *why)
{
	struct env *env = calloc(1, sizeof(*env));
	enum status status;

	if (env == NULL)
		return env_failed(ENOMEM, "open", dir, why);
	snprintf(env->path, sizeof(env->path), "%s", dir);
	env->device = file->st_dev;
	env->inode = file->st_ino;
	env->writing = (flags & MDB_RDONLY) == 0;
	env->users = 1;
	status = open_journal(env, dir, flags, why);
	if (status != STATUS_OK) {
		free(env);
		return status;
	}
	env->next = opened.first;
	opened.first = env;
	*out = env;
	return STATUS_OK;
}

enum status env_open(const char *dir, struct env **out, struct cause *why)
{
	struct stat file;
	enum status status = identify(dir, &file, why);

	if (status != STATUS_OK)
		return status;
	pthread_mutex_lock(&opened.lock);
	if (find_opened(&file) != NULL) {
		cause_set(why, CAUSE_NONE, 0, "open: this process reads it", dir);
		status = STATUS_BUG;
	} else {
		status = enter(dir, &file, 0, out, why);
	}
	pthread_mutex_unlock(&opened.lock);
	return status;
}

enum status env_share(const char *dir, struct env **out, struct cause *why)
{
	struct stat file;
	char lock_path[ENV_PATH_MAX];
	struct env *env;
	enum status status = identify(dir, &file, why);

	if (status == STATUS_OK)
		status = env_path(dir, ENV_LOCK, lock_path, why);
	if (status != STATUS_OK)
		return status;
	pthread_mutex_lock(&opened.lock);
	env = find_opened(&file);
	if (env != NULL) {
		env->users++;
		*out = env;
	} else {
		/* Without a lock file that can be used there is no writer to be careful of: a copy. */
		unsigned flags = MDB_RDONLY;
		if (access(lock_path, R_OK | W_OK) != 0)
			flags |= MDB_NOLOCK;
		status = enter(dir, &file, flags, out, why);
	}
	pthread_mutex_unlock(&opened.lock);
	return status;
}

void env_close(struct env *env)
{
	struct env **link;

	if (env == NULL)
		return;
	pthread_mutex_lock(&opened.lock);
	assert(env->users > 0);
	if (--env->users == 0) {
		for (link = &opened.first; *link != env; link = &(*link)->next)
			continue;
		*link = env->next;
		mdb_env_close(env->mdb);
		free(env);
	}
	pthread_mutex_unlock(&opened.lock);
}

enum status env_snapshot(struct env *env, MDB_txn **out, struct cause *why)
{
	enum status status = STATUS_OK;
	int code;

	pthread_mutex_lock(&opened.lock);
	code = env->lost ? ENOMEM : mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, out);
	if (code == MDB_MAP_RESIZED && env->snapshots == 0) {
		/* The writer has enlarged the map: follow it. */
		code = mdb_env_set_mapsize(env->mdb, 0);
		env->lost = code != 0;
		if (code == 0)
			code = mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, out);
	}
	if (code == 0) {
		env->snapshots++;
		status = check_length(env, why);
		if (status != STATUS_OK) {
			mdb_txn_abort(*out);
			*out = NULL;
			env->snapshots--;
		}
	} else {
		status = env_failed(code, "snapshot", env->path, why);
		if (code == MDB_MAP_RESIZED)
			status = STATUS_AGAIN;
	}
	pthread_mutex_unlock(&opened.lock);
	return status;
}

void env_snapshot_end(struct env *env, MDB_txn *txn)
{
	if (txn == NULL)
		return;
	pthread_mutex_lock(&opened.lock);
	mdb_txn_abort(txn);
	env->snapshots--;
	pthread_mutex_unlock(&opened.lock);
}

/* Double the map.  LMDB gives the old one up first and has none if that fails, so the room is tried out before. */
static int enlarge(struct env *env)
{
	void *trial = mmap(
	    NULL, env->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int code;

	if (trial == MAP_FAILED)
		return errno;
	(void)munmap(trial, env->map_bytes);
	code = mdb_env_set_mapsize(env->mdb, env->map_bytes * 2);
	if (code == 0)
		env->map_bytes *= 2;
	env->lost = code != 0;
	return code;
}

enum status env_grow(struct env *env, bool full, struct cause *why)
{
	enum status status = STATUS_OK;
	MDB_envinfo info;
	MDB_stat stat;
	int code = mdb_env_info(env->mdb, &info);

	if (code == 0)
		code = mdb_env_stat(env->mdb, &stat);
	if (code != 0)
		return env_failed(code, "grow", env->path, why);
	if (!full && (info.me_last_pgno + 1) * stat.ms_psize < env->map_bytes / 4 * 3)
		return STATUS_OK;
	pthread_mutex_lock(&opened.lock);
	if (env->snapshots != 0) {
		/* Moving the map would pull the pages from under a reader in this process. */
		cause_set(why, CAUSE_LMDB, MDB_MAP_FULL,
		    "grow: a reader in this process holds a snapshot", env->path);
		status = full ? STATUS_FULL : STATUS_OK;
	} else {
		code = enlarge(env);
		if (code != 0 && (full || env->lost))
			status = env_failed(code, "grow", env->path, why);
		/* What the limit on address space refuses now it may allow later, as a disk does. */
		if (status != STATUS_OK && !env->lost)
			status = STATUS_FULL;
	}
	pthread_mutex_unlock(&opened.lock);
	return status;
}

uint64_t env_checksum(const struct record *r)
{
	struct record head = *r;

	head.checksum = 0;
	if (r->size_bytes <= ENV_COPY_BYTES) {
		uint8_t copy[ENV_COPY_BYTES];
		memcpy(copy, r, r->size_bytes);
		memcpy(copy, &head, sizeof(head));
		return XXH3_64bits(copy, r->size_bytes);
	}
	XXH3_state_t state;
	XXH3_64bits_reset(&state);
	XXH3_64bits_update(&state, &head, sizeof(head));
	XXH3_64bits_update(&state, r + 1, r->size_bytes - sizeof(head));
	return XXH3_64bits_digest(&state);
}

enum status env_check_value(const MDB_val *value, uint64_t seq, struct cause *why)
{
	const struct record *r = value->mv_data;
	char name[32];

	snprintf(name, sizeof(name), "record %llu", (unsigned long long)seq);
	if (r == NULL || value->mv_size < sizeof(*r) || value->mv_size > RECORD_SIZE_MAX ||
	    (uintptr_t)value->mv_data % 8 != 0 || r->size_bytes != value->mv_size) {
		cause_set(why, CAUSE_DATA, (int64_t)value->mv_size, "size", name);
		return STATUS_BAD;
	}
	if (r->seq != seq) {
		cause_set(why, CAUSE_DATA, (int64_t)r->seq, "seq", name);
		return STATUS_BAD;
	}
	if (env_checksum(r) != r->checksum) {
		cause_set(why, CAUSE_DATA, (int64_t)seq, "checksum", name);
		return STATUS_BAD;
	}
	return STATUS_OK;
}
