"""A DDP script on gloo that nobody edited, under `holdfast torchrun`: killed, failing, and what is said of it.

    test_ddp.py BUILD [TEST...]

HOLDFAST_TORCH_PYTHON names the interpreter, with PyTorch; Debian's own where it is not set.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import unittest

TESTS = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TESTS))
import rig  # noqa: E402

PYTHON = os.environ.get("HOLDFAST_TORCH_PYTHON", "/usr/bin/python3")
DDP = TESTS / "torch" / "ddp.py"
KILLS = 4
RAISES = """
import os, torch, torch.distributed as d
d.init_process_group("gloo")
t = torch.zeros(1)
for step in range(1000):
    if d.get_rank() == 1 and step == 3:
        raise ValueError("rank one is wrong")
    d.all_reduce(t)
"""
RECORDS = """
from torch.distributed.elastic.multiprocessing.errors import record
import sys
@record
def main():
    raise ValueError("recorded")
try:
    main()
finally:
    print('Traceback (most recent call last):\\n  File "noise.py", line 1, in f\\nTypeError: noise', file=sys.stderr)
"""


class Ddp(unittest.TestCase):
    tools = None

    @classmethod
    def setUpClass(cls):
        if subprocess.run([PYTHON, "-c", "import torch.distributed"], capture_output=True, check=False).returncode != 0:
            raise unittest.SkipTest(f"{PYTHON} has no PyTorch")

    def setUp(self):
        scratch = rig.Scratch()
        self.scratch = scratch.__enter__()
        self.addCleanup(scratch.__exit__)
        self.run_dir = self.scratch / "holdfast-run"

    def torchrun(self, *words):
        """Started in the scratch folder."""
        process = subprocess.Popen(
            [self.tools.holdfast, "torchrun", "--quiet", "--backoff-first", "10ms", "--backoff-max", "10ms",
             "--standalone", "--nproc_per_node=2", *map(str, words)],
            cwd=self.scratch, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=dict(os.environ, PYTHON_EXEC=PYTHON, ASAN_OPTIONS="detect_leaks=0"))
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGTERM):
            if process.poll() is None:
                process.send_signal(number)
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    pass

    def why(self, *words):
        return subprocess.run([self.tools.holdfast, "why", *words, self.run_dir], capture_output=True, text=True,
                              timeout=rig.DEADLINE_S, check=False).stdout

    def log(self, attempt, rank, end):
        return rig.read_text(self.run_dir / "logs" / f"attempt-{attempt:03}" / f"rank-{rank:04}.{end}").decode()

    def rank_pid(self, agent, rank, attempt):
        def find():
            for pid in rig.children_of(agent):
                environment = rig.environment_of(pid)
                if (environment.get("RANK"), environment.get("TORCHELASTIC_RESTART_COUNT")) == (
                        str(rank), str(attempt - 1)):
                    return pid
            return None

        return rig.wait_for(find, f"rank {rank} of attempt {attempt}")

    def test_kills(self):
        """Killed again and again, every attempt meets on the same port, and the killed rank is named."""
        process = self.torchrun("--max-restarts", KILLS + 5, DDP, "--steps", 1000000, "--step-ms", 5, "--save-every", 0)
        ports = set()
        for attempt in range(1, KILLS + 2):
            rig.wait_for(lambda: "step=" in self.log(attempt, 0, "out"), f"step of attempt {attempt}")
            victim = self.rank_pid(process.pid, attempt % 2, attempt)
            ports.add(rig.environment_of(victim)["MASTER_PORT"])
            if attempt <= KILLS:
                os.kill(victim, signal.SIGKILL)
        self.assertEqual(len(ports), 1)
        self.end(process)
        incidents = [json.loads(line) for line in self.why("--json").splitlines()]
        faults = [i["fault"] for i in incidents if i["kind"] == "incident"]
        self.assertEqual([(f["rank"], f["fault"], f["detail"]) for f in faults[:KILLS]],
                         [(attempt % 2, "signal", 9) for attempt in range(1, KILLS + 1)])
        for attempt in range(1, KILLS + 2):
            for rank in (0, 1):
                self.assertNotIn("in use", self.log(attempt, rank, "err"))
        self.assertIn("rank 1 was killed by SIGKILL", self.why("-i", "1"))

    def test_raises(self):
        """The error that ended the group is shown with its place, and not the other's lost connection."""
        (self.scratch / "train.py").write_text(RAISES)
        code = self.torchrun("--max-restarts", 0, "train.py").wait(rig.DEADLINE_S)
        # PyTorch of some versions aborts in a destructor after that.
        self.assertIn(code, (1, 128 + signal.SIGABRT))
        why = self.why()
        self.assertRegex(why, r"(error +|likely cause: )ValueError: rank one is wrong")
        self.assertRegex(why, r"at (.*/)?train.py:7\n")

    def test_recorded(self):
        """What @record wrote counts, whatever was printed after it."""
        (self.scratch / "train.py").write_text(RECORDS)
        code = self.torchrun("--max-restarts", 0, "train.py").wait(rig.DEADLINE_S)
        self.assertEqual(code, 1)
        error = json.loads(self.why("--json").splitlines()[0])["error"]
        self.assertEqual((error["type"], error["message"], error["line"]), ("ValueError", "recorded", 6))


if __name__ == "__main__":
    build, *names = sys.argv[1:]
    Ddp.tools = rig.Tools(build)
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{name}*" for name in names] or None
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(loader.loadTestsFromTestCase(Ddp))
    sys.exit(rig.ended(result))
