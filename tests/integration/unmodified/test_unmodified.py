"""The ladder on files: a script that knows nothing of Holdfast never loads a torn checkpoint, and loses no more than
the steps since its last whole one, however it saves and whenever it dies.

    test_unmodified.py BUILD [TEST...]

Seeds are printed; HOLDFAST_SEED repeats one.  HOLDFAST_KILLS sets how often each shape is killed.
"""

import fcntl
import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "life"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import life  # noqa: E402
import rig  # noqa: E402
import saver  # noqa: E402

SAVER = pathlib.Path(saver.__file__).resolve()
PATTERNS = {"inplace": "ckpt.pt", "rename": "ckpt.pt", "numbered": "ckpt-{step}.pt", "directory": "checkpoint-{step}"}
KILLS = int(os.environ.get("HOLDFAST_KILLS", "8"))


class Unmodified(life.Life):
    def setUp(self):
        super().setUp()
        self.folder = self.scratch / "out"
        self.folder.mkdir()
        self.seed = int(os.environ.get("HOLDFAST_SEED", random.randrange(1 << 32)))
        print(f"HOLDFAST_SEED={self.seed}", flush=True)
        self.random = random.Random(self.seed)

    def saving(self, shape, *words, options=(), silent=False, name="run", pattern=None):
        """A run of the saver."""
        quiet = ["--silent"] if silent else []
        pattern = pattern or self.folder / PATTERNS[shape]
        return self.run_of(
            sys.executable, SAVER, "--shape", shape, "--directory", self.folder, *quiet, *words, name=name,
            options=["--checkpoint", str(pattern), "--clean-steps", "3", "--tries", "100", "--backoff-max", "50ms",
                     *options])

    def starts(self):
        path = self.folder / "starts.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def kept(self, run):
        return [r for r in run.of_kind("kept") if r["ordinal"] and not r["error"] and "gone" not in r["flags"]]

    def wait_kept(self, run, count):
        rig.wait_for(lambda: len(self.kept(run)) >= count, f"{count} kept checkpoints")
        return self.kept(run)

    def check_whole(self, run, steps):
        """It ended where an undisturbed run ends, nothing torn was loaded, and the journal has every step."""
        torn = self.folder / "torn.log"
        self.assertFalse(torn.exists(), torn.exists() and torn.read_text())
        self.assertEqual((self.folder / "end").read_text(), saver.chain_after(steps).hex())
        self.gone(run)
        rows = run.rows()
        if rows:
            self.assertEqual(sorted(rows), list(range(1, steps + 1)))
            for step, row in rows.items():
                loss = saver.loss_of(saver.chain_after(step))
                self.assertEqual(row["loss_bits"], struct.pack(">d", loss).hex(), f"step {step}")

    def kill_rank(self, run):
        try:
            os.kill(run.rank_pid(0), signal.SIGKILL)
        except ProcessLookupError:
            pass

    def kill_again_and_again(self, shape, silent=False, steps=60):
        """Saving is most of what it does, so that most kills find it in the middle of it."""
        run = self.saving(shape, "--steps", steps, "--every", 3, "--step-ms", 75, "--save-ms", 150, silent=silent,
                          options=["--resume-args", "--resume {checkpoint}", "--checkpoint-keep", "4"])
        run.start()
        kept = 0
        for _ in range(KILLS):
            # A checkpoint comes between two kills, or the run would be right to give up.
            rig.wait_for(lambda: len(self.kept(run)) > kept or run.process.poll() is not None, "another checkpoint")
            kept = len(self.kept(run))
            time.sleep(self.random.uniform(0, 0.4))
            if run.process.poll() is not None:
                break
            started = len(run.of_kind("started"))
            self.kill_rank(run)
            rig.wait_for(lambda: len(run.of_kind("started")) > started or run.process.poll() is not None, "a restart")
        self.assertEqual(run.wait(120), 0, run.output())
        self.check_whole(run, steps)
        return run

    def test_killed_inplace(self):
        self.kill_again_and_again("inplace")

    def test_killed_rename(self):
        self.kill_again_and_again("rename")

    def test_killed_numbered(self):
        self.kill_again_and_again("numbered")

    def test_killed_directory(self):
        self.kill_again_and_again("directory")

    def test_killed_silent(self):
        """Not one step is reported: the checkpoints themselves are what the run goes by."""
        run = self.kill_again_and_again("inplace", silent=True)
        self.assertEqual(run.rows(), {})
        for start in run.of_kind("start")[1:]:
            self.assertEqual(start["source"], "file")

    def test_resume_args(self):
        """Added from the first start that has something to resume from; the step is the one of the checkpoint."""
        run = self.saving("numbered", "--scratch", "--steps", 40, "--every", 5, "--step-ms", 10, "--save-ms", 5,
                          options=["--resume-args", "--resume {checkpoint} --note 's {step}'"])
        run.start()
        run.wait_step(2)
        self.kill_rank(run)  # before there is a checkpoint
        run.wait_step(7, after=run.follower.mark())
        self.wait_kept(run, 1)
        self.kill_rank(run)
        self.assertEqual(run.wait(), 0, run.output())
        self.check_whole(run, 40)
        first, second, third = self.starts()
        for start in (first, second):
            self.assertNotIn("--resume", start["words"])
            self.assertIsNone(start["path"])
        words = third["words"]
        self.assertEqual(words[: len(first["words"])], first["words"])
        path = words[words.index("--resume") + 1]
        step = int(pathlib.Path(path).stem.split("-")[1])
        self.assertEqual(words[words.index("--note") + 1], f"s {step}")
        self.assertEqual(pathlib.Path(path).parent, self.folder)
        self.assertEqual(run.of_kind("start")[-1]["step"], step)

    def test_damaged_original(self):
        """What lies there is not what was kept: it is moved aside, not deleted, and the copy put back."""
        run = self.saving("inplace", "--steps", 20, "--every", 5, "--step-ms", 10, "--save-ms", 5, "--wait-for",
                          self.scratch / "go")
        run.start()
        run.wait_step(20)
        rig.wait_for(lambda: [r for r in self.kept(run) if r["step"] == 20], "the last checkpoint")
        path = self.folder / "ckpt.pt"
        whole = path.read_bytes()
        damaged = whole[:1000] + bytes(1000) + whole[2000:]
        path.write_bytes(damaged)
        self.kill_rank(run)
        run.wait_kind("start", source="file", step=20)
        (self.scratch / "go").touch()
        self.assertEqual(run.wait(), 0, run.output())
        self.assertEqual(path.read_bytes(), whole)
        aside = [p for p in (run.directory / "checkpoints" / "aside").rglob("*") if p.is_file()]
        self.assertIn(damaged, [p.read_bytes() for p in aside])
        self.check_whole(run, 20)

    def test_damaged_copy(self):
        """A copy that is not what it was when it was kept is not used: the one before is."""
        run = self.saving("numbered", "--steps", 20, "--every", 5, "--step-ms", 10, "--save-ms", 5, "--wait-for",
                          self.scratch / "go", options=["--checkpoint-mode", "copy"])
        run.start()
        run.wait_step(20)
        kept = rig.wait_for(lambda: [r for r in self.kept(run) if r["step"] == 20], "the last checkpoint")[0]
        with open(kept["kept"], "r+b") as file:
            file.seek(500)
            file.write(bytes(100))
        self.kill_rank(run)
        start = run.wait_kind("start", after=run.follower.mark() - 1, source="file")
        self.assertEqual(start["step"], 15)
        (self.scratch / "go").touch()
        self.assertEqual(run.wait(), 0, run.output())
        self.assertTrue([f for f in run.of_kind("fault") if f["fault"] == "bad-checkpoint"])
        self.check_whole(run, 20)

    def test_torn_before_the_run(self):
        """What an earlier death left torn is out of the way before the first attempt; what is whole is loaded."""
        path = self.folder / "ckpt.pt"
        path.write_bytes(saver.encode(7, saver.chain_after(7), 100_000)[:50_000])
        run = self.saving("inplace", "--steps", 10).start()
        self.assertEqual(run.wait(), 0, run.output())
        self.check_whole(run, 10)
        self.assertIsNone(self.starts()[0]["path"])

    def test_older_run(self):
        """A checkpoint that lay there before is not this run's: without one of its own it starts as it was started."""
        path = self.folder / "ckpt-7.pt"
        path.write_bytes(saver.encode(7, saver.chain_after(7), 100_000))
        run = self.saving("numbered", "--scratch", "--steps", 12, "--every", 100, "--step-ms", 30,
                          options=["--resume-args", "--resume {checkpoint}"]).start()
        run.wait_step(9)
        run.wait_kind("kept")
        self.assertIn("foreign", run.of_kind("kept")[0]["flags"])
        self.kill_rank(run)
        self.assertEqual(run.wait(), 0, run.output())
        self.check_whole(run, 12)
        self.assertEqual([start["path"] for start in self.starts()], [None, None])

    def test_saved_at_once(self):
        """The first start waits for the keeper: what it saves first thing is its own, and not what lay there."""
        path, go, whole = self.folder / "ckpt.pt", self.scratch / "go", self.scratch / "whole"
        script = f"[ -e {whole} ] && cat {whole} >{path}; while [ ! -e {go} ]; do sleep 0.05; done"
        run = self.shell(script, options=["--checkpoint", str(path)])
        run.start()
        run.wait_kind("started")
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.wait(), 143, run.output())
        whole.write_bytes(saver.encode(1, saver.chain_after(1), 1000))
        # Held as by a keeper that is still dying.
        with open(run.directory / "checkpoints" / ".lock", "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            mark = run.follower.mark()
            run.start()
            start = run.wait_kind("start", after=mark)
        kept = self.wait_kept(run, 1)[0]
        self.assertEqual(kept["attempt"], start["attempt"])
        go.touch()
        self.assertEqual(run.wait(), 0, run.output())
        self.gone(run)

    def test_agent_killed(self):
        """With the agent and its keeper dead, the same command goes on from what was kept."""
        run = self.saving("inplace", "--steps", 40, "--every", 5, "--step-ms", 60, "--save-ms", 20,
                          options=["--resume-args", "--resume {checkpoint}"])
        run.start()
        self.wait_kept(run, 2)
        run.kill_agent()
        mark = run.follower.mark()
        run.start()
        start = run.wait_kind("start", after=mark)
        self.assertEqual(start["source"], "file")
        self.assertEqual(run.wait(), 0, run.output())
        self.check_whole(run, 40)

    def test_keeper_killed(self):
        """A keeper that dies is replaced, and what is saved meanwhile is found."""
        run = self.saving("numbered", "--steps", 150, "--every", 3, "--step-ms", 30, "--save-ms", 10)
        run.start()
        self.wait_kept(run, 1)
        for _ in range(3):
            before = len(self.kept(run))
            os.kill(self.keeper_pid(run), signal.SIGKILL)
            rig.wait_for(lambda: [r for r in self.kept(run)[before:] if "again" not in r["flags"]],
                         "a checkpoint of the next keeper")
        self.kill_rank(run)
        self.assertEqual(run.wait(), 0, run.output())
        self.assertEqual(run.of_kind("start")[1]["source"], "file")
        self.check_whole(run, 150)

    def keeper_pid(self, run):
        def find():
            for pid in rig.children_of(run.agent_pid):
                words = rig.read_text(f"/proc/{pid}/cmdline").split(b"\0")
                if len(words) > 1 and words[1] == b"helper-keeper":
                    return pid
            return None

        return rig.wait_for(find, "keeper")

    def test_saving_is_no_stall(self):
        """Writing a checkpoint takes many times what a stall would be called after."""
        run = self.saving("inplace", "--steps", 12, "--every", 6, "--step-ms", 5, "--save-ms", 4000,
                          options=["--stall-min", "500ms", "--stall-factor", "2"])
        run.start()
        self.assertEqual(run.wait(), 0, run.output())
        self.check_whole(run, 12)
        self.assertEqual([f["fault"] for f in run.of_kind("fault")], [])
        self.assertTrue(run.of_kind("writing"))

    def test_last_checkpoint_of_a_stopped_run(self):
        """What is saved when a run is asked to stop is what it goes on from later."""
        script = self.scratch / "stopper.py"
        script.write_text(
            f"import sys, signal, time\nsys.path.insert(0, {str(SAVER.parent)!r})\nimport saver, types, pathlib\n"
            f"folder = pathlib.Path({str(self.folder)!r})\n"
            "s = saver.Saver(types.SimpleNamespace(shape='inplace', directory=folder, save_ms=50, size=100000))\n"
            "def end(*_):\n    s.save(3, saver.chain_after(3))\n    sys.exit(0)\n"
            "if '--resume' in sys.argv:\n    (folder / 'resumed').write_text(str(s.load(folder / 'ckpt.pt')[0]))\n"
            "    sys.exit(0)\n"
            "signal.signal(signal.SIGTERM, end)\n(folder / 'up').touch()\ntime.sleep(600)\n")
        run = self.run_of(sys.executable, script, options=["--checkpoint", str(self.folder / "ckpt.pt"),
                                                           "--resume-args=--resume"])
        run.start()
        rig.wait_for((self.folder / "up").exists, "script")
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.wait(), 143, run.output())
        run.start()
        self.assertEqual(run.wait(), 0, run.output())
        self.assertEqual((self.folder / "resumed").read_text(), "3")
        self.gone(run)

    def test_restore_fails(self):
        """The checkpoint cannot be put back: that is said, in one line and in the journal, and tried again."""
        run = self.saving("inplace", "--steps", 10, "--every", 5, "--wait-for", self.scratch / "go")
        run.start()
        rig.wait_for(lambda: [r for r in self.kept(run) if r["step"] == 10], "the last checkpoint")
        away = self.scratch / "away"
        self.folder.rename(away)
        self.folder.write_text("no folder")
        self.kill_rank(run)
        failed = run.wait_kind("spawn")
        self.assertEqual(failed["stage"], "prepare")
        self.assertNotEqual(failed["error"], 0)
        self.folder.unlink()
        away.rename(self.folder)
        (self.scratch / "go").touch()
        self.assertEqual(run.wait(), 0, run.output())
        self.assertIn("could not be put back", run.output())
        self.check_whole(run, 10)

    def test_old_copies_go(self):
        """As many copies are kept as were asked for, and the newest good one, which the policy names."""
        run = self.saving("numbered", "--steps", 90, "--every", 3, "--step-ms", 20, "--save-ms", 5, "--wait-for",
                          self.scratch / "go", options=["--checkpoint-keep", "2", "--clean-steps", "15"])
        run.start()
        run.wait_step(90)
        rig.wait_for(lambda: [r for r in self.kept(run) if r["step"] == 90], "the last checkpoint")

        def newest_good():
            return max([r["step"] for r in run.of_kind("standing") if r["standing"] == "good"], default=0)

        def copies():
            names = [p.name for p in (run.directory / "checkpoints").glob("*-step-*")]
            return sorted(int(name.rsplit("-", 1)[1]) for name in names)

        self.assertGreaterEqual(newest_good(), 90 - 3 * 15)
        # The newest ones, the newest good one, and the one that is next to become good.
        rig.wait_for(lambda: len(copies()) <= 4 and {newest_good(), 87, 90} <= set(copies()), "old copies to go")
        gone = {r["ordinal"] for r in run.of_kind("kept") if "gone" in r["flags"]}
        self.assertGreaterEqual(len(gone), 20)
        self.kill_rank(run)
        run.wait_kind("start", source="file", step=90)
        (self.scratch / "go").touch()
        self.assertEqual(run.wait(), 0, run.output())
        # Those that went to make room are no faults.
        self.assertEqual({f["fault"] for f in run.of_kind("fault")} - {"signal", "out-of-memory"}, set())
        self.check_whole(run, 90)

    def test_usage(self):
        for words, what in ((["--checkpoint", "{step}{step}"], "once"), (["--checkpoint-keep", "1"], "2 to 32"),
                            (["--checkpoint-mode", "x"], "inplace"), (["--checkpoint-budget", "1X"], "20G"),
                            (["--resume-args", "'"], "words"), (["--resume-args", "a"], "--checkpoint")):
            done = subprocess.run([self.tools.holdfast, "run", *words, "--", "true"], capture_output=True, text=True,
                                  cwd=self.scratch, timeout=rig.DEADLINE_S, check=False)
            self.assertEqual(done.returncode, 64)
            self.assertEqual(len(done.stderr.splitlines()), 1)
            self.assertIn(what, done.stderr)


if __name__ == "__main__":
    sys.exit(life.main(Unmodified))
