"""Trainers that do not use our library and stop going on: found by what can be seen of them from outside, restarted,
and not mistaken for those that only compute.

    test_silence.py BUILD [TEST...]
"""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import life  # noqa: E402
import rig  # noqa: E402

# Prints now and then, and in its first attempt falls silent: waits for ever, or computes.  Later ones end.
TRAINER = """
import os, sys, time
first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
for count in range(20):
    print(sys.argv[3].format(count), flush=True)
    time.sleep(0.1)
if not first:
    sys.exit(0)
if sys.argv[1] == "wait" or os.environ["RANK"] == "1":
    time.sleep(600)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    pass
"""
# The same limits as the defaults, a few hundred times smaller.
LIMITS = ["--stall-first", "30s", "--stall-silent", "1500ms", "--stall-max", "10s"]


class Silence(life.Life):
    def trainer(self, *words, **more):
        (self.scratch / "trainer.py").write_text(TRAINER)
        more.setdefault("options", LIMITS)
        return self.run_of(sys.executable, self.scratch / "trainer.py", *words, **more)

    def steps(self, *words):
        """One whose steps are read out of its output."""
        limits = ["--stall-first", "1s", "--stall-silent", "1500ms", "--stall-min", "500ms"]
        return self.trainer(*words, "iter {}: loss 2.5, time 100.00ms", options=limits)

    def test_waits_for_ever(self):
        run = self.trainer("wait", "0", "working {}").start()
        self.assertEqual(run.wait(), 0, run.output())
        self.gone(run)
        (fault,) = run.of_kind("fault")
        self.assertEqual((fault["fault"], fault["rank"]), ("stall-idle", 0))
        self.assertGreaterEqual(fault["value_ns"], fault["limit_ns"])
        self.assertLess(fault["limit_ns"], 30e9)
        self.assertEqual(len(run.of_kind("start")), 2)
        # Its stacks were taken before it was ended (H9), and why shows them.
        self.assertEqual([one["rank"] for one in run.of_kind("evidence")], [0])
        why = subprocess.run([self.tools.holdfast, "why", run.directory], capture_output=True, text=True,
                             timeout=rig.DEADLINE_S, check=True).stdout
        self.assertRegex(why, r"what +rank 0 made no progress .* and used no CPU")
        self.assertIn("working 19", why)

    def test_group_waits_for_ever(self):
        """Nobody can say which of them it is: all are shown."""
        run = self.trainer("wait", "0", "working {}", ranks=2).start()
        self.assertEqual(run.wait(), 0, run.output())
        self.gone(run)
        (fault,) = run.of_kind("fault")
        self.assertEqual((fault["fault"], fault["rank"]), ("stall-idle", None))
        self.assertEqual(sorted(one["rank"] for one in run.of_kind("evidence")), [0, 1])

    def test_computes(self):
        """Rank 0 computes for several times the limit and prints nothing, rank 1 waits for it: no fault."""
        run = self.trainer("compute", "6", "working {}", ranks=2).start()
        run.wait_kind("sample")
        end = run.wait_kind("exit", rank=0)
        self.assertEqual([fault for fault in run.of_kind("fault") if fault["seq"] < end["seq"]], [])
        run.process.terminate()
        self.assertEqual(run.wait(), 143, run.output())
        self.gone(run)

    def test_steps_then_computes(self):
        """A trainer that has shown steps and computes without any for very long hangs."""
        run = self.steps("compute", "600").start()
        self.assertEqual(run.wait(), 0, run.output())
        self.gone(run)
        self.assertEqual([(one["fault"], one["rank"]) for one in run.of_kind("fault")], [("stall-spinning", 0)])
        self.assertGreaterEqual(run.of_kind("fault")[0]["limit_ns"], 2e9)

    def test_steps_then_waits(self):
        run = self.steps("wait", "0").start()
        self.assertEqual(run.wait(), 0, run.output())
        self.gone(run)
        self.assertEqual([(one["fault"], one["rank"]) for one in run.of_kind("fault")], [("stall-idle", 0)])


if __name__ == "__main__":
    sys.exit(life.main(Silence))
