/* See tell.h. */
#include "supervisor/agent/tell.h"

#include <string.h>

#include "supervisor/agent/sweep.h"

void tell_started(struct tell t, const struct spawn_result *process, bool warm)
{
	struct record_started *r = link_record(RECORD_STARTED, sizeof(*r), 0);

	r->rank = t.rank;
	r->attempt = t.attempt;
	r->pid = (uint32_t)process->pid;
	r->process_start = process->process_start;
	r->warm = warm;
	link_post(t.link, &r->head, 0);
}

void tell_progress(struct tell t, uint32_t format)
{
	struct record_progress *r = link_record(RECORD_PROGRESS, sizeof(*r), 0);

	r->rank = t.rank;
	r->attempt = t.attempt;
	r->format = format;
	link_post(t.link, &r->head, 0);
}

void tell_spawn_failed(struct tell t, enum spawn_stage stage, int error)
{
	struct record_spawn *r = link_record(RECORD_SPAWN, sizeof(*r), 0);

	r->rank = t.rank;
	r->attempt = t.attempt;
	r->stage = stage;
	r->error = error;
	link_post(t.link, &r->head, 0);
}

void tell_connected(struct tell t, uint32_t pid)
{
	struct record_connected *r = link_record(RECORD_CONNECTED, sizeof(*r), 0);

	r->rank = t.rank;
	r->attempt = t.attempt;
	r->pid = pid;
	r->version = CHANNEL_VERSION;
	link_post(t.link, &r->head, 0);
}

void tell_crashing(struct tell t, const struct channel_control *control, uint64_t monotonic_ns)
{
	struct record_crashing *r = link_record(RECORD_CRASHING, sizeof(*r), 0);

	r->rank = t.rank;
	r->attempt = t.attempt;
	r->tid = atomic_load(&control->crash_tid);
	r->signal = (int32_t)atomic_load(&control->crash_signal);
	r->address = atomic_load(&control->crash_address);
	link_post(t.link, &r->head, monotonic_ns);
}

void tell_damage(struct tell t, const struct ring *ring)
{
	struct record_damage *r = link_record(RECORD_DAMAGE, sizeof(*r), 0);

	r->rank = t.rank;
	r->attempt = t.attempt;
	r->offset = ring->damage_offset;
	r->value = ring->damage_value;
	link_post(t.link, &r->head, 0);
}

void tell_stopped(struct tell t, int number)
{
	struct record_stopped *r = link_record(RECORD_STOPPED, sizeof(*r), 0);

	r->rank = t.rank;
	r->attempt = t.attempt;
	r->signal = number;
	link_post(t.link, &r->head, 0);
}

void tell_death(struct tell t, const struct death_news *news, enum oom_kill oom)
{
	struct record_death *r = link_record(RECORD_DEATH, sizeof(*r), 0);

	r->rank = t.rank;
	r->attempt = t.attempt;
	r->wait_status = news->wait_status;
	r->status_known = news->status_known;
	r->source = news->source;
	r->oom_killed = oom;
	link_post(t.link, &r->head, news->monotonic_ns);
}

void tell_exit(struct tell t, int wait_status, const struct rusage *usage, enum oom_kill oom)
{
	struct record_exit *r = link_record(RECORD_EXIT, sizeof(*r), 0);

	r->rank = t.rank;
	r->attempt = t.attempt;
	r->wait_status = wait_status;
	r->oom_killed = oom;
	r->cpu_ns = (uint64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000000ull +
	    (uint64_t)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) * 1000ull;
	r->resident_max_bytes = (uint64_t)usage->ru_maxrss * 1024u;
	link_post(t.link, &r->head, 0);
}

void tell_clear(struct tell t, uint32_t swept, uint32_t stuck_pid)
{
	struct record_clear *r = link_record(RECORD_CLEAR, sizeof(*r), 0);
	struct sweep_stuck stuck;

	r->attempt = t.attempt;
	r->swept = swept;
	r->stuck = stuck_pid != 0;
	r->stuck_pid = stuck_pid;
	if (stuck_pid != 0) {
		sweep_describe((int)stuck_pid, &stuck);
		r->stuck_state = stuck.state;
		memcpy(r->stuck_name, stuck.name, sizeof(r->stuck_name));
		memcpy(r->stuck_where, stuck.where, sizeof(r->stuck_where));
	}
	link_post(t.link, &r->head, 0);
}
