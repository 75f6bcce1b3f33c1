"""What the tests of the command line share: a scratch folder, and holdfast started in it."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
import rig  # noqa: E402

BINARY = os.environ["HOLDFAST_BINARY"]
DUMP = os.environ["HOLDFAST_DUMP"]
NEWER = os.environ["HOLDFAST_NEWER"]
TRAINER = os.environ["HOLDFAST_TRAINER"]
DEADLINE_S = 30.0
NOBODY = 65534


def until(condition, what, deadline_s=DEADLINE_S):
    """Wait for a true value, and return it."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"no {what} within {deadline_s} s")
        time.sleep(0.005)


class Scratch(unittest.TestCase):
    """A test with a folder of its own, in which everything is started."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-test-"))
        self.folder.chmod(0o755)
        self.started = []

    def tearDown(self):
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for directory, names, _ in os.walk(self.folder):
            for name in names:
                os.chmod(os.path.join(directory, name), 0o700)
        shutil.rmtree(self.folder)

    def holdfast(self, *words, cwd=None, before=(), program=BINARY, **options):
        """Run it to its end: exit status, standard output, standard error."""
        done = subprocess.run([*before, program, *map(str, words)], cwd=cwd or self.folder, text=True,
                              stdin=subprocess.DEVNULL, stdout=options.pop("stdout", subprocess.PIPE),
                              stderr=subprocess.PIPE, timeout=DEADLINE_S, check=False, **options)
        return done.returncode, done.stdout, done.stderr

    def live(self, *command, name="run", options=()):
        """A run that goes on; returns its process once the journal holds an attempt."""
        process = subprocess.Popen([BINARY, "run", "--quiet", "-d", name, *options, "--", *map(str, command)],
                                   cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        self.started.append(process)
        self.addCleanup(process.stderr.close)

        def attempted():
            # The files of an attempt may be those of a run that this one continues.
            now = json.loads(self.holdfast("status", name, "--json")[1] or "{}")
            files = self.folder / name / "logs" / f"attempt-{now.get('attempt', 0):03}"
            return now.get("pid") == process.pid and now["state"] != "ended" and (files / "rank-0000.out").exists()

        until(attempted, "attempt")
        return process

    def refused(self, answer, status, *parts):
        """One line of holdfast's own that holds every one of `parts`, and the exit status."""
        code, out, error = answer
        self.assertEqual((code, out), (status, ""), error)
        self.assertEqual(error.count("\n"), 1, error)
        self.assertTrue(error.startswith("holdfast: "), error)
        for part in parts:
            self.assertIn(str(part), error)

    def picture(self, path=None):
        """Everything below a folder that a refusal must not change.  LMDB's table of readers is no part of that."""
        root = path or self.folder
        seen = {}
        for directory, names, files in os.walk(root):
            for name in names + files:
                full = os.path.join(directory, name)
                stat = os.lstat(full)
                content = b""
                if name == "lock.mdb":
                    continue
                if os.path.isfile(full) and not os.path.islink(full) and os.access(full, os.R_OK):
                    content = pathlib.Path(full).read_bytes()
                seen[os.path.relpath(full, root)] = (stat.st_mode, stat.st_uid, stat.st_size, hash(content))
        return seen

    def as_nobody(self):
        """(words to put before a command, path of a program) so that permissions count, or skip the test."""
        if os.geteuid() != 0:
            return [], BINARY
        program = self.folder / "holdfast"
        shutil.copy(BINARY, program)
        program.chmod(0o755)
        before = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
        if subprocess.run([*before, program, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          check=False).returncode != 0:
            self.skipTest("cannot become another user here")
        return before, program


def main():
    """Run the tests of the module that was started."""
    sys.exit(rig.ended(unittest.main(verbosity=2, exit=False).result))
