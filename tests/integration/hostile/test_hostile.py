"""Whatever a trainer does to its channel, its output and its checkpoints: the run's own processes live, their memory
stays bounded, and the journal says what happened (H10).

    test_hostile.py BUILD [--seconds N] [--seed N] [TEST...]

--seconds says how long the flood of steps lasts: 6 when not given, 60 in the long version.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
import audit  # noqa: E402
import rig  # noqa: E402

RSS_MAX_KB = 96 * 1024
STEPS = 200
END_S = 30.0
QUICK = ["--stall-first", "3s", "--stall-min", "1s", "--backoff-first", "50ms", "--capture-timeout", "3s"]


def anonymous_kb(pid):
    """Memory of a process that no file stands behind; the journal's mapped pages are the page cache's."""
    for line in rig.read_text(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"RssAnon:"):
            return int(line.split()[1])
    return 0


def state_of(pid):
    """(parent, name) of a process; None when there is none."""
    stat = rig.read_text(f"/proc/{pid}/stat")
    if not stat:
        return None
    name = stat[stat.index(b"(") + 1 : stat.rindex(b")")].decode(errors="replace")
    return rig.parent_of(pid), name


class Scale:
    """The most memory that the agent and its helpers were seen to have, by name."""

    def __init__(self, agent_pid):
        self.agent_pid = agent_pid
        self.most = {}
        self.done = threading.Event()
        self._weigh("agent", agent_pid)
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self):
        while not self.done.wait(0.1):
            self._weigh("agent", self.agent_pid)
            for pid in rig.children_of(self.agent_pid):
                state = state_of(pid)
                if state is not None and state[1].startswith("holdfast"):
                    self._weigh(state[1], pid)

    def _weigh(self, name, pid):
        self.most[name] = max(self.most.get(name, 0), anonymous_kb(pid))

    def close(self):
        self.done.set()
        self.thread.join()
        return self.most


class Hostile(unittest.TestCase):
    tools = None
    seconds = 6.0
    seed = 1

    def run_of(self, scratch, *words, ranks=1, options=()):
        trainer = self.tools.build / "tests" / "integration" / "hostile" / "hostile-trainer"
        run = rig.Run(self.tools, scratch / "run", [trainer, *words], ranks, [*QUICK, *options])
        self.addCleanup(run.close)
        return run

    def ends(self, run, deadline_s=END_S, meanwhile=None):
        """Start, wait for the end; exit status and the memory that was used."""
        run.start()
        scale = Scale(run.agent_pid)
        try:
            if meanwhile is not None:
                meanwhile()
            status = run.wait(deadline_s)
        finally:
            most = scale.close()
        run.settle()
        for name, kb in most.items():
            self.assertLess(kb, RSS_MAX_KB, f"memory of {name}")
        self.assertIn("agent", most)
        self.sound(run)
        return status, most

    def sound(self, run):
        """What holds whatever the trainer did."""
        self.assertEqual(audit.audit(run.records), [], "invariants")
        self.assertEqual(run.leftovers(), [])
        self.assertEqual(len(run.of_kind("session")), 1, "supervisors that were needed\n" + run.output())

    def counted(self, run, rank=0):
        """Reports of a rank that stand in the journal, and those whose absence does."""
        present = lost = 0
        for (of, _), reports in audit.ring_seqs(run.records).items():
            if of == rank:
                present += sum(1 for _, count in reports if count == 1)
        for gap in run.of_kind("gap"):
            lost += gap["count"] if gap["rank"] == rank else 0
        return present, lost

    def test_control(self):
        """An honest trainer under the same eyes."""
        with rig.Scratch() as scratch:
            run = self.run_of(scratch, "steps", STEPS)
            status, _ = self.ends(run)
            self.assertEqual(status, 0, run.output())
            self.assertEqual(sorted(run.rows()), list(range(1, STEPS + 1)))
            self.assertEqual(run.of_kind("gap") + run.of_kind("damage") + run.of_kind("fault"), [])

    def test_garbage(self):
        with rig.Scratch() as scratch:
            run = self.run_of(scratch, "garbage", 2, self.seed, ranks=2)
            status, _ = self.ends(run)
            self.assertEqual(status, 0, run.output())
            damaged = {record["rank"] for record in run.of_kind("damage")}
            self.assertEqual(damaged, {0, 1})

    def test_silent(self):
        with rig.Scratch() as scratch:
            run = self.run_of(scratch, "silent", ranks=2)
            status, _ = self.ends(run)
            self.assertEqual(status, 0, run.output())
            self.assertEqual(run.of_kind("step") + run.of_kind("fault"), [])
            self.assertEqual(sorted(record["rank"] for record in run.of_kind("exit")), [0, 1])

    def test_flood(self):
        """As many steps as go: those that found no room are counted, never hidden."""
        with rig.Scratch() as scratch:
            run = self.run_of(scratch, "flood", self.seconds)
            run.start(follow=False)
            scale = Scale(run.agent_pid)
            began = time.monotonic()
            try:
                status = run.wait(self.seconds * 2 + END_S)
            finally:
                most = scale.close()
            took = time.monotonic() - began
            self.assertEqual(status, 0, run.output())
            said = int((scratch / "run" / "logs" / "attempt-001" / "rank-0000.out").read_text())
            reports, lost, gaps = self.tally(run)
            size = (scratch / "run" / "journal" / "data.mdb").stat().st_size
            print(f"flood: {said} steps in {took:.1f} s, {reports} reports in the journal, {lost} lost in {gaps} gaps, "
                  f"{size >> 20} MiB, most memory in kB {most}")
            self.assertLess(took, self.seconds + 10, "time to the end")
            for name, kb in most.items():
                self.assertLess(kb, RSS_MAX_KB, f"memory of {name}")
            # A step is a report, and so is the phase that the first one entered.
            self.assertGreaterEqual(reports, 8192)
            self.assertEqual(reports + lost, said + 1)
            self.assertEqual(list(pathlib.Path("/dev/shm").glob(f"holdfast-{self.run_id[:16]}*")), [])

    def tally(self, run):
        """(reports, reports in gaps, gaps) of rank 0, in order, of a journal too long to hold."""
        ring_seq = re.compile(r'"ring_seq":(\d+)')
        expected, reports, lost, gaps = 1, 0, 0, 0
        with subprocess.Popen([self.tools.dump, run.directory / "journal"], stdout=subprocess.PIPE, text=True) as dump:
            for line in dump.stdout:
                if line.startswith('{"kind":"step"'):
                    found = int(ring_seq.search(line)[1])
                elif line.startswith('{"kind":"phase"'):
                    found = int(ring_seq.search(line)[1])
                elif line.startswith('{"kind":"gap"'):
                    gap = json.loads(line)
                    self.assertEqual(gap["first_ring_seq"], expected, "H3")
                    expected += gap["count"]
                    lost += gap["count"]
                    gaps += 1
                    continue
                else:
                    if line.startswith('{"kind":"run"'):
                        self.run_id = json.loads(line)["run_id"]
                    continue
                self.assertEqual(found, expected, "H3")
                expected += 1
                reports += 1
        self.assertEqual(dump.returncode, 0)
        return reports, lost, gaps

    def test_shout(self):
        with rig.Scratch() as scratch:
            line, total = 50_000_000, 200_000_000
            run = self.run_of(scratch, "shout", line, total)
            status, most = self.ends(run, 60.0)
            self.assertEqual(status, 0, run.output())
            logs = scratch / "run" / "logs" / "attempt-001"
            sizes = [(logs / f"rank-0000.{end}").stat().st_size for end in ("out", "err")]
            self.assertEqual(sum(sizes), total)
            with open(logs / "rank-0000.out", "rb") as out:
                self.assertEqual(out.read(line + 1), b"x" * line + b"\n")
            print(f"shout: memory in kB {most}")

    def test_mute(self):
        with rig.Scratch() as scratch:
            run = self.run_of(scratch, "mute", STEPS)
            status, _ = self.ends(run)
            self.assertEqual(status, 0, run.output())
            self.assertEqual(sorted(run.rows()), list(range(1, STEPS + 1)))

    def cut(self, size):
        with rig.Scratch() as scratch:
            run = self.run_of(scratch, "cut", size, 500)
            status, _ = self.ends(run)
            self.assertEqual(status, 0, run.output())
            self.assertEqual([step for step in range(1, 11) if step not in run.rows()], [])
            return [record["rank"] for record in run.of_kind("damage")]

    def test_cut_to_nothing(self):
        """Its pages are gone: to touch them is a SIGBUS, for everybody who maps them."""
        self.assertEqual(self.cut(0), [0])

    def test_cut_short(self):
        """The control words remain, the ring's end does not."""
        self.cut(4096)
        self.cut(200_000)

    def test_unlink(self):
        with rig.Scratch() as scratch:
            run = self.run_of(scratch, "unlink", STEPS)
            status, _ = self.ends(run)
            self.assertEqual(status, 0, run.output())
            self.assertEqual(sorted(run.rows()), list(range(1, STEPS + 1)))

    def test_announcements(self):
        """Checkpoints that are none: nobody waits for a FIFO to be written, reads a device to its end, or loads any."""
        with rig.Scratch() as scratch:
            os.mkfifo(scratch / "fifo")
            (scratch / "folder").mkdir()
            (scratch / "empty.safetensors").write_bytes(b"")
            (scratch / "short.safetensors").write_bytes(b"\xff" * 9)
            (scratch / "deep.safetensors").write_bytes((1 << 20).to_bytes(8, "little") + b"[" * (1 << 20))
            (scratch / "loop").symlink_to(scratch / "loop")
            (scratch / "good").write_bytes(b"good")
            paths = ["fifo", "folder", "/dev/zero", "/dev/tty", "/proc/kmsg", "loop", "nowhere", "\x01\x1b[2J\xff",
                     "x" * 3000, "empty.safetensors", "short.safetensors", "deep.safetensors", "good"]
            words = [path if path.startswith("/") else str(scratch / path) for path in paths]
            run = self.run_of(scratch, "announce", scratch / "enough", *words)

            def answered():
                for at in range(len(paths)):
                    run.wait_kind("rung", step=(at + 1) * 5, deadline_s=END_S)
                (scratch / "enough").touch()

            began = time.monotonic()
            status, most = self.ends(run, meanwhile=answered)
            print(f"announcements: {time.monotonic() - began:.1f} s, memory in kB {most}")
            self.assertEqual(status, 0, run.output())
            rungs = {record["step"]: record for record in run.of_kind("rung")}
            told = {path: rungs[(at + 1) * 5] for at, path in enumerate(paths)}
            for path in ("fifo", "folder", "/dev/zero", "/dev/tty", "/proc/kmsg", "loop", "nowhere"):
                self.assertNotEqual(told[path]["error"], 0, path)
            # Control: a file that is one has a digest.
            self.assertEqual((told["good"]["error"], told["good"]["size_bytes"]), (0, 4))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("tests", nargs="*")
    words = parser.parse_args()
    Hostile.tools = rig.Tools(words.build)
    Hostile.seconds = words.seconds
    Hostile.seed = words.seed
    print(f"seed {words.seed}")
    loader = unittest.defaultTestLoader
    if words.tests:
        suite = unittest.TestSuite(Hostile(name) for name in words.tests)
    else:
        suite = loader.loadTestsFromTestCase(Hostile)
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite)
    return rig.ended(result)


if __name__ == "__main__":
    sys.exit(main())
