/*
 * holdfast-newer: give a journal another schema number, as a later holdfast would.
 *
 *	holdfast-newer JOURNAL SCHEMA
 */
#include <lmdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int set_schema(MDB_env *env, const char *journal, uint32_t schema)
{
	MDB_val key = {sizeof("schema") - 1, (void *)"schema"}, value = {sizeof(schema), &schema};
	MDB_txn *txn;
	MDB_dbi meta;
	int code = mdb_env_set_maxdbs(env, 3);

	if (code == 0)
		code = mdb_env_open(env, journal, MDB_NOLOCK, 0600);
	if (code != 0 || (code = mdb_txn_begin(env, NULL, 0, &txn)) != 0)
		return code;
	code = mdb_dbi_open(txn, "meta", 0, &meta);
	if (code == 0)
		code = mdb_put(txn, meta, &key, &value, 0);
	if (code == 0)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return code;
}

int main(int argc, char **argv)
{
	MDB_env *env;
	int code;

	if (argc != 3) {
		fprintf(stderr, "usage: holdfast-newer JOURNAL SCHEMA\n");
		return 64;
	}
	code = mdb_env_create(&env);
	if (code == 0) {
		code = set_schema(env, argv[1], (uint32_t)strtoul(argv[2], NULL, 10));
		mdb_env_close(env);
	}
	if (code != 0)
		fprintf(stderr, "holdfast-newer: %s: %s\n", argv[1], mdb_strerror(code));
	return code == 0 ? 0 : 1;
}
