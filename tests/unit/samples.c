#include "tests/unit/samples.h"

#include <assert.h>
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "journal/check.h"
#include "journal/schema.h"

const uint16_t sample_kinds[] = {RECORD_RUN, RECORD_SESSION, RECORD_AGENT, RECORD_STARTED,
    RECORD_SPAWN, RECORD_CONNECTED, RECORD_PHASE, RECORD_STEP, RECORD_GAP, RECORD_CRASHING,
    RECORD_STOPPED, RECORD_DEATH, RECORD_EXIT, RECORD_CLEAR, RECORD_SAMPLE, RECORD_MEMORY,
    RECORD_RUNG, RECORD_VERIFIED, RECORD_DAMAGE, RECORD_CONTROL, RECORD_TROUBLE, RECORD_EVIDENCE,
    RECORD_SAVED, RECORD_WRITING, RECORD_KEPT, RECORD_PROGRESS, RECORD_NO_ROOM, DECISION_START,
    DECISION_KILL, DECISION_CLEAR, DECISION_SAMPLE, DECISION_CAPTURE, DECISION_SURVEY,
    DECISION_VERIFY, DECISION_FAULT, DECISION_RECOVERED, DECISION_STANDING, DECISION_ASK,
    DECISION_END, DECISION_DIGEST, RECORD_TURN, 0};

static const char RUN_TEXT[] = "python3\0train.py\0--name=a b\0\0/home/user/run";
static const char PATH_TEXT[] = "/home/user/run/checkpoints/step-800.safetensors";
static const char PATHS_TEXT[] = "/run/checkpoints/000007-step-800/ckpt.pt\0/home/user/out/ckpt.pt";
static const char EVIDENCE_TEXT[] = "thread 1\n  0x1 main\n";

uint64_t sample_random(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t sample_seed(uint64_t otherwise)
{
	const char *text = getenv("HOLDFAST_SEED");
	uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : otherwise;

	printf("HOLDFAST_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

static size_t tail_size(uint16_t kind)
{
	switch (kind) {
	case RECORD_RUN:
		return sizeof(RUN_TEXT);
	case RECORD_AGENT:
		return 3 * sizeof(struct agent_rank);
	case RECORD_STEP:
		return 3 * sizeof(struct rank_cell);
	case RECORD_SAVED:
	case RECORD_RUNG:
		return sizeof(PATH_TEXT);
	case RECORD_KEPT:
		return sizeof(PATHS_TEXT);
	case RECORD_EVIDENCE:
		return ZSTD_compressBound(sizeof(EVIDENCE_TEXT));
	default:
		return 0;
	}
}

/* The fields that check_record() looks at, made right again after the noise. */
static void fill_tail(struct record *r)
{
	uint8_t *tail = (uint8_t *)r + check_fixed_size(r->kind);

	switch (r->kind) {
	case RECORD_RUN: {
		struct record_run *run = (struct record_run *)r;
		run->rank_count = 3;
		run->node_count = 1;
		run->argument_count = 4;
		run->text_bytes = sizeof(RUN_TEXT);
		memcpy(tail, RUN_TEXT, sizeof(RUN_TEXT));
		break;
	}
	case RECORD_AGENT:
		((struct record_agent *)r)->rank_count = 3;
		for (uint32_t i = 0; i < 3; i++)
			((struct agent_rank *)tail)[i] = (struct agent_rank){
			    .rank = i, .flags = AGENT_RANK_ALIVE, .pid = 100 + i};
		break;
	case RECORD_STEP: {
		struct record_step *row = (struct record_step *)r;
		row->rank_count = 3;
		row->present_count = 2;
		row->slowest_rank = 1;
		for (uint32_t i = 0; i < 3; i++)
			((struct rank_cell *)tail)[i] = (struct rank_cell){
			    .ring_seq = 5 + i, .loss = 1.5f, .flags = i != 1 ? CELL_PRESENT : 0};
		break;
	}
	case RECORD_SAVED:
		((struct record_saved *)r)->text_bytes = sizeof(PATH_TEXT);
		memcpy(tail, PATH_TEXT, sizeof(PATH_TEXT));
		break;
	case RECORD_RUNG:
		((struct record_rung *)r)->text_bytes = sizeof(PATH_TEXT);
		memcpy(tail, PATH_TEXT, sizeof(PATH_TEXT));
		break;
	case RECORD_KEPT:
		((struct record_kept *)r)->text_bytes = sizeof(PATHS_TEXT);
		memcpy(tail, PATHS_TEXT, sizeof(PATHS_TEXT));
		break;
	case RECORD_EVIDENCE: {
		struct record_evidence *evidence = (struct record_evidence *)r;
		evidence->raw_bytes = sizeof(EVIDENCE_TEXT) - 1;
		evidence->text_bytes = (uint32_t)ZSTD_compress(tail,
		    ZSTD_compressBound(sizeof(EVIDENCE_TEXT)), EVIDENCE_TEXT, evidence->raw_bytes, 3);
		r->size_bytes = (uint32_t)RECORD_ROUND(sizeof(*evidence) + evidence->text_bytes);
		break;
	}
	default:
		break;
	}
}

struct record *sample_record(uint16_t kind, uint64_t *seed)
{
	size_t fixed = check_fixed_size(kind), size = RECORD_ROUND(fixed + tail_size(kind));
	struct record *r = calloc(1, size);

	assert(r != NULL && fixed != 0);
	for (size_t i = sizeof(*r); i < fixed; i += 8) {
		uint64_t noise = sample_random(seed);
		memcpy((uint8_t *)r + i, &noise, fixed - i < 8 ? fixed - i : 8);
	}
	*r = (struct record){.kind = kind,
	    .version = 1,
	    .size_bytes = (uint32_t)size,
	    .time_ns = sample_random(seed) >> 1,
	    .source_seq = sample_random(seed) >> 1};
	for (const struct schema_field *field = schema_of(kind); field->type != SCHEMA_END; field++) {
		uint32_t rank = sample_random(seed) % 4 == 0 ? RANK_NONE : 2;
		if (field->meaning == SCHEMA_RANK)
			memcpy((uint8_t *)r + field->offset, &rank, sizeof(rank));
	}
	fill_tail(r);
	return r;
}

struct record_step *sample_step(uint32_t ranks, uint32_t attempt, uint64_t step)
{
	size_t size = sizeof(struct record_step) + ranks * sizeof(struct rank_cell);
	struct record_step *row = calloc(1, size);

	assert(row != NULL);
	row->head = (struct record){
	    .kind = RECORD_STEP, .version = 1, .size_bytes = (uint32_t)size, .time_ns = step * 1000000};
	row->attempt = attempt;
	row->step = step;
	row->loss = 1.0 / (double)(step + 1);
	row->fields = FIELD_LOSS;
	row->rank_count = row->present_count = ranks;
	for (uint32_t i = 0; i < ranks; i++)
		((struct rank_cell *)(row + 1))[i] = (struct rank_cell){
		    .ring_seq = step + 1, .flags = CELL_PRESENT};
	return row;
}

char *sample_directory(void)
{
	const char *root = getenv("TMPDIR");
	char *dir = NULL;
	int length = asprintf(&dir, "%s/holdfast-unit-XXXXXX", root != NULL ? root : "/tmp");

	assert(length > 0 && mkdtemp(dir) != NULL);
	return dir;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void sample_remove(char *dir)
{
	int result = nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);

	assert(result == 0);
	free(dir);
}

char *sample_read(const char *dir, const char *name, size_t *size)
{
	char path[4096];
	struct stat st;
	FILE *file;
	char *bytes;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "rbe");
	if (file == NULL || fstat(fileno(file), &st) != 0) {
		perror(path);
		abort();
	}
	bytes = malloc((size_t)st.st_size + 1);
	assert(bytes != NULL);
	*size = fread(bytes, 1, (size_t)st.st_size, file);
	bytes[*size] = '\0';
	fclose(file);
	return bytes;
}

void sample_write(const char *dir, const char *name, const void *bytes, size_t size)
{
	char path[4096];
	FILE *file;
	size_t written;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "wbe");
	assert(file != NULL);
	written = fwrite(bytes, 1, size, file);
	assert(written == size);
	assert(fclose(file) == 0);
}

void sample_copy(const char *from, const char *to)
{
	DIR *dir = opendir(from);
	struct dirent *entry;

	assert(dir != NULL && mkdir(to, 0755) == 0);
	while ((entry = readdir(dir)) != NULL) {
		size_t size;
		char *bytes;
		if (entry->d_name[0] == '.')
			continue;
		bytes = sample_read(from, entry->d_name, &size);
		sample_write(to, entry->d_name, bytes, size);
		free(bytes);
	}
	closedir(dir);
}
