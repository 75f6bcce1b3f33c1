"""Without a supervisor the module does nothing, loads nothing heavy and costs next to nothing.

    test_alone.py BUILD [TEST...]
"""

import os
import subprocess
import sys
import textwrap
import unittest

import pymodule

EVERYTHING = """
    import sys
    before = set(sys.modules)
    import holdfast

    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError(name + " was asked for")

    for n in range(3):
        holdfast.step(n, loss=1.0, grad_norm=float("nan"), accuracy=0.5)
        with holdfast.phase("eval"):
            holdfast.step(n)
        assert holdfast.snapshot(Untouchable(), Untouchable(), step=n, extra=object()) is False
        assert holdfast.restore(Untouchable(), Untouchable()) is None
        assert holdfast.checkpoint_saved("nowhere", n) is None
    holdfast.phase("train")
    assert not holdfast.should_stop() and not holdfast.should_checkpoint() and not holdfast.supervised()
    assert holdfast.resume_from() == ("scratch", None, None, 0)
    print(*sorted(set(sys.modules) - before))
"""
HEAVY = {"ctypes", "json", "torch", "numpy", "multiprocessing", "base64", "random"}


class Alone(unittest.TestCase):
    def loaded(self, **environment):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
        clean.update(PYTHONPATH=str(pymodule.Scripts.build / "python"), **environment)
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(EVERYTHING)], env=clean, capture_output=True,
                              text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return set(done.stdout.split()), done.stderr

    def test_nothing_happens(self):
        modules, said = self.loaded()
        self.assertEqual(modules & HEAVY, set())
        self.assertEqual(said, "")
        self.assertEqual(self.loaded(HOLDFAST_CHANNEL="")[1], "")

    def test_control_a_channel_is_tried(self):
        modules, said = self.loaded(HOLDFAST_CHANNEL="/dev/null/none")
        self.assertIn("ctypes", modules)
        self.assertIn("going on without supervision", said)

    def test_a_phase_is_known(self):
        sys.path.insert(0, str(pymodule.Scripts.build / "python"))
        import holdfast

        with self.assertRaisesRegex(ValueError, "dreaming.*eval"):
            holdfast.phase("dreaming")

    def test_types(self):
        done = subprocess.run([sys.executable, "-m", "mypy", "--version"], capture_output=True, check=False)
        if done.returncode != 0:
            self.skipTest("mypy is not installed for this interpreter")
        package = pymodule.HERE.parent.parent / "trainer" / "python" / "holdfast"
        done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--cache-dir=/dev/null",
                               str(package)], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    sys.exit(pymodule.main(Alone))
