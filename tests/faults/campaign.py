#!/usr/bin/env python3
"""The main job: the reference trainer, once undisturbed and once through faults, compared bit for bit.

    campaign.py --build BUILD [--seed N] [--steps N] [--faults N] [--keep DIR]

Makes a base model, post-trains it for --steps iterations on two ranks, twice, injects at least one fault of each
kind at seeded moments into the second run, all from outside, and ends with a verdict.  Exit status 0 only when
every fault was recovered from, no iteration is missing from the journal, and the end is that of the first run.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import audit  # noqa: E402
import rig  # noqa: E402

RANKS = 2
CHECKPOINT_EVERY = 100
SLOWEST_RECOVERY_S = 120


class Skipped(Exception):
    """The machine does not allow this fault."""


class Hurt:
    """One fault: what was done, when, and what became of it."""

    def __init__(self, kind, step):
        self.kind = kind
        self.step = step
        self.at_ns = None  # run time
        self.mark = None  # index of the first record after it
        self.detected_s = None
        self.stepping_s = None
        self.redone = 0
        self.note = ""


class Disturber:
    """Injects faults into a run of the reference trainer."""

    def __init__(self, run, checkpoints, rng):
        self.run = run
        self.checkpoints = checkpoints
        self.rng = rng

    def kinds(self):
        return {
            "rank killed": self.rank_killed,
            "segmentation fault": self.segmentation_fault,
            "exit(1)": self.exit_one,
            "rank stopped": self.rank_stopped,
            "rank spinning": self.rank_spinning,
            "NaN loss": self.nan_loss,
            "torn snapshot": self.torn_snapshot,
            "bad checkpoint, no memory": self.bad_checkpoint,
            "supervisor killed": self.supervisor_killed,
            "supervisor and rank killed": self.supervisor_and_rank_killed,
            "agent killed": self.agent_killed,
        }

    def some_rank(self):
        return self.rng.randrange(RANKS)

    def _answer(self, *words):
        answer = self.run.inject(*words)
        if answer is None:
            raise Skipped("ptrace is not allowed here")
        return answer["at_ns"]

    def rank_killed(self):
        return self._answer("signal", self.run.rank_pid(self.some_rank()), "KILL")

    def segmentation_fault(self):
        return self._answer("segv", self.run.rank_pid(self.some_rank()))

    def exit_one(self):
        return self._answer("exit", self.run.rank_pid(self.some_rank()), 1)

    def rank_stopped(self):
        return self._answer("signal", self.run.rank_pid(self.some_rank()), "STOP")

    def rank_spinning(self):
        return self._answer("spin", self.run.rank_pid(self.some_rank()))

    def nan_loss(self):
        """Write NaNs into the gradients that the ranks share, until one of them was taken for real."""
        mark = self.run.follower.mark()
        for _ in range(20):
            at_ns = self._answer("nan-group", *self.run.shared_memory("-group"), "--rank", self.some_rank(), "--for-ms", 100)
            try:
                self.run.wait_kind("fault", after=mark, deadline_s=1.0)
                return at_ns
            except rig.Late:
                continue
        raise rig.Late("no NaN was taken over")

    def torn_snapshot(self):
        rank = self.some_rank()
        (snapshot,) = self.run.shared_memory(f"-rank-{rank}.snapshot")
        seed = self.rng.randrange(1 << 30)
        return self._answer("flip-snapshot", snapshot, "--pid", self.run.rank_pid(rank), "--seed", seed)

    def bad_checkpoint(self):
        pids = [self.run.rank_pid(rank) for rank in range(RANKS)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        newest = max(self.checkpoints.glob("step-*.safetensors"))
        seed = self.rng.randrange(1 << 30)
        if self.rng.random() < 0.5:
            self._answer("truncate", newest, "--seed", seed)
        else:
            self._answer("flip", newest, "--seed", seed)
        for snapshot in self.run.shared_memory(".snapshot"):
            snapshot.unlink()
        return self._answer("signal", pids[0], "KILL")

    def supervisor_killed(self):
        at_ns = time.monotonic_ns()
        os.kill(self.run.supervisor_pid(), signal.SIGKILL)
        return at_ns

    def supervisor_and_rank_killed(self):
        supervisor, rank = self.run.supervisor_pid(), self.run.rank_pid(self.some_rank())
        at_ns = time.monotonic_ns()
        os.kill(supervisor, signal.SIGKILL)
        os.kill(rank, signal.SIGKILL)
        return at_ns

    def agent_killed(self):
        at_ns = time.monotonic_ns()
        self.run.kill_agent()
        self.run.start()
        return at_ns


def last_step(run):
    return max(run.rows(), default=0)


def disturb(run, disturber, kind, step, rng):
    """Wait for the step, choose a moment in it, hurt, and see how the run comes back."""
    run.wait_step(step, deadline_s=SLOWEST_RECOVERY_S)
    hurt = Hurt(kind, last_step(run))
    time.sleep(rng.random() * 0.05)  # a moment within the step is part of what is tested
    hurt.mark = run.follower.mark()
    try:
        at_ns = disturber.kinds()[kind]()
    except Skipped as why:
        hurt.note = f"skipped: {why}"
        return hurt
    notice = "session" if kind == "supervisor killed" else "fault"
    noticed = run.wait_kind(notice, after=hurt.mark, deadline_s=SLOWEST_RECOVERY_S)
    hurt.at_ns = run.run_ns(at_ns)
    hurt.detected_s = (noticed["time_ns"] - hurt.at_ns) / 1e9
    newest = last_step(run)
    again = run.follower.wait(
        lambda r: rig.is_step(r, newest + 1) and r["time_ns"] > noticed["time_ns"],
        f"new step after {kind} at {hurt.step}",
        hurt.mark,
        SLOWEST_RECOVERY_S,
    )
    hurt.stepping_s = (again["time_ns"] - hurt.at_ns) / 1e9
    return hurt


def count_redone(run, hurts):
    """Rows that were made again, by the fault that made it necessary."""
    records = list(run.records)
    marks = [h.mark for h in hurts] + [len(records)]
    for hurt, end in zip(hurts, marks[1:]):
        hurt.redone = sum(1 for r in records[hurt.mark : end] if r["kind"] == "step" and "again" in r["flags"])


def plan(rng, kinds, count, steps):
    """Which fault at which step: every kind once, then more of them; seeded, spread, in rising order."""
    names = sorted(kinds)
    chosen = names + [rng.choice(names) for _ in range(count - len(names))]
    rng.shuffle(chosen)
    gap = steps // (count + 1)
    moments = [gap * (i + 1) + rng.randrange(-gap // 4, gap // 4) for i in range(count)]
    # A bad checkpoint needs an older good one: it comes when two have been written and digested.
    for i, name in enumerate(chosen):
        if name == "bad checkpoint, no memory" and moments[i] < 2 * CHECKPOINT_EVERY + 20:
            later = next(
                (
                    j
                    for j in range(count - 1, i, -1)
                    if chosen[j] != name and moments[j] >= 2 * CHECKPOINT_EVERY + 20
                ),
                i,
            )
            chosen[i], chosen[later] = chosen[later], chosen[i]
    return list(zip(chosen, moments))


class Campaign:
    def __init__(self, arguments):
        self.tools = rig.Tools(arguments.build)
        self.steps = arguments.steps
        self.faults = arguments.faults
        self.seed = arguments.seed
        self.rng = random.Random(arguments.seed)
        self.root = arguments.keep

    def say(self, text):
        print(text, flush=True)

    def command(self, name):
        return [
            self.tools.trainer,
            "post-train",
            "--base",
            self.root / "base.safetensors",
            "--steps",
            self.steps,
            "--checkpoints",
            self.root / f"{name}-checkpoints",
        ]

    def pretrain(self):
        subprocess.run(
            [self.tools.trainer, "pretrain", "--output", self.root / "base.safetensors"],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=300,
        )

    def accuracy(self, model):
        done = subprocess.run(
            [self.tools.trainer, "evaluate", model, "--json"],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return json.loads(done.stdout)["exact"]

    def final_checkpoint(self, name):
        return self.root / f"{name}-checkpoints" / f"step-{self.steps:06d}.safetensors"

    def make_run(self, name):
        (self.root / f"{name}-checkpoints").mkdir()
        return rig.Run(self.tools, self.root / name, self.command(name), RANKS)

    def undisturbed(self):
        run = self.make_run("undisturbed")
        try:
            run.start()
            status = run.wait(600)
            run.settle()
            if status != 0:
                raise AssertionError(f"the undisturbed run ended with {status}\n{run.output()}")
            return run.rows()
        finally:
            run.close()

    def disturbed(self):
        run = self.make_run("disturbed")
        hurts = []
        try:
            run.start()
            disturber = Disturber(run, self.root / "disturbed-checkpoints", self.rng)
            for number, (kind, step) in enumerate(plan(self.rng, disturber.kinds(), self.faults, self.steps), 1):
                hurt = disturb(run, disturber, kind, step, self.rng)
                hurts.append(hurt)
                self.say(f"  {number:2d}/{self.faults}  step {hurt.step:5d}  {kind}{': ' if hurt.note else ''}{hurt.note}")
            status = run.wait(600)
            run.settle()
            count_redone(run, hurts)
            left = run.leftovers()
            return status, hurts, run.rows(), list(run.records), left, run.output()
        finally:
            run.close()

    def table(self, hurts):
        self.say("")
        self.say(f"{'fault':28} {'step':>6} {'detected after':>15} {'stepping again':>15} {'redone':>7}")
        for hurt in hurts:
            if hurt.detected_s is None:
                self.say(f"{hurt.kind:28} {hurt.step:>6} {hurt.note or 'not seen'}")
                continue
            self.say(
                f"{hurt.kind:28} {hurt.step:>6} {hurt.detected_s * 1e3:>12.1f} ms"
                f" {hurt.stepping_s * 1e3:>12.0f} ms {hurt.redone:>7}"
            )

    def verdict(self, before, reference, result):
        status, hurts, rows, records, left, output = result
        wanted = range(1, self.steps + 1)
        missing = [step for step in wanted if step not in rows]
        same = ("loss_bits", "grad_norm_bits", "learning_rate_bits", "digest", "data_cursor")
        differing = [
            step for step in wanted if step in rows and any(rows[step][k] != reference[step][k] for k in same)
        ]
        digests = [
            hashlib.sha256(self.final_checkpoint(name).read_bytes()).hexdigest()
            for name in ("undisturbed", "disturbed")
            if self.final_checkpoint(name).exists()
        ]
        identical = len(digests) == 2 and digests[0] == digests[1]
        injected = [h for h in hurts if not h.note]
        recovered = [h for h in injected if h.stepping_s is not None]
        after = self.accuracy(self.final_checkpoint("disturbed"))
        gaps = sum(1 for r in records if r["kind"] == "gap")
        broken = audit.audit(records)
        verdicts = [
            (f"iterations committed: {len(rows)} of {self.steps}", len(rows) == self.steps),
            (f"faults injected: {len(injected)}, recovered: {len(recovered)}", len(injected) == len(recovered) == len(hurts)),
            (f"iterations missing from the journal: {len(missing)}, gaps: {gaps}", not missing and not gaps),
            (f"iterations whose loss, gradient norm, digest or data differ: {len(differing)}", not differing),
            (f"final parameters and optimiser state bit for bit the same: {'yes' if identical else 'NO'}", identical),
            (f"held-out arithmetic, exact answers: {before:.1%} before, {after:.1%} after", before < 0.4 < 0.9 < after),
            (f"invariants that the journal shows broken: {len(broken)}{': ' + broken[0] if broken else ''}", not broken),
            (f"exit status of holdfast run: {status}", status == 0),
            (f"left behind: {', '.join(map(str, left)) or 'nothing'}", not left),
        ]
        self.say("")
        for text, good in verdicts:
            self.say(f"  {'ok ' if good else 'BAD'}  {text}")
        good = all(good for _, good in verdicts)
        if not good and output:
            self.say(output)
        self.say("")
        self.say(f"verdict: {'interrupted equals uninterrupted' if good else 'FAILED'} (seed {self.seed})")
        return 0 if good else 1

    def run(self):
        started = time.monotonic()

        def stage(text):
            self.say(f"[{time.monotonic() - started:5.1f} s] {text}")

        stage("pretraining the base model")
        self.pretrain()
        before = self.accuracy(self.root / "base.safetensors")
        stage(f"post-training, {self.steps} iterations on {RANKS} ranks, undisturbed")
        reference = self.undisturbed()
        stage(f"the same through {self.faults} faults, seed {self.seed}")
        result = self.disturbed()
        stage("comparing")
        self.table(result[1])
        return self.verdict(before, reference, result)


def main():
    parser = argparse.ArgumentParser(prog="campaign.py", description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, help="build folder")
    parser.add_argument("--seed", type=int, default=1, help="of the faults' moments (default 1)")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--faults", type=int, default=16)
    parser.add_argument("--keep", type=pathlib.Path, help="work here and keep it (default: a folder that goes away)")
    arguments = parser.parse_args()
    try:
        if arguments.keep is not None:
            arguments.keep.mkdir(parents=True)
            return Campaign(arguments).run()
        with rig.Scratch() as scratch:
            arguments.keep = scratch
            return Campaign(arguments).run()
    except (rig.Late, AssertionError) as why:
        print(f"campaign: {why} (seed {arguments.seed})", file=sys.stderr)
        return 1
    except FileExistsError as why:
        print(f"campaign: {why.filename} exists already; name a folder that does not", file=sys.stderr)
        return 64


if __name__ == "__main__":
    sys.exit(main())
