/*
 * The calls of libholdfast (trainer/holdfast.h) but for what they are made of: producer, slots, crash.
 *
 * The handle lies on pages that the kernel wipes in a forked child (MADV_WIPEONFORK), and what it points to is
 * not mapped there (MADV_DONTFORK): in a child, however it was forked, every call finds map NULL and does nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "trainer/channel.h"
#include "trainer/crash.h"
#include "trainer/holdfast.h"
#include "trainer/producer.h"
#include "trainer/slots.h"

struct holdfast {
	struct channel *map; /* NULL in a forked child */
	struct producer producer;
	uint64_t last_step_ns; /* of the previous step report; 0: there was none */
	uint64_t phase_ns;     /* when the phase was entered */
	uint64_t last_step;
	uint32_t phase;
	uint32_t checkpoints_asked; /* that were answered */
	bool stepped;
	bool reports;    /* the ring is ours; else what the program prints is read for it */
	bool not_finite; /* a report was: the snapshots of before are kept */
	uint64_t refused_bytes; /* the smallest snapshot for which there was no room; 0: there always was */
	struct holdfast_resume resume;
	char resume_path[sizeof(((struct channel_head *)0)->resume_path)];
	char snapshot_path[sizeof(((struct channel_head *)0)->snapshot_path)];
	struct slots slots;
};

static_assert((int)HOLDFAST_PHASE_INIT == (int)PHASE_INIT &&
	(int)HOLDFAST_PHASE_OTHER + 1 == (int)PHASE_COUNT,
    "phases of the API and of the journal");
static_assert(
    (int)HOLDFAST_FROM_MEMORY == (int)START_MEMORY && (int)HOLDFAST_FROM_FILE == (int)START_FILE,
    "sources of the API and of the journal");
static_assert((int)HOLDFAST_LOSS == (int)FIELD_LOSS && (int)HOLDFAST_NOT_FINITE == (int)FIELD_NOT_FINITE,
    "fields of the API and of the journal");
static_assert(HOLDFAST_STEP_NONE == STEP_NONE, "no step");

/* The one that exit(3) has to close. */
static struct holdfast *_Atomic joined;

/* Through the vDSO: no system call. */
static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void heartbeat(struct channel *map, uint64_t now_ns)
{
	atomic_store_explicit(&map->control.heartbeat_ns, now_ns, memory_order_relaxed);
}

/* --- joining ------------------------------------------------------------------------------------------- */

static void complain(const char *path, const char *what, int error)
{
	dprintf(STDERR_FILENO, "holdfast: %s: %s%s%s; going on without supervision\n", path, what,
	    error != 0 ? ": " : "", error != 0 ? strerror(error) : "");
}

/* Map the channel, or say why not and return NULL. */
static struct channel *map_channel(const char *path)
{
	struct channel *map = MAP_FAILED;
	const char *wrong = NULL;
	struct stat st;
	int error = 0;
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0) {
		complain(path, "cannot open the channel", errno);
		return NULL;
	}
	if (fstat(fd, &st) != 0)
		error = errno;
	else if (!S_ISREG(st.st_mode) || st.st_size != (off_t)CHANNEL_SIZE_BYTES)
		wrong = "this is not a channel of this version";
	else if (st.st_uid != geteuid())
		wrong = "the channel belongs to another user";
	if (error == 0 && wrong == NULL) {
		map = mmap(NULL, CHANNEL_SIZE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED || madvise(map, CHANNEL_SIZE_BYTES, MADV_DONTFORK) != 0)
			error = errno;
		else if (map->head.magic != CHANNEL_MAGIC || map->head.version != CHANNEL_VERSION)
			wrong = "this is not a channel of this version";
	}
	close(fd);
	if (error == 0 && wrong == NULL)
		return map;
	complain(path, wrong != NULL ? wrong : "cannot map the channel", error);
	if (map != MAP_FAILED)
		munmap(map, CHANNEL_SIZE_BYTES);
	return NULL;
}

/*
 * Take the lock for life.  A channel has one trainer ever: whoever finds that another came first, which a
 * data loader's worker or a tool that the trainer starts does, is not supervised, and nothing is wrong.
 */
static bool take_lock(struct channel *map)
{
	struct channel_control *control = &map->control;

	/* Not even tried when it was held: that would wipe what the kernel wrote there about a dead owner. */
	if (atomic_load(&control->connected) != 0 ||
	    __atomic_load_n((uint32_t *)(void *)&control->lock, __ATOMIC_SEQ_CST) != 0 ||
	    pthread_mutex_trylock(&control->lock) != 0)
		return false;
	if (atomic_load(&control->connected) != 0) {
		pthread_mutex_unlock(&control->lock);
		return false;
	}
	return true;
}

/* Words that both sides read, in the order in which they have to become visible. */
static void announce(struct holdfast *hf)
{
	struct channel_control *control = &hf->map->control;

	hf->phase_ns = clock_ns();
	hf->last_step = STEP_NONE;
	hf->reports = channel_claim(hf->map, CHANNEL_TRAINER);
	atomic_store(&control->phase, PHASE_INIT);
	atomic_store(&control->phase_since_ns, hf->phase_ns);
	heartbeat(hf->map, hf->phase_ns);
	atomic_store(&control->connected, (uint32_t)getpid());
}

static void read_head(struct holdfast *hf)
{
	const struct channel_head *head = &hf->map->head;

	snprintf(hf->resume_path, sizeof(hf->resume_path), "%.*s",
	    (int)sizeof(head->resume_path) - 1, head->resume_path);
	snprintf(hf->snapshot_path, sizeof(hf->snapshot_path), "%.*s",
	    (int)sizeof(head->snapshot_path) - 1, head->snapshot_path);
	hf->resume.source = head->resume_source;
	hf->resume.attempt = head->attempt;
	hf->resume.step = head->resume_source == START_SCRATCH ? STEP_NONE : head->resume_step;
	hf->resume.path = head->resume_source == START_FILE ? hf->resume_path : NULL;
	slots_init(&hf->slots, hf->snapshot_path);
}

/* Say that an end means nothing, and let go of the lock.  What is mapped stays. */
static void leave(struct holdfast *hf)
{
	atomic_store(&hf->map->control.leaving, 1);
	/* From another thread than the owner this fails; the kernel does it then when the owner ends. */
	pthread_mutex_unlock(&hf->map->control.lock);
}

static void on_exit_leave(void)
{
	struct holdfast *hf = atomic_exchange(&joined, NULL);

	/* Not unmapped: other threads and handlers that run after this one may still report. */
	if (hf != NULL && hf->map != NULL)
		leave(hf);
}

static struct holdfast *make_handle(void)
{
	struct holdfast *hf = mmap(
	    NULL, sizeof(*hf), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (hf == MAP_FAILED)
		return NULL;
	if (madvise(hf, sizeof(*hf), MADV_WIPEONFORK) != 0) {
		munmap(hf, sizeof(*hf));
		return NULL;
	}
	return hf;
}

struct holdfast *holdfast_open(void)
{
	static bool at_exit;
	const char *path = getenv(CHANNEL_ENV);
	struct channel *map;
	struct holdfast *hf;

	if (path == NULL || path[0] == '\0')
		return NULL;
	if (gettid() != getpid()) {
		complain(path, "holdfast_open() was not called by the main thread", 0);
		return NULL;
	}
	map = map_channel(path);
	if (map == NULL)
		return NULL;
	hf = make_handle();
	if (hf == NULL || (!at_exit && atexit(on_exit_leave) != 0)) {
		complain(path, "no memory", 0);
		if (hf != NULL)
			munmap(hf, sizeof(*hf));
		munmap(map, CHANNEL_SIZE_BYTES);
		return NULL;
	}
	at_exit = true;
	if (!take_lock(map)) {
		munmap(hf, sizeof(*hf));
		munmap(map, CHANNEL_SIZE_BYTES);
		return NULL;
	}
	hf->map = map;
	producer_init(&hf->producer, map);
	read_head(hf);
	announce(hf);
	atomic_store(&joined, hf);
	crash_install(map);
	return hf;
}

void holdfast_close(struct holdfast *hf)
{
	if (hf == NULL || hf->map == NULL)
		return;
	atomic_store(&joined, NULL);
	crash_remove();
	leave(hf);
	slots_fini(&hf->slots);
	munmap(hf->map, CHANNEL_SIZE_BYTES);
	munmap(hf, sizeof(*hf));
}

void holdfast_resume_from(const struct holdfast *hf, struct holdfast_resume *out)
{
	static const struct holdfast_resume scratch = {
	    .source = HOLDFAST_FROM_SCRATCH, .step = HOLDFAST_STEP_NONE};

	*out = hf != NULL && hf->map != NULL ? hf->resume : scratch;
}

/* --- reporting ----------------------------------------------------------------------------------------- */

static void enter_phase(struct holdfast *hf, uint32_t phase, uint64_t now_ns)
{
	struct channel_control *control = &hf->map->control;
	struct iteration *slot;

	if (phase == hf->phase)
		return;
	slot = hf->reports ? producer_claim(&hf->producer) : NULL;
	if (slot != NULL) {
		*slot = (struct iteration){.kind = ITERATION_PHASE,
		    .step = hf->last_step == STEP_NONE ? 0 : hf->last_step,
		    .monotonic_ns = now_ns,
		    .duration_ns = now_ns - hf->phase_ns,
		    .phase = phase,
		    .previous = hf->phase};
		producer_publish(&hf->producer, slot);
	}
	hf->phase = phase;
	hf->phase_ns = now_ns;
	atomic_store_explicit(&control->phase_since_ns, now_ns, memory_order_relaxed);
	atomic_store_explicit(&control->phase, phase, memory_order_release);
}

/* What was not reported is 0 in the ring, whatever the caller's memory held. */
static double number(const struct holdfast_step *report, uint32_t field, double value)
{
	return (report->fields & field) != 0 ? value : 0.0;
}

static uint64_t count(const struct holdfast_step *report, uint32_t field, uint64_t value)
{
	return (report->fields & field) != 0 ? value : 0;
}

static bool all_finite(const struct holdfast_step *report)
{
	return (report->fields & HOLDFAST_NOT_FINITE) == 0 &&
	    isfinite(number(report, HOLDFAST_LOSS, report->loss)) &&
	    isfinite(number(report, HOLDFAST_GRAD_NORM, report->grad_norm));
}

void holdfast_step(struct holdfast *hf, const struct holdfast_step *report)
{
	struct iteration *slot;
	uint64_t now_ns;

	if (hf == NULL || hf->map == NULL || report == NULL || report->step == STEP_NONE)
		return;
	now_ns = clock_ns();
	if (!all_finite(report))
		hf->not_finite = true;
	if (!hf->stepped) {
		hf->stepped = true;
		enter_phase(hf, PHASE_STEP, now_ns);
	}
	slot = hf->reports ? producer_claim(&hf->producer) : NULL;
	if (slot != NULL) {
		/* In the order in which the fields lie. */
		slot->kind = ITERATION_STEP;
		slot->fields = report->fields & (HOLDFAST_NOT_FINITE * 2u - 1u);
		slot->step = report->step;
		slot->monotonic_ns = now_ns;
		slot->duration_ns = hf->last_step_ns != 0 ? now_ns - hf->last_step_ns : 0;
		slot->compute_ns = count(report, HOLDFAST_COMPUTE, report->compute_ns);
		slot->loss = number(report, HOLDFAST_LOSS, report->loss);
		slot->grad_norm = number(report, HOLDFAST_GRAD_NORM, report->grad_norm);
		slot->learning_rate = number(report, HOLDFAST_LEARNING_RATE, report->learning_rate);
		slot->tokens = count(report, HOLDFAST_TOKENS, report->tokens);
		slot->data_cursor = count(report, HOLDFAST_DATA_CURSOR, report->data_cursor);
		slot->digest = count(report, HOLDFAST_DIGEST, report->digest);
		slot->phase = hf->phase;
		slot->previous = 0;
		slot->mail_seq = 0;
		slot->printed = 0;
		producer_publish(&hf->producer, slot);
	}
	hf->last_step_ns = now_ns;
	hf->last_step = report->step;
	atomic_store_explicit(&hf->map->control.last_step, report->step, memory_order_relaxed);
	heartbeat(hf->map, now_ns);
}

void holdfast_phase(struct holdfast *hf, enum holdfast_phase phase)
{
	uint64_t now_ns;

	if (hf == NULL || hf->map == NULL)
		return;
	now_ns = clock_ns();
	enter_phase(hf, (unsigned)phase < PHASE_COUNT ? (uint32_t)phase : PHASE_OTHER, now_ns);
	heartbeat(hf->map, now_ns);
}

static void set_waiting(struct holdfast *hf, uint32_t waiting)
{
	if (hf == NULL || hf->map == NULL)
		return;
	atomic_store_explicit(&hf->map->control.waiting, waiting, memory_order_release);
	heartbeat(hf->map, clock_ns());
}

void holdfast_wait_begin(struct holdfast *hf)
{
	set_waiting(hf, 1);
}

void holdfast_wait_end(struct holdfast *hf)
{
	set_waiting(hf, 0);
}

/* The path as it is wherever it is read. Returns its length or a negative errno. */
static int make_absolute(const char *path, char *out, size_t out_bytes)
{
	char directory[RECORD_TEXT_MAX];
	int length;

	if (path[0] == '/') {
		length = snprintf(out, out_bytes, "%s", path);
	} else {
		if (getcwd(directory, sizeof(directory)) == NULL)
			return errno == ERANGE ? -ENAMETOOLONG : -errno;
		length = snprintf(
		    out, out_bytes, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, path);
	}
	return length < 0 || (size_t)length >= out_bytes ? -ENAMETOOLONG : length;
}

int holdfast_checkpoint_saved(struct holdfast *hf, uint64_t step, const char *path, uint32_t shard_count)
{
	char absolute[sizeof(((struct channel_mail *)0)->path)];
	struct iteration it = {.kind = ITERATION_CHECKPOINT, .fields = shard_count, .step = step};
	int length;

	if (hf == NULL || hf->map == NULL)
		return 0;
	it.monotonic_ns = clock_ns();
	it.phase = hf->phase;
	heartbeat(hf->map, it.monotonic_ns);
	if (path == NULL || path[0] == '\0' || shard_count == 0 || step == STEP_NONE)
		return -EINVAL;
	if (!hf->reports)
		return -EBUSY;
	length = make_absolute(path, absolute, sizeof(absolute));
	if (length < 0)
		return length;
	return producer_mail(&hf->producer, &it, absolute, (size_t)length) ? 0 : -EAGAIN;
}

int holdfast_should_stop(const struct holdfast *hf)
{
	if (hf == NULL || hf->map == NULL)
		return 0;
	heartbeat(hf->map, clock_ns());
	return atomic_load_explicit(&hf->map->control.stop_asked, memory_order_acquire) != 0;
}

int holdfast_should_checkpoint(struct holdfast *hf)
{
	struct channel_control *control;
	uint32_t asked;

	if (hf == NULL || hf->map == NULL)
		return 0;
	control = &hf->map->control;
	heartbeat(hf->map, clock_ns());
	asked = atomic_load_explicit(&control->checkpoint_asked, memory_order_acquire);
	if (asked == hf->checkpoints_asked)
		return 0;
	/* One checkpoint now answers all that was asked before now. */
	hf->checkpoints_asked = asked;
	atomic_store_explicit(&control->checkpoint_taken, asked, memory_order_release);
	return 1;
}

/* --- snapshots ----------------------------------------------------------------------------------------- */

/* The slots of a supervised process, or NULL. */
static struct slots *slots_of(struct holdfast *hf)
{
	if (hf == NULL || hf->map == NULL)
		return NULL;
	heartbeat(hf->map, clock_ns());
	return &hf->slots;
}

/* Tell the supervisor, once, how much memory the snapshots would take; from then on nothing is tried. */
static void refuse(struct holdfast *hf, uint64_t step, uint64_t size_bytes)
{
	struct iteration *slot = hf->refused_bytes == 0 ? producer_claim(&hf->producer) : NULL;

	hf->refused_bytes = size_bytes;
	if (slot == NULL)
		return;
	*slot = (struct iteration){.kind = ITERATION_NO_ROOM,
	    .step = step,
	    .monotonic_ns = clock_ns(),
	    .tokens = slots_file_bytes(size_bytes),
	    .data_cursor = slots_room_bytes(&hf->slots),
	    .phase = hf->phase};
	producer_publish(&hf->producer, slot);
}

int holdfast_snapshot_begin(struct holdfast *hf, uint64_t step, uint64_t size_bytes)
{
	struct slots *slots = slots_of(hf);
	int error;

	if (slots == NULL)
		return -ENOTCONN;
	/* The state has been poisoned by now: it is not worth the snapshot that it would replace. */
	if (hf->not_finite)
		return -EDOM;
	if (hf->refused_bytes != 0 && size_bytes >= hf->refused_bytes)
		return -ENOSPC;
	error = slots_begin(slots, step, size_bytes);
	if (error == -ENOSPC)
		refuse(hf, step, size_bytes);
	return error;
}

int holdfast_snapshot_write(struct holdfast *hf, const void *data, size_t size_bytes)
{
	struct slots *slots = slots_of(hf);

	return slots != NULL ? slots_write(slots, data, size_bytes) : -ENOTCONN;
}

int holdfast_snapshot_commit(struct holdfast *hf)
{
	struct slots *slots = slots_of(hf);

	if (slots == NULL)
		return -ENOTCONN;
	if (!hf->not_finite)
		return slots_commit(slots);
	slots_drop(slots);
	return -EDOM;
}

int holdfast_restore_begin(struct holdfast *hf, uint64_t step, uint64_t *size_bytes_out)
{
	struct slots *slots = slots_of(hf);

	return slots != NULL ? slots_restore_begin(slots, step, size_bytes_out) : -ENOTCONN;
}

int holdfast_restore_read(struct holdfast *hf, void *data, size_t size_bytes)
{
	struct slots *slots = slots_of(hf);

	return slots != NULL ? slots_restore_read(slots, data, size_bytes) : -ENOTCONN;
}

int holdfast_restore_end(struct holdfast *hf)
{
	struct slots *slots = slots_of(hf);

	return slots != NULL ? slots_restore_end(slots) : -ENOTCONN;
}
