/*
 * The readers: one read transaction on an environment, renewed by store_reader_refresh().
 */
#include <errno.h>
#include <stdlib.h>

#include "journal/check.h"
#include "journal/env.h"
#include "journal/store.h"

struct store_reader {
	struct env *env;
	MDB_txn *txn;
	MDB_cursor *records, *steps;
	uint64_t last_seq;
};

static void end_snapshot(struct store_reader *rd)
{
	if (rd->records != NULL)
		mdb_cursor_close(rd->records);
	if (rd->steps != NULL)
		mdb_cursor_close(rd->steps);
	rd->records = rd->steps = NULL;
	env_snapshot_end(rd->env, rd->txn);
	rd->txn = NULL;
}

static enum status begin_snapshot(struct store_reader *rd, struct cause *why)
{
	MDB_val key, value;
	uint64_t last_seq = 0;
	enum status status = env_snapshot(rd->env, &rd->txn, why);
	int code;

	if (status != STATUS_OK) {
		rd->txn = NULL;
		return status;
	}
	code = mdb_cursor_open(rd->txn, rd->env->record, &rd->records);
	if (code == 0)
		code = mdb_cursor_open(rd->txn, rd->env->step, &rd->steps);
	if (code == 0) {
		code = mdb_cursor_get(rd->records, &key, &value, MDB_LAST);
		if (code == 0 && key.mv_size == sizeof(last_seq))
			memcpy(&last_seq, key.mv_data, sizeof(last_seq));
		else if (code == 0)
			code = MDB_CORRUPTED;
		else if (code == MDB_NOTFOUND)
			code = 0;
	}
	if (code != 0) {
		status = env_failed(code, "snapshot", rd->env->path, why);
		end_snapshot(rd);
		return status;
	}
	rd->last_seq = last_seq;
	return STATUS_OK;
}

enum status store_reader_open(const char *dir, struct store_reader **out, struct cause *why)
{
	struct store_reader *rd = calloc(1, sizeof(*rd));
	enum status status;

	if (rd == NULL)
		return env_failed(ENOMEM, "open", dir, why);
	status = env_share(dir, &rd->env, why);
	if (status != STATUS_OK) {
		free(rd);
		return status;
	}
	status = begin_snapshot(rd, why);
	if (status != STATUS_OK) {
		store_reader_close(rd);
		return status;
	}
	*out = rd;
	return STATUS_OK;
}

void store_reader_close(struct store_reader *rd)
{
	if (rd == NULL)
		return;
	end_snapshot(rd);
	env_close(rd->env);
	free(rd);
}

enum status store_reader_refresh(struct store_reader *rd, struct cause *why)
{
	end_snapshot(rd);
	return begin_snapshot(rd, why);
}

void store_reader_park(struct store_reader *rd)
{
	end_snapshot(rd);
}

uint64_t store_reader_last_seq(const struct store_reader *rd)
{
	return rd->last_seq;
}

static enum status no_snapshot(const struct store_reader *rd, struct cause *why)
{
	cause_set(why, CAUSE_NONE, 0, "read: the last refresh failed", rd->env->path);
	return STATUS_BUG;
}

enum status store_reader_get(
    struct store_reader *rd, uint64_t seq, const struct record **out, struct cause *why)
{
	MDB_val key = {sizeof(seq), &seq}, value;
	enum status status;
	int code;

	if (rd->txn == NULL)
		return no_snapshot(rd, why);
	if (seq > rd->last_seq)
		return STATUS_NONE;
	code = mdb_cursor_get(rd->records, &key, &value, MDB_SET_KEY);
	if (code == MDB_NOTFOUND) {
		/* From 1 to the last one, every seq was given out. */
		cause_set(why, CAUSE_DATA, (int64_t)seq, "read: record missing", rd->env->path);
		return seq == 0 ? STATUS_NONE : STATUS_BAD;
	}
	if (code != 0)
		return env_failed(code, "read", rd->env->path, why);
	status = env_check_value(&value, seq, why);
	if (status == STATUS_OK)
		*out = value.mv_data;
	return status;
}

/* From an entry of the index to its row, which must be what the entry says. */
static enum status get_row(struct store_reader *rd, const MDB_val *key, const MDB_val *value,
    const struct record_step **out, struct cause *why)
{
	const struct record *r = NULL;
	const struct record_step *row;
	struct env_step_key step_key;
	uint64_t seq;
	enum status status;

	if (key->mv_size != sizeof(step_key) || value->mv_size != sizeof(seq))
		return env_failed(MDB_CORRUPTED, "step index", rd->env->path, why);
	memcpy(&step_key, key->mv_data, sizeof(step_key));
	memcpy(&seq, value->mv_data, sizeof(seq));
	status = store_reader_get(rd, seq, &r, why);
	if (status == STATUS_NONE)
		status = STATUS_BAD;
	if (status == STATUS_OK) {
		assert(r != NULL);
		status = check_record(r, r->size_bytes, why);
	}
	if (status != STATUS_OK)
		return status;
	row = (const struct record_step *)r;
	if (r->kind != RECORD_STEP || row->step != env_step_key_step(&step_key) ||
	    row->role != env_step_key_role(&step_key) ||
	    row->attempt != env_step_key_attempt(&step_key)) {
		cause_set(why, CAUSE_DATA, (int64_t)seq, "step index", rd->env->path);
		return STATUS_BAD;
	}
	*out = row;
	return STATUS_OK;
}

/* Put the cursor on the last key that is less than `bound`. */
static int seek_before(MDB_cursor *cursor, struct env_step_key *bound, MDB_val *key, MDB_val *value)
{
	int code;

	*key = (MDB_val){sizeof(*bound), bound};
	code = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
	if (code == MDB_NOTFOUND)
		return mdb_cursor_get(cursor, key, value, MDB_LAST);
	return code != 0 ? code : mdb_cursor_get(cursor, key, value, MDB_PREV);
}

enum status store_reader_step(struct store_reader *rd, uint32_t role, uint64_t step,
    uint32_t attempt, const struct record_step **out, struct cause *why)
{
	struct env_step_key bound = env_step_key(role, step, attempt), found;
	MDB_val key = {sizeof(bound), &bound}, value;
	int code;

	if (rd->txn == NULL)
		return no_snapshot(rd, why);
	if (attempt != 0) {
		code = mdb_cursor_get(rd->steps, &key, &value, MDB_SET_KEY);
	} else {
		bound = env_step_key(role, step, UINT32_MAX);
		code = mdb_cursor_get(rd->steps, &key, &value, MDB_SET_KEY);
		if (code == MDB_NOTFOUND)
			code = seek_before(rd->steps, &bound, &key, &value);
	}
	if (code == MDB_NOTFOUND)
		return STATUS_NONE;
	if (code != 0)
		return env_failed(code, "step index", rd->env->path, why);
	if (key.mv_size == sizeof(found)) {
		memcpy(&found, key.mv_data, sizeof(found));
		if (env_step_key_role(&found) != role || env_step_key_step(&found) != step)
			return STATUS_NONE;
	}
	return get_row(rd, &key, &value, out, why);
}

static enum status walk(struct store_reader *rd, struct step_position *position, bool up,
    const struct record_step **out, struct cause *why)
{
	struct env_step_key bound = env_step_key(position->role, position->step, position->attempt);
	MDB_val key = {sizeof(bound), &bound}, value;
	enum status status;
	int code;

	if (rd->txn == NULL)
		return no_snapshot(rd, why);
	if (position->step == STEP_NONE)
		code = mdb_cursor_get(rd->steps, &key, &value, up ? MDB_FIRST : MDB_LAST);
	else if (!up)
		code = seek_before(rd->steps, &bound, &key, &value);
	else {
		code = mdb_cursor_get(rd->steps, &key, &value, MDB_SET_RANGE);
		if (code == 0 && key.mv_size == sizeof(bound) &&
		    memcmp(key.mv_data, &bound, sizeof(bound)) == 0)
			code = mdb_cursor_get(rd->steps, &key, &value, MDB_NEXT);
	}
	if (code == MDB_NOTFOUND)
		return STATUS_NONE;
	if (code != 0)
		return env_failed(code, "step index", rd->env->path, why);
	status = get_row(rd, &key, &value, out, why);
	if (status == STATUS_OK)
		*position = (struct step_position){
		    .step = (*out)->step, .role = (*out)->role, .attempt = (*out)->attempt};
	return status;
}

enum status store_reader_next_step(struct store_reader *rd, struct step_position *position,
    const struct record_step **out, struct cause *why)
{
	return walk(rd, position, true, out, why);
}

enum status store_reader_previous_step(struct store_reader *rd, struct step_position *position,
    const struct record_step **out, struct cause *why)
{
	return walk(rd, position, false, out, why);
}
