"""What the tests of a run as a whole share: the programs of a build folder, and runs that are cleaned up after."""

import hashlib
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
import audit  # noqa: E402
import rig  # noqa: E402

SAME = ("loss_bits", "grad_norm_bits", "learning_rate_bits", "digest", "data_cursor")
MODEL = ["--width", "64", "--layers", "2", "--heads", "2", "--batch", "32", "--log-every", "0"]
LAST_STEP_OFFSET = 72  # of last_step in struct channel_control; see trainer/channel.h
QUICK = ["--backoff-first", "50ms", "--stop-timeout", "3s"]


class Life(unittest.TestCase):
    """A test with a folder of its own."""

    tools = None

    def setUp(self):
        scratch = rig.Scratch()
        self.scratch = scratch.__enter__()
        self.addCleanup(scratch.__exit__)
        self.scratch.chmod(0o755)

    def run_of(self, *command, name="run", ranks=1, options=(), environment=None):
        run = rig.Run(self.tools, self.scratch / name, command, ranks, [*QUICK, *options], environment)
        self.addCleanup(run.close)
        return run

    def shell(self, script, **words):
        return self.run_of("sh", "-c", script, **words)

    def training(self, steps, name="run", **words):
        """The reference trainer, small, on two ranks."""
        checkpoints = self.scratch / f"{name}-checkpoints"
        checkpoints.mkdir(exist_ok=True)
        return self.run_of(
            self.tools.trainer, "pretrain", "--output", self.scratch / f"{name}.safetensors", "--steps", steps,
            "--checkpoints", checkpoints, "--checkpoint-every", 40, *MODEL, name=name, ranks=2, **words)

    def outcome(self, run, name, steps):
        """What two runs of the same training have in common, to the bit."""
        final = self.scratch / f"{name}-checkpoints" / f"step-{steps:06d}.safetensors"
        rows = {step: tuple(row[k] for k in SAME) for step, row in run.rows().items()}
        return rows, hashlib.sha256(final.read_bytes()).hexdigest()

    def gone(self, run):
        """Nothing of the run is left, and its journal is sound."""
        run.settle()
        self.assertEqual(run.leftovers(), [])
        self.assertEqual(audit.audit(run.records), [], "invariants")


def main(*cases):
    build, *names = sys.argv[1:]
    Life.tools = rig.Tools(build)
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{name}*" for name in names] or None
    suite = unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in cases)
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite)
    return rig.ended(result)
