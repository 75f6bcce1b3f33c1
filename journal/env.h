/*
 * The LMDB environment under store.c and reader.c: no one else includes this.
 *
 * LMDB keeps POSIX locks on its lock file, and a process loses them all when it closes any descriptor of
 * that file.  So one process must open one journal once; env_share() gives out the environment that is
 * open already.  That list is the one piece of process-wide state of the journal, guarded by a mutex.
 * Not to be carried across fork().
 */
#ifndef JOURNAL_ENV_H
#define JOURNAL_ENV_H

#include <lmdb.h>
#include <sys/types.h>

#include "journal/record.h"
#include "journal/status.h"

#define ENV_DATA "data.mdb"
#define ENV_LOCK "lock.mdb"
#define ENV_NEW                                                                                    \
	"new.mdb" /* a journal that is being made; renamed to ENV_DATA when it is complete */
#define ENV_PATH_MAX 4096u
#define ENV_MAP_BYTES ((size_t)64 << 30) /* of address space, not of disk */
#define ENV_MAP_MIN_BYTES ((size_t)64 << 20)

struct env {
	MDB_env *mdb;
	MDB_dbi meta, record, step;
	char path[ENV_PATH_MAX]; /* of the journal's directory */
	dev_t device;            /* these two tell which data.mdb it is */
	ino_t inode;
	bool writing;       /* it belongs to a struct store */
	uint32_t users;     /* of env_share(), and 1 for the store */
	uint32_t snapshots; /* read transactions that are open on it */
	size_t map_bytes;
	bool lost; /* the map could not be made again: only env_close() is left */
	struct env *next;
};

/* The key of the step index; big-endian, so that LMDB's order is the order of (role, step, attempt). */
struct env_step_key {
	uint8_t bytes[16];
};
struct env_step_key env_step_key(uint32_t role, uint64_t step, uint32_t attempt);
uint32_t env_step_key_role(const struct env_step_key *key);
uint64_t env_step_key_step(const struct env_step_key *key);
uint32_t env_step_key_attempt(const struct env_step_key *key);

/* dir + "/" + name in out; STATUS_SYS (ENAMETOOLONG). */
MUST_CHECK enum status env_path(
    const char *dir, const char *name, char out[ENV_PATH_MAX], struct cause *why);

/* What the caller can do about an LMDB code or errno that `step` gave. */
enum status env_failed(int code, const char *step, const char *subject, struct cause *why);

/* Make a complete, empty journal in dir, durable in its directory.  The caller holds the writer's lock. */
MUST_CHECK enum status env_create(const char *dir, struct cause *why);

/*
 * Is dir's data.mdb a journal that this program knows?  Changes nothing, needs no lock file; the caller
 * makes sure that no one writes.  Returns STATUS_NONE (no data.mdb), STATUS_REFUSED (newer schema; cause.number
 * is it), STATUS_BAD, STATUS_SYS.
 */
MUST_CHECK enum status env_probe(const char *dir, struct cause *why);

/* Open for the writer.  STATUS_BUG when this process has it open already. */
MUST_CHECK enum status env_open(const char *dir, struct env **out, struct cause *why);

/* Open for reading, or share what this process has open.  Returns as store_reader_open(). */
MUST_CHECK enum status env_share(const char *dir, struct env **out, struct cause *why);
void env_close(struct env *env);

/* Begin a read transaction, after the map has grown too. */
MUST_CHECK enum status env_snapshot(struct env *env, MDB_txn **out, struct cause *why);
void env_snapshot_end(struct env *env, MDB_txn *txn);

/* Double the map when less than a quarter of it is left, or when `full`. */
MUST_CHECK enum status env_grow(struct env *env, bool full, struct cause *why);

/* XXH3-64 of a record with its checksum field as 0.  r->size_bytes was checked. */
uint64_t env_checksum(const struct record *r);

/* Is this value of the record table the record `seq`, whole?  STATUS_BAD when it is not. */
MUST_CHECK enum status env_check_value(const MDB_val *value, uint64_t seq, struct cause *why);

#endif
