#include "journal/sentence.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "journal/check.h"

#define CODE_AGAIN 75 /* EX_TEMPFAIL: nothing of the command was run */

/* Append to a text of `size` bytes, and cut. */
__attribute__((format(printf, 3, 4))) static void add(char *out, size_t size, const char *format, ...)
{
	size_t used = strlen(out);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(out + used, size - used, format, arguments);
	va_end(arguments);
}

static void start(char *out)
{
	out[0] = '\0';
}

void sentence_duration(uint64_t duration_ns, char *out, size_t size)
{
	double seconds = (double)duration_ns / 1e9;
	uint64_t whole_s = duration_ns / 1000000000u;

	start(out);
	if (seconds < 0.001)
		add(out, size, "%.2g ms", seconds * 1e3);
	else if (seconds < 1)
		add(out, size, "%.0f ms", seconds * 1e3);
	else if (seconds < 120)
		add(out, size, "%.1f s", seconds);
	else if (whole_s < 7200)
		add(out, size, "%llu min %llu s", (unsigned long long)(whole_s / 60),
		    (unsigned long long)(whole_s % 60));
	else
		add(out, size, "%llu h %llu min", (unsigned long long)(whole_s / 3600),
		    (unsigned long long)(whole_s / 60 % 60));
}

void sentence_signal(int signal, char *out, size_t size)
{
	const char *name = signal > 0 ? sigabbrev_np(signal) : NULL;

	start(out);
	if (name != NULL)
		add(out, size, "SIG%s", name);
	else
		add(out, size, "signal %d", signal);
}

static void add_rank(char *out, size_t size, uint32_t rank)
{
	if (rank == RANK_NONE)
		add(out, size, "the group");
	else
		add(out, size, "rank %u", rank);
}

static void add_after_step(char *out, size_t size, uint64_t step)
{
	if (step == STEP_NONE)
		add(out, size, " before the first step");
	else
		add(out, size, " after step %llu", (unsigned long long)step);
}

static void add_signal(char *out, size_t size, int signal)
{
	char name[32];

	sentence_signal(signal, name, sizeof(name));
	add(out, size, "%s", name);
}

static void add_duration(char *out, size_t size, uint64_t duration_ns)
{
	char text[48];

	sentence_duration(duration_ns, text, sizeof(text));
	add(out, size, "%s", text);
}

/* " for 4.2 s", or nothing when it is not known. */
static void add_for(char *out, size_t size, uint64_t duration_ns)
{
	if (duration_ns == 0)
		return;
	add(out, size, " for ");
	add_duration(out, size, duration_ns);
}

static void add_stall(const struct decision_fault *fault, char *out, size_t size)
{
	add(out, size, " made no progress");
	add_after_step(out, size, fault->step);
	add_for(out, size, fault->value_ns);
	if (fault->limit_ns != 0) {
		add(out, size, " (limit ");
		add_duration(out, size, fault->limit_ns);
		add(out, size, ")");
	}
	add(out, size,
	    fault->fault == FAULT_STALL_IDLE ? " and used no CPU" : " while it kept using CPU");
}

static void add_error(char *out, size_t size, int error)
{
	const char *text = error > 0 ? strerrordesc_np(error) : NULL;

	if (text != NULL)
		add(out, size, ": %s", text);
	else if (error != 0)
		add(out, size, ": error %d", error);
}

/* The first step that is not to be trusted is the checkpoint's own. */
static void add_bad_checkpoint(const struct decision_fault *fault, char *out, size_t size)
{
	static const char *const reasons[] = {
	    [VERIFY_MISSING] = "is missing",
	    [VERIFY_SIZE] = "has another size than when it was announced",
	    [VERIFY_DIGEST] = "has another digest than when it was announced",
	    [VERIFY_UNREADABLE] = "cannot be read",
	    [VERIFY_LATE] = "was not verified in time",
	};
	size_t detail = fault->detail > 0 ? (size_t)fault->detail : 0;

	if (fault->onset_step == STEP_NONE)
		add(out, size, "a checkpoint on disk ");
	else
		add(out, size, "the checkpoint of step %llu on disk ",
		    (unsigned long long)fault->onset_step);
	if (detail > 0 && detail < sizeof(reasons) / sizeof(reasons[0]))
		add(out, size, "%s", reasons[detail]);
	else
		add(out, size, "failed its verification");
	if (fault->limit_ns != 0) {
		add(out, size, " (limit ");
		add_duration(out, size, fault->limit_ns);
		add(out, size, ")");
	}
	add(out, size, " and is not used");
}

/* What of a start failed, to stand before the error. */
static const char *spawn_failure(uint32_t stage)
{
	switch (stage) {
	case SPAWN_PREPARE:
		return ": its shared memory, pipes, folders or checkpoint could not be made ready";
	case SPAWN_FORK:
		return ": no process could be had";
	case SPAWN_CHDIR:
		return ": its working directory could not be entered";
	case SPAWN_SETUP:
		return ": its process could not be set up";
	case SPAWN_EXEC:
		return ": the command could not be executed";
	default:
		return "";
	}
}

/* Faults that are not of a rank at a step say all they have to say here; returns whether the step belongs behind it. */
static bool add_fault(const struct decision_fault *fault, char *out, size_t size)
{
	switch (fault->fault) {
	case FAULT_EXIT:
		add_rank(out, size, fault->rank);
		add(out, size, " ended with exit status %d", fault->detail);
		return true;
	case FAULT_SIGNAL:
		add_rank(out, size, fault->rank);
		add(out, size, " was killed by ");
		add_signal(out, size, fault->detail);
		return true;
	case FAULT_STOPPED:
		add_rank(out, size, fault->rank);
		add(out, size, " was stopped");
		if (fault->detail != 0) {
			add(out, size, " by ");
			add_signal(out, size, fault->detail);
		}
		add_after_step(out, size, fault->step);
		add(out, size, " and not continued");
		add_for(out, size, fault->value_ns);
		return false;
	case FAULT_STALL_IDLE:
	case FAULT_STALL_SPINNING:
		add_rank(out, size, fault->rank);
		add_stall(fault, out, size);
		return false;
	case FAULT_NOT_FINITE:
		add_rank(out, size, fault->rank);
		add(out, size, " reported a value that is not a finite number");
		if (fault->onset_step == STEP_NONE)
			return true;
		add(out, size, " at step %llu", (unsigned long long)fault->onset_step);
		return false;
	case FAULT_BAD_SNAPSHOT:
		add(out, size, "the newest snapshot in memory of ");
		add_rank(out, size, fault->rank);
		add(out, size, " failed its digest and is not used");
		return false;
	case FAULT_BAD_CHECKPOINT:
		add_bad_checkpoint(fault, out, size);
		return false;
	case FAULT_SPAWN:
		add_rank(out, size, fault->rank);
		add(out, size, " could not be started%s", spawn_failure(fault->stage));
		add_error(out, size, fault->detail);
		return false;
	case FAULT_AGENT_LOST:
		add(out, size, "the agent was lost, and attempt %u with it,", fault->attempt);
		return true;
	case FAULT_OUT_OF_MEMORY:
		add_rank(out, size, fault->rank);
		add(out, size, " was killed by the kernel because memory ran out");
		return true;
	case FAULT_KICK:
		add(out, size, "a person asked for a restart");
		return true;
	default:
		add_rank(out, size, fault->rank);
		add(out, size, " had a fault of kind %u", fault->fault);
		return true;
	}
}

void sentence_fault(const struct decision_fault *fault, char *out, size_t size)
{
	start(out);
	if (add_fault(fault, out, size))
		add_after_step(out, size, fault->step);
	if (fault->repeat == 1)
		add(out, size, ", as it was once before");
	else if (fault->repeat > 1)
		add(out, size, ", as it was %u times before", fault->repeat);
}

void sentence_start(const struct decision_start *decision, const char *path, char *out, size_t size)
{
	start(out);
	add(out, size, "attempt %u %s from ", decision->attempt,
	    decision->attempt <= 1 || decision->source == START_SCRATCH ? "starts" : "continues");
	switch (decision->source) {
	case START_MEMORY:
		add(out, size, "memory");
		break;
	case START_FILE:
		add(out, size, "%s", path != NULL ? path : "the checkpoint on disk");
		break;
	default:
		add(out, size, "the beginning");
		return;
	}
	if (decision->step != STEP_NONE)
		add(out, size, " after step %llu", (unsigned long long)decision->step);
}

void sentence_recovered(const struct decision_recovered *recovered, char *out, size_t size)
{
	start(out);
	add(out, size, "stepping again at step %llu after ", (unsigned long long)recovered->step);
	add_duration(out, size, recovered->down_ns);
	if (recovered->redone_steps == 0)
		add(out, size, ", no step was made again");
	else if (recovered->redone_steps == 1)
		add(out, size, ", 1 step was made again");
	else
		add(out, size, ", %llu steps were made again",
		    (unsigned long long)recovered->redone_steps);
}

void sentence_end(const struct decision_end *end, char *out, size_t size)
{
	start(out);
	switch (end->reason) {
	case END_DONE:
		add(out, size, "the run is done: every rank ended with status 0");
		return;
	case END_STOPPED:
		add(out, size, "the run was stopped because a person asked for it");
		break;
	case END_NO_PROGRESS:
		add(out, size, "the run was given up: restart after restart brought no new step");
		break;
	case END_NEVER_STEPPED:
		add(out, size, "the run was given up: %s",
		    end->exit_code == CODE_AGAIN
			? "its ranks could not be started"
			: "the command failed before its first step each time; is it right?");
		break;
	case END_STUCK:
		add(out,
		    size, "the run was given up: a process cannot be ended, so its device cannot be used again");
		break;
	default:
		add(out, size, "the run ended for reason %u", end->reason);
		break;
	}
	add(out, size, " (exit status %d", end->exit_code);
	if (end->incident != 0 && end->reason != END_STOPPED)
		add(out, size, ", see incident %u", end->incident);
	add(out, size, ")");
}

void sentence_stuck(const struct record_clear *clear, char *out, size_t size)
{
	start(out);
	add(out, size, "process %u", clear->stuck_pid);
	if (clear->stuck_name[0] != '\0')
		add(out, size, " (%.*s)", (int)sizeof(clear->stuck_name), clear->stuck_name);
	add(out, size, " of attempt %u cannot be ended", clear->attempt);
	if (clear->stuck_state == 'D')
		add(out, size, ": the kernel holds it");
	else if (clear->stuck_state != '\0')
		add(out, size, ": it is in state %c", clear->stuck_state);
	if (clear->stuck_where[0] != '\0')
		add(out, size, " in %.*s", (int)sizeof(clear->stuck_where), clear->stuck_where);
}

void sentence_progress(uint32_t format, uint32_t rank, char *out, size_t size)
{
	static const char *const words[PROGRESS_COUNT] = {
	    [PROGRESS_NANOGPT] = "nanoGPT lines",
	    [PROGRESS_TRAINER] = "Hugging Face Trainer lines",
	    [PROGRESS_MEGATRON] = "Megatron-LM lines",
	    [PROGRESS_BAR] = "a progress bar",
	    [PROGRESS_KEYS] = "step=... lines",
	    [PROGRESS_WORDS] = "step ... lines",
	    [PROGRESS_JSON] = "JSON lines",
	    [PROGRESS_PATTERN] = "lines that match the pattern",
	};
	const char *what = format < PROGRESS_COUNT ? words[format] : NULL;

	start(out);
	add(out, size, "progress: %s of ", what != NULL ? what : "lines");
	add_rank(out, size, rank);
}

static void add_bytes(char *out, size_t size, double bytes)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	size_t unit = 0;

	for (; bytes >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
		bytes /= 1024;
	add(out, size, "%.4g %s", bytes, units[unit]);
}

void sentence_no_room(const struct record_no_room *no_room, char *out, size_t size)
{
	start(out);
	add_rank(out, size, no_room->rank);
	add(out, size, " has no memory for its snapshots: %u rank%s ", no_room->rank_count,
	    no_room->rank_count == 1 ? " needs" : "s need");
	add_bytes(out, size, (double)no_room->need_bytes * no_room->rank_count);
	add(out, size, ", ");
	add_bytes(out, size, (double)no_room->room_bytes);
	add(out,
	    size, " is free: enlarge /dev/shm, or name another folder with --shm-dir; it goes on with checkpoint files");
}

void sentence_standing(const struct decision_standing *standing, char *out, size_t size)
{
	start(out);
	add(out, size, "the checkpoint of step %llu is %s", (unsigned long long)standing->step,
	    check_standing_name(standing->standing));
	if (standing->previous != STANDING_NONE)
		add(out, size, ", it was %s", check_standing_name(standing->previous));
}

void sentence_exit(const struct record_exit *exit, char *out, size_t size)
{
	start(out);
	add_rank(out, size, exit->rank);
	if (WIFSIGNALED(exit->wait_status)) {
		if (exit->oom_killed == OOM_CERTAIN)
			add(out, size, " was killed because memory ran out, by ");
		else if (exit->oom_killed == OOM_LIKELY)
			add(out, size, " was killed, likely because memory ran out, by ");
		else
			add(out, size, " was killed by ");
		add_signal(out, size, WTERMSIG(exit->wait_status));
	} else {
		add(out, size, " ended with exit status %d", WEXITSTATUS(exit->wait_status));
	}
}
