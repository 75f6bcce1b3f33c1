"""The supervisor dies at every numbered place of a turn; its successor goes on as if nothing had been.

    test_failpoints.py BUILD [POINT...]

A short training with a rank killed in the middle is run once for each place and for turns of every sort: the first
ones, those around the start, in the middle, and around the crash.
"""

import os
import pathlib
import random
import signal
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "faults"))
import audit  # noqa: E402
import rig  # noqa: E402
import test_kinds  # noqa: E402

POINTS = range(1, 9)  # supervisor/failpoint.h
SEED = 7
KILL_AT = 30


class Failpoints(unittest.TestCase):
    setting = None

    def scenario(self, scratch, point, turn):
        """One run."""
        name = f"point-{point}-{turn}"
        run = self.setting.run(scratch, name)
        run.environment["HOLDFAST_FAILPOINT"] = f"{point}:{turn}:{scratch}/{name}-fired"
        try:
            run.start()
            run.wait_step(KILL_AT)
            os.kill(run.rank_pid(1), signal.SIGKILL)
            status = run.wait()
            run.settle()
            self.assertEqual(status, 0, run.output())
            self.assertEqual(audit.audit(run.records), [], f"point {point}, turn {turn}")
            self.assertNotIn("decides differently", run.output())
            self.assertEqual(self.setting.outcome(run, scratch, name), self.setting.undisturbed(scratch))
            self.assertEqual(run.leftovers(), [])
            return (scratch / f"{name}-fired").exists()
        finally:
            run.close()

    def one(self, point):
        rng = random.Random(SEED * 100 + point)
        turns = [1, 2, 3, 5, rng.randrange(6, 30), rng.randrange(30, 60), rng.randrange(40, 70)]
        with rig.Scratch() as scratch:
            self.setting.undisturbed(scratch)
            fired = [self.scenario(scratch, point, turn) for turn in turns]
        # A place that is never passed tests nothing.  The sixth is passed in turns with decisions only.
        self.assertGreaterEqual(sum(fired), 2 if point == 6 else len(turns) - 2, f"fired {fired}")


def main():
    build, *points = sys.argv[1:]
    Failpoints.setting = test_kinds.Setting(build, "step")
    for point in map(int, points) if points else POINTS:
        setattr(Failpoints, f"test_point_{point}", lambda self, point=point: self.one(point))
    print(f"seed {SEED}")
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(
        unittest.defaultTestLoader.loadTestsFromTestCase(Failpoints)
    )
    return rig.ended(result)


if __name__ == "__main__":
    sys.exit(main())
