"""Each kind of fault alone, at one phase of a training; the end must be that of an undisturbed run, bit for bit.

    test_kinds.py BUILD before|step|checkpoint [KIND...]
"""

import hashlib
import json
import mmap
import pathlib
import random
import re
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import audit  # noqa: E402
import campaign  # noqa: E402
import rig  # noqa: E402

STEPS = 160
# Checkpoints come thick and fast where one is to be met in the middle, however loaded the machine.
CHECKPOINT_EVERY = {"before": 40, "step": 40, "checkpoint": 3}
MOMENT = 85  # step after which a fault is made
MODEL = ["--width", "64", "--layers", "2", "--heads", "2", "--batch", "32", "--log-every", "0"]
OPTIONS = ["--stall-first", "4s", "--stall-min", "1s"]
SEED = 20
STATE_NEEDED = {"NaN loss", "torn snapshot", "bad checkpoint, no memory"}  # there is none before the first step
# tests/unit holds these against the structs: control.phase in trainer/channel.h, and PHASE_CHECKPOINT.
PHASE_OFFSET = 4096 + 96
PHASE_CHECKPOINT = 3
# What is declared for each kind, with its detail where that is certain.  A checkpoint that is damaged before it was
# digested is noticed by the trainer that loads it.
DECLARED = {
    "rank killed": {("signal", 9)},
    "segmentation fault": {("signal", 11)},
    "exit(1)": {("exit", 1)},
    "rank stopped": {("stopped", 19)},
    "rank spinning": {("stall-spinning", None)},
    "NaN loss": {("not-finite", None)},
    "torn snapshot": {("bad-snapshot", None)},
    "bad checkpoint, no memory": {("bad-checkpoint", None), ("exit", 65)},
    "supervisor killed": None,
    "supervisor and rank killed": {("signal", 9)},
    "agent killed": {("agent-lost", None)},
}
STACKS = {"segmentation fault", "rank spinning"}
FRAME = re.compile(r"^ *#\d+ .*\(holdfast-trainer\+0x", re.MULTILINE)
SAME = ("loss_bits", "grad_norm_bits", "learning_rate_bits", "digest", "data_cursor")


class Setting:
    """Once for all kinds: the programs, and how it ends undisturbed."""

    def __init__(self, build, phase):
        self.tools = rig.Tools(build)
        self.phase = phase
        self.reference = None

    def run(self, scratch, name):
        checkpoints = scratch / f"{name}-checkpoints"
        checkpoints.mkdir()
        command = [
            self.tools.trainer, "pretrain", "--output", scratch / f"{name}.safetensors", "--steps", STEPS,
            "--checkpoints", checkpoints, "--checkpoint-every", CHECKPOINT_EVERY[self.phase], *MODEL,
        ]  # fmt: skip
        return rig.Run(self.tools, scratch / name, command, campaign.RANKS, OPTIONS)

    def outcome(self, run, scratch, name):
        final = scratch / f"{name}-checkpoints" / f"step-{STEPS:06d}.safetensors"
        rows = {step: tuple(row[k] for k in SAME) for step, row in run.rows().items()}
        return rows, hashlib.sha256(final.read_bytes()).hexdigest()

    def undisturbed(self, scratch):
        if self.reference is None:
            run = self.run(scratch, "undisturbed")
            try:
                status = run.start().wait()
                run.settle()
                assert status == 0, run.output()
                self.reference = self.outcome(run, scratch, "undisturbed")
            finally:
                run.close()
        return self.reference


def wait_in_checkpoint(run, rank=0):
    """Return while the rank writes a checkpoint: seen in its channel, where it is at once."""
    run.wait_step(MOMENT)
    run.rank_pid(rank)
    (channel,) = run.shared_memory(f"-{rank}.channel")
    with open(channel, "rb") as file, mmap.mmap(file.fileno(), 8192, prot=mmap.PROT_READ) as words:
        end = time.monotonic() + rig.DEADLINE_S
        while struct.unpack_from("<I", words, PHASE_OFFSET)[0] != PHASE_CHECKPOINT:
            if time.monotonic() > end:
                raise rig.Late("no checkpoint phase")


def reach(run, phase):
    if phase == "before":
        for rank in range(campaign.RANKS):
            run.rank_pid(rank)
    elif phase == "checkpoint":
        wait_in_checkpoint(run)
    else:
        run.wait_step(MOMENT + 10)


def sanitized(build):
    """Whether the programs of a build folder were compiled with a sanitizer."""
    cache = (build / "CMakeCache.txt").read_text()
    return re.search(r"^HOLDFAST_SANITIZE:STRING=.", cache, re.MULTILINE) is not None


def not_announced(setting, kind):
    """The newest file may be one that was not announced yet: then nobody has to look at it."""
    return setting.phase == "checkpoint" and kind == "bad checkpoint, no memory"


class Kinds(unittest.TestCase):
    setting = None

    def one(self, kind):
        setting = self.setting
        if setting.phase == "before" and kind in STATE_NEEDED:
            self.skipTest("needs a state, and there is none before the first step")
        with rig.Scratch() as scratch:
            reference = setting.undisturbed(scratch)
            run = setting.run(scratch, "disturbed")
            disturber = campaign.Disturber(run, scratch / "disturbed-checkpoints", random.Random(SEED))
            try:
                run.start()
                reach(run, setting.phase)
                mark = run.follower.mark()
                try:
                    disturber.kinds()[kind]()
                except campaign.Skipped as why:
                    self.skipTest(str(why))
                if kind == "supervisor killed":
                    run.wait_kind("session", after=mark)
                else:
                    run.wait_kind("fault", after=mark)
                status = run.wait()
                run.settle()
                self.assertEqual(status, 0, run.output())
                rows, final = setting.outcome(run, scratch, "disturbed")
                self.assertEqual([s for s in range(1, STEPS + 1) if s not in rows], [], "missing iterations")
                self.assertEqual(run.of_kind("gap"), [])
                self.assertEqual(audit.audit(run.records), [], "invariants")
                self.assertEqual([s for s in rows if rows[s] != reference[0][s]], [], "iterations that differ")
                self.assertEqual(final, reference[1], "the final checkpoint")
                self.assertEqual(run.leftovers(), [])
                faults = run.of_kind("fault")
                recovered = {r["incident"] for r in run.of_kind("recovered")}
                self.assertEqual([f for f in faults if f["incident"] not in recovered], [], "open incidents")
                self.diagnosed(kind, run, faults)
            except rig.Late as late:
                self.fail(f"{late}\n{run.output()}")
            finally:
                run.close()


    def diagnosed(self, kind, run, faults):
        """What was declared is what was done, and who was looked at is who it was done to."""
        wanted = DECLARED[kind]
        if kind == "segmentation fault" and sanitized(self.setting.tools.build):
            return  # the sanitizer has the signal for itself, and ends the program with a status
        if wanted is None:
            self.assertEqual(faults, [])
            return
        if not_announced(self.setting, kind):
            wanted = wanted | {("signal", 9)}
        found = {(f["fault"], f["detail"]) for f in faults} | {(f["fault"], None) for f in faults}
        self.assertTrue(found & wanted, f"{kind}: declared were {faults}, samples {run.of_kind('sample')}")
        if kind not in STACKS:
            return
        (fault,) = [f for f in faults if {(f["fault"], f["detail"]), (f["fault"], None)} & wanted]
        told = subprocess.run(
            [self.setting.tools.holdfast, "why", "--json", "--full", run.directory],
            capture_output=True, text=True, timeout=rig.DEADLINE_S, check=True)  # fmt: skip
        incident = next(
            i for i in map(json.loads, told.stdout.splitlines()) if i.get("incident") == fault["incident"]
        )
        texts = [e["text"] for e in incident["evidence"] if e["rank"] == fault["rank"]]
        self.assertTrue(any(FRAME.search(text) for text in texts), f"no stack of rank {fault['rank']} in {texts}")


def add_kinds(wanted):
    for kind in campaign.Disturber(None, None, None).kinds():
        if wanted and kind not in wanted:
            continue
        name = "test_" + "".join(c if c.isalnum() else "_" for c in kind)
        setattr(Kinds, name, lambda self, kind=kind: self.one(kind))


def main():
    build, phase, *wanted = sys.argv[1:]
    Kinds.setting = Setting(build, phase)
    add_kinds(wanted)
    print(f"seed {SEED}, phase {phase}")
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(
        unittest.defaultTestLoader.loadTestsFromTestCase(Kinds)
    )
    return rig.ended(result)


if __name__ == "__main__":
    sys.exit(main())
