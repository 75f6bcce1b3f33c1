"""What the tests of the Python module share: the module of a build, runs of small scripts, and a stand-in for
libholdfast that keeps one snapshot in the test's own memory."""

import ctypes
import errno
import os
import pathlib
import shutil
import sys
import textwrap
import unittest

HERE = pathlib.Path(__file__).resolve().parent
# Last: without the real one, the folder torch beside this one would pass for it.
sys.path.append(str(HERE.parent))
import audit  # noqa: E402
import rig  # noqa: E402

# No test here is about stalls, and the machine may be busy with others.
QUICK = ["--backoff-first", "50ms", "--stop-timeout", "3s", "--stall-min", "1m"]


class Scripts(unittest.TestCase):
    """A test with a folder of its own, and scripts that are run under supervision by this interpreter."""

    build = None

    def setUp(self):
        scratch = rig.Scratch()
        self.scratch = scratch.__enter__()
        self.addCleanup(scratch.__exit__)

    def environment(self, **more):
        path = [str(self.build / "python"), str(HERE.parent / "torch"), os.environ.get("PYTHONPATH", "")]
        return dict(PYTHONPATH=":".join(p for p in path if p), OMP_NUM_THREADS="1", **more)

    def write(self, text, name="train.py"):
        path = self.scratch / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def run_of(self, script, *arguments, ranks=1, name="run", options=(), environment=None):
        run = rig.Run(rig.Tools(self.build), self.scratch / name, [sys.executable, script, *arguments], ranks,
                      [*QUICK, *options], self.environment(**(environment or {})))
        self.addCleanup(run.close)
        return run

    def ends(self, run, status=0):
        """The run ends with this status, leaves nothing, and its journal is sound."""
        self.assertEqual(run.wait(120), status, run.output() + self.logs(run))
        run.settle()
        self.assertEqual(run.leftovers(), [])
        self.assertEqual(audit.audit(run.records), [])

    def logs(self, run):
        files = sorted((run.directory / "logs").rglob("*.err"))
        return "".join(f"--- {f.relative_to(run.directory)}\n{f.read_text(errors='replace')}" for f in files)


class Memory:
    """One process's libholdfast, as holdfast._library.Library shows it, with one snapshot in this memory."""

    def __init__(self, source=1):
        self.quick = self.slow = self.handle = self
        self.source = source
        self.step = None
        self.data = b""
        self.writes = []
        self.position = None
        self.refusal = 0
        self.begun = 0

    def holdfast_snapshot_begin(self, _, step, size):
        self.begun += 1
        self.wanted, self.parts, self.writes = (step, size), [], []
        return self.refusal

    def holdfast_snapshot_write(self, _, address, size):
        self.parts.append(address[:size] if isinstance(address, bytes) else ctypes.string_at(address, size))
        self.writes.append(size)
        return 0

    def holdfast_snapshot_commit(self, _):
        data = b"".join(self.parts)
        if len(data) != self.wanted[1]:
            return -errno.EINVAL
        self.step, self.data = self.wanted[0], data
        return 0

    def resume_from(self):
        return self.source, 2, self.step, None

    def restore_begin(self, step):
        if step != self.step:
            return -errno.ENOENT
        self.position = 0
        return len(self.data)

    def holdfast_restore_read(self, _, address, size):
        if self.position is None or self.position + size > len(self.data):
            return -errno.EINVAL
        ctypes.memmove(address, self.data[self.position : self.position + size], size)
        self.position += size
        return 0

    def holdfast_restore_end(self, _):
        self.position = None
        return 0


class Remembered(unittest.TestCase):
    """A test that snapshots into Memory."""

    def setUp(self):
        import holdfast
        from holdfast import _client, _snapshot

        self.holdfast, self.client, self.module = holdfast, _client, _snapshot
        self.memory = Memory()
        _client._joined = self.memory
        self.addCleanup(setattr, _client, "_joined", None)
        self.addCleanup(setattr, _snapshot, "_full", False)
        self.addCleanup(_snapshot._warned.clear)


def main(*cases):
    """Run the tests of a file: BUILD [TEST...]"""
    build, *names = sys.argv[1:]
    Scripts.build = pathlib.Path(build).resolve()
    sys.path.insert(0, str(Scripts.build / "python"))
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{name}*" for name in names] or None
    suite = unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in cases)
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite)
    return rig.ended(result)


def torch_interpreter():
    """Go on as the interpreter that HOLDFAST_TORCH_PYTHON names, else as Debian's, whose package brings torch."""
    wanted = os.environ.get("HOLDFAST_TORCH_PYTHON", "/usr/bin/python3")
    if wanted and shutil.which(wanted) and os.path.abspath(shutil.which(wanted)) != os.path.abspath(sys.executable):
        # Once: what is named may be a script that finds the interpreter.
        os.environ["HOLDFAST_TORCH_PYTHON"] = ""
        os.execv(shutil.which(wanted), [wanted, *sys.argv])
