"""PyTorch scripts as people have them, killed in the middle of torch.save, end bit for bit where an undisturbed one does.

    test_torch.py BUILD [TEST...]

HOLDFAST_TORCH_PYTHON names the interpreter that has PyTorch; /usr/bin/python3 unless it is set.
Seeds are printed; HOLDFAST_SEED repeats one.  HOLDFAST_KILLS sets how often each script is killed.
"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "life"))
import life  # noqa: E402
import rig  # noqa: E402

PYTHON = os.environ.get("HOLDFAST_TORCH_PYTHON", "/usr/bin/python3")
SCRIPTS = pathlib.Path(__file__).resolve().parent.parent.parent / "torch"
KILLS = int(os.environ.get("HOLDFAST_KILLS", "4"))
STEPS = 60
# Large enough that a save lasts.
SHAPE = ["--steps", STEPS, "--step-ms", "60", "--save-every", "5", "--width", "600"]


class Torch(life.Life):
    def setUp(self):
        super().setUp()
        self.seed = int(os.environ.get("HOLDFAST_SEED", random.randrange(1 << 32)))
        print(f"HOLDFAST_SEED={self.seed}", flush=True)
        self.random = random.Random(self.seed)
        self.folder = self.scratch / "out"
        self.folder.mkdir()

    def undisturbed(self, script):
        folder = self.scratch / "undisturbed"
        folder.mkdir()
        summary = folder / "summary"
        words = [PYTHON, SCRIPTS / script, "--steps", STEPS, "--width", "600", "--save-every", "0", "--directory",
                 folder, "--summary", summary]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                              timeout=rig.DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return summary.read_text()

    def kept(self, run):
        found = run.of_kind("kept")
        return [r for r in found if r["ordinal"] and not r["error"] and not {"again", "gone"} & set(r["flags"])]

    def kill_again_and_again(self, script, pattern, resume):
        summary = self.scratch / "summary"
        run = self.run_of(PYTHON, SCRIPTS / script, *SHAPE, "--directory", self.folder, "--summary", summary,
                          options=["--checkpoint", str(self.folder / pattern), "--resume-args", resume,
                                   "--clean-steps", "3"])
        run.start()
        for _ in range(KILLS):
            # When one is kept the next is being written, or soon.
            kept = len(self.kept(run))
            rig.wait_for(lambda: len(self.kept(run)) > kept or run.process.poll() is not None, "a checkpoint")
            time.sleep(self.random.uniform(0, 0.4))
            if run.process.poll() is not None:
                break
            started = len(run.of_kind("started"))
            try:
                os.kill(run.rank_pid(0), signal.SIGKILL)
            except ProcessLookupError:
                pass
            rig.wait_for(lambda: len(run.of_kind("started")) > started or run.process.poll() is not None, "a restart")
        self.assertEqual(run.wait(240), 0, run.output())
        self.gone(run)
        self.assertEqual(sorted(run.rows()), list(range(STEPS)))
        for start in run.of_kind("start")[1:]:
            self.assertEqual(start["source"], "file")
        # What ended was what was killed: no checkpoint was refused by torch.load.
        # (Whether memory ran out is told by a counter of the whole machine.)
        faults = {fault["fault"] for fault in run.of_kind("fault")}
        self.assertTrue(faults and faults <= {"signal", "out-of-memory"}, faults)
        self.assertEqual(summary.read_text(), self.undisturbed(script))

    def test_single(self):
        """One ckpt.pt that is overwritten in place, as nanoGPT does."""
        self.kill_again_and_again("single.py", "ckpt.pt", "--init_from=resume")

    def test_directories(self):
        """checkpoint-N, of several files each; the script removes the old ones itself."""
        self.kill_again_and_again("directories.py", "checkpoint-{step}", "--resume_from_checkpoint {checkpoint}")


if __name__ == "__main__":
    if subprocess.run([PYTHON, "-c", "import torch"], capture_output=True, check=False).returncode != 0:
        print(f"{PYTHON} has no torch")
        sys.exit(77)
    sys.exit(life.main(Torch))
