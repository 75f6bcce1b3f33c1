"""Ranks of a PyTorch script that are forked from a warm interpreter: they train, and end where others end.

    test_warm_torch.py BUILD [TEST...]

HOLDFAST_TORCH_PYTHON names the interpreter that has PyTorch; /usr/bin/python3 unless it is set.
"""

import os
import signal
import subprocess
import sys

import warming
from warming import HERE, PYTHON, life

TRAINERS = HERE.parent.parent / "torch"
MODULES = "torch,torch.distributed"


class Torch(warming.Warm):
    def train(self, script, name, modules, steps, ranks, kills=0, step_ms=0):
        """The digest at the end, after so many kills of the last rank."""
        folder = self.scratch / name
        folder.mkdir()
        run = self.python(TRAINERS / script, "--steps", steps, "--step-ms", step_ms, "--save-every", 5, "--directory",
                          folder, "--summary", folder / "summary", modules=modules, ranks=ranks,
                          name=f"{name}-run", options=["--first-tries", "9", "--tries", "9"])
        run.start()
        for attempt in range(1, kills + 1):
            out = run.directory / f"logs/attempt-{attempt:03}/rank-0000.out"
            warming.rig.wait_for(lambda path=out: path.exists() and path.read_text().count("\n") > 8, "eight lines")
            os.kill(run.rank_pid(ranks - 1), signal.SIGKILL)
        self.assertEqual(run.wait(), 0, run.output())
        run.settle()
        self.assertEqual(set(self.warmth(run)), {int(modules is not None)}, run.output())
        self.assertEqual(len(self.warmth(run)), ranks * (kills + 1))
        self.gone(run)
        return (folder / "summary").read_text()

    def test_ranks(self):
        cold = self.train("ddp.py", "cold", None, 60, 2)
        self.assertEqual(self.train("ddp.py", "warm", MODULES, 60, 2, kills=3, step_ms=10), cold)

    def test_loader(self):
        """Workers are forked and end as in any other process."""
        cold = self.train("loader.py", "cold", None, 30, 1)
        self.assertEqual(self.train("loader.py", "warm", MODULES, 30, 1), cold)


if __name__ == "__main__":
    if subprocess.run([PYTHON, "-c", "import torch.nn"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        print(f"{PYTHON} has no PyTorch: skipped")
        sys.exit(77)
    sys.exit(life.main(Torch))
