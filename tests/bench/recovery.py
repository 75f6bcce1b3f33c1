#!/usr/bin/env python3
"""How long a killed rank of the reference trainer is missed, beside what a bare loop of spawn and wait takes.

    recovery.py BUILD [--kills N]

Kills a rank of a run on two ranks, N times, each time after it has gone on for a while, and takes from the journal
and from a process that watches it: killed -> fault decided and committed -> old attempt gone -> new processes there ->
first step that was not made before.  The baseline kills a process of the same program, waits for it and spawns
it again, and nothing else.
"""

import argparse
import os
import pathlib
import platform
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import rig  # noqa: E402

RANKS = 2
STEP, FAULT, RECOVERED = 8, 71, 72  # numbers of journal/record.h, as bench_watch prints them
STEPS_BETWEEN = 12
TRAINER = ["pretrain", "--seed", "1", "--log-every", "0", "--checkpoint-every", "100000"]
ENDLESS = 1000000


def milliseconds(values_ns):
    values = sorted(values_ns)

    def rank(fraction):
        return values[min(len(values) - 1, max(0, int(len(values) * fraction + 0.999999) - 1))] / 1e6

    return rank(0.5), rank(0.99)


def print_row(what, values_ns, target=None):
    p50, p99 = milliseconds(values_ns)
    line = f"  {what:<52} p50 {p50:8.2f} ms   p99 {p99:8.2f} ms"
    if target is not None:
        limit, words = target
        line += f"   target {words}: {'reached' if p50 <= limit else 'not reached'}"
    print(line)


class Watch:
    """When each record was seen in the journal by another process."""

    def __init__(self, build, journal):
        self.seen = []  # (seq, kind, attempt, step, ns)
        self.changed = threading.Condition()
        self.process = subprocess.Popen(
            [build / "tests" / "bench" / "bench_watch", journal],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.seen.append(tuple(int(word) for word in line.split()))
                self.changed.notify_all()

    def wait(self, matches, what, after):
        end = time.monotonic() + rig.DEADLINE_S
        at = after
        with self.changed:
            while True:
                for record in self.seen[at:]:
                    at += 1
                    if matches(record):
                        return record
                if not self.changed.wait(max(0.0, end - time.monotonic())):
                    raise rig.Late(f"no {what}")

    def mark(self):
        with self.changed:
            return len(self.seen)

    def last_step(self):
        with self.changed:
            return max((r[3] for r in self.seen if r[1] == STEP), default=0)

    def close(self):
        self.process.stdin.close()
        self.thread.join(rig.DEADLINE_S)
        self.process.wait(rig.DEADLINE_S)
        self.process.stdout.close()


def command_of(build, scratch, name):
    checkpoints = scratch / f"{name}-checkpoints"
    checkpoints.mkdir()
    return [
        str(build / "holdfast-trainer"), *TRAINER, "--steps", str(ENDLESS),
        "--output", str(scratch / f"{name}.safetensors"), "--checkpoints", str(checkpoints),
    ]  # fmt: skip


def one_kill(run, watch, rng):
    """Kill a rank; the moments that followed, in ns after it."""
    before = watch.last_step()
    watch.wait(lambda r: r[1] == STEP and r[3] >= before + STEPS_BETWEEN, "progress", watch.mark())
    pid = run.rank_pid(rng.randrange(RANKS))
    # Anywhere within a step.
    time.sleep(rng.random() * 0.05)
    mark, journal_mark = watch.mark(), run.follower.mark()
    killed_ns = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    fault = watch.wait(lambda r: r[1] == FAULT, "fault", mark)
    # Decided in the turn that commits the first step which no attempt had made before.
    new = watch.wait(lambda r: r[1] == RECOVERED, "new step", mark)
    run.wait_kind("recovered", after=journal_mark)
    killed_run_ns = run.run_ns(killed_ns)
    records = list(run.records)[journal_mark:]
    clear = next(r for r in records if r["kind"] == "clear")["time_ns"] - killed_run_ns
    started = [r["time_ns"] for r in records if r["kind"] == "started"][:RANKS]
    return {
        "decided": fault[4] - killed_ns,
        "gone": clear,
        "spawned": max(started) - killed_run_ns - clear,
        "stepping": new[4] - killed_ns,
    }


def measure_recovery(build, scratch, kills, rng):
    tools = rig.Tools(build)
    run = rig.Run(tools, scratch / "run", command_of(build, scratch, "run"), RANKS)
    watch = None
    try:
        run.start()
        watch = Watch(build, run.directory / "journal")
        run.wait_step(STEPS_BETWEEN)
        moments = [one_kill(run, watch, rng) for _ in range(kills)]
        durations = [r["duration_ns"] for r in run.of_kind("step") if rig.is_step(r) and r["duration_ns"]]
        return moments, durations
    finally:
        if watch is not None:
            watch.close()
        run.close()


def measure_baseline(build, scratch, kills):
    """Kill, wait, spawn, and nothing else: the process is as large as it gets."""
    command = command_of(build, scratch, "baseline")
    quiet = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, quiet, fd) for fd in (0, 1, 2)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}

    def spawn():
        return os.posix_spawn(command[0], command, environment, file_actions=actions)

    def resident_pages(pid):
        return int(rig.read_text(f"/proc/{pid}/statm").split()[1])

    gone, spawned = [], []
    pid = spawn()
    try:
        for _ in range(kills):
            rig.wait_for(lambda: resident_pages(pid) > 8000, "process as large as in training")
            killed_ns = time.monotonic_ns()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            waited_ns = time.monotonic_ns()
            pid = spawn()
            spawned.append(time.monotonic_ns() - waited_ns)
            gone.append(waited_ns - killed_ns)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(quiet)
    return gone, spawned


def machine():
    model = next(
        (line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


def main():
    parser = argparse.ArgumentParser(usage="recovery.py BUILD [--kills N] [--seed N]")
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    build = options.build.resolve()
    print("how long a killed rank of the reference trainer is missed")
    print(f"machine: {machine()}")
    print(f"method: {options.kills} SIGKILLs of one of {RANKS} ranks at random moments of a step, seed {options.seed};")
    print("  'decided and committed' is when another process saw the fault in the journal, looking every 50 us")
    with rig.Scratch() as scratch:
        gone, spawned = measure_baseline(build, scratch, options.kills)
        moments, durations = measure_recovery(build, scratch, options.kills, random.Random(options.seed))
    step_p50, _ = milliseconds(durations)

    def column(name):
        return [m[name] for m in moments]

    print_row("baseline: SIGKILL -> waitpid returned", gone)
    print_row("baseline: posix_spawn", spawned)
    print_row("one step of the trainer", durations)
    print_row("SIGKILL -> decided and committed", column("decided"), (1.5, "1.5 ms"))
    print_row("SIGKILL -> attempt proven gone", column("gone"))
    print_row("proven gone -> every new process is there", column("spawned"), (2.5, "2.5 ms"))
    print_row("SIGKILL -> next new step committed", column("stepping"), (25 + step_p50, "25 ms + one step"))


if __name__ == "__main__":
    main()
