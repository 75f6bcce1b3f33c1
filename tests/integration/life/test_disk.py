"""The journal's disk fills up during a run: training goes on, the run says so, and when there is room again every
iteration is in the journal.  Needs root, to mount a small file system.

    test_disk.py BUILD [TEST...]
"""

import os
import pathlib
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import life  # noqa: E402
import rig  # noqa: E402

DISK_BYTES = 24 << 20
STEPS = 4000
SAID_WITHIN_S = 2.0


@unittest.skipIf(os.geteuid() != 0, "needs root, to mount a small file system")
class Disk(life.Life):
    def setUp(self):
        super().setUp()
        self.disk = self.scratch / "disk"
        self.disk.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0755", "none", self.disk],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self.skipTest("mounting is not allowed here: " + done.stderr.strip())
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.disk], check=True)

    def fill(self):
        """Take every block that is left."""
        fd = os.open(self.disk / "filler", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            for block in (1 << 20, 4096):
                try:
                    while True:
                        os.write(fd, b"\0" * block)
                except OSError:
                    pass
        finally:
            os.close(fd)

    def test_full(self):
        trainer = self.tools.build / "tests" / "integration" / "hostile" / "hostile-trainer"
        run = self.run_of(trainer, "steps", STEPS, name="disk/run", ranks=2).start()
        run.wait_step(200)
        self.fill()
        # What a commit still finds room for is recorded; the ballast is given up for the last words.
        filled = time.monotonic()
        while "cannot be written" not in run.output():
            self.assertLess(time.monotonic() - filled, SAID_WITHIN_S + 3, "nobody said that the disk is full")
            self.fill()
            time.sleep(rig.POLL_S)
        said = time.monotonic() - filled
        supervisor = run.supervisor_pid()
        steps = self.last_reported(run)
        rig.wait_for(lambda: self.last_reported(run) > steps + 500, "progress of the trainers", 10)
        (self.disk / "filler").unlink()
        freed = time.monotonic()
        rig.wait_for(lambda: "written again" in run.output(), "word that it is written again", 10)
        print(f"said after {said:.2f} s, written again after {time.monotonic() - freed:.2f} s")
        self.assertEqual(run.supervisor_pid(), supervisor)
        self.assertEqual(run.wait(), 0, run.output())
        self.gone(run)
        self.assertEqual([step for step in range(1, STEPS + 1) if step not in run.rows()], [], "missing iterations")
        self.assertEqual(run.of_kind("gap") + run.of_kind("fault"), [])
        self.assertEqual(len(run.of_kind("trouble")), 1)

    def last_reported(self, run):
        """The last step of rank 0 as its channel says it: the journal is behind."""
        (channel,) = run.shared_memory("-0.channel")
        with open(channel, "rb") as file:
            file.seek(4096 + life.LAST_STEP_OFFSET)
            return int.from_bytes(file.read(8), "little")


if __name__ == "__main__":
    sys.exit(life.main(Disk))
