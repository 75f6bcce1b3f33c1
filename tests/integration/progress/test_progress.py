"""A program that nobody wrote for a supervisor is followed by what it prints: its iterations are in the journal, and
what goes wrong with them is noticed.  No output holds anybody up or makes anybody grow.

    test_progress.py BUILD [TEST...]
"""

import fcntl
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import termios

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "life"))
import life  # noqa: E402
import rig  # noqa: E402

TALKER = HERE / "talker.py"
PIPE_BYTES = 65536
WRITE_NUMBER = {"x86_64": 1}.get(os.uname().machine, 64)  # of the system call
RSS_MAX_MIB = 64  # of agent and logger; what they are given passes hundreds


def waiting(fd):
    """Bytes that lie in a pipe."""
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]


def resident_mib(pid):
    for line in rig.read_text(f"/proc/{pid}/status").decode(errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0


class Progress(life.Life):
    def talk(self, what, *words, **more):
        return self.run_of(sys.executable, TALKER, what, *words, **more)

    def logger_pid(self, run):
        def find():
            for pid in rig.children_of(run.agent_pid):
                if b"helper-logger" in rig.read_text(f"/proc/{pid}/cmdline").split(b"\0"):
                    return pid
            return None

        return rig.wait_for(find, "logger")

    def writes(self, pid):
        """Whether a process is held up by a write."""
        return rig.read_text(f"/proc/{pid}/syscall").startswith(b"%d " % WRITE_NUMBER)

    def done(self, run, status=0):
        self.assertEqual(run.wait(), status, run.output())
        self.gone(run)

    def steps(self, run):
        return sorted(run.rows())

    def read_from(self, run):
        """(rank, format) of what was said to be read, in the order in which it was."""
        return [(record["rank"], record["format"]) for record in run.of_kind("progress")]

    def holdfast(self, *words):
        return subprocess.run([str(self.tools.holdfast), *map(str, words)], capture_output=True, text=True,
                              timeout=rig.DEADLINE_S, check=False)

    def test_nanogpt(self):
        run = self.talk("nanogpt", "--steps", 200).start()
        self.done(run)
        self.assertEqual(self.steps(run), list(range(0, 200, 10)))
        self.assertEqual(self.read_from(run), [(0, "nanogpt")])
        row = run.rows()[190]
        self.assertEqual((row["loss"], row["fields"], row["present_count"]), (3.81, ["loss"], 1))
        phases = [(record["previous"], record["phase"]) for record in run.of_kind("phase")]
        self.assertEqual(phases[:3], [("init", "step"), ("step", "evaluation"), ("evaluation", "step")])
        shown = self.holdfast("status", run.directory)
        self.assertRegex(shown.stdout, r"(?m)^progress +nanoGPT lines of rank 0$")
        self.assertRegex(shown.stdout, r"(?m)^committed +20 iterations that were printed")
        now = json.loads(self.holdfast("status", "--json", run.directory).stdout)
        self.assertEqual((now["progress"], now["progress_rank"], now["high_step"]), ("nanogpt", 0, 190))
        self.assertEqual(self.holdfast("log", run.directory).stdout.count("\n"), 21)

    def test_not_finite(self):
        run = self.talk("nanogpt", "--steps", 200, "--bad", 120).start()
        self.done(run)
        (fault,) = run.of_kind("fault")
        self.assertEqual((fault["fault"], fault["onset_step"], fault["rank"]), ("not-finite", 120, 0))
        self.assertEqual(len(run.of_kind("start")), 2)
        self.assertEqual(self.steps(run), list(range(0, 200, 10)))
        self.assertEqual(run.rows()[120]["loss"], 3.88)
        (recovered,) = run.of_kind("recovered")
        self.assertGreaterEqual(recovered["step"], 120)

    def test_stall(self):
        run = self.talk("stuck", "--steps", 40, options=("--stall-silent", "3s")).start()
        fault = run.wait_kind("fault")
        self.assertIn(fault["fault"], ("stall-idle", "stall"))
        self.done(run)
        self.assertEqual(self.steps(run), list(range(1, 41)))

    def test_first_rank_only(self):
        run = self.talk("ranks", ranks=3).start()
        self.done(run)
        (said,) = self.read_from(run)
        self.assertEqual(said[1], "keys")
        self.assertNotEqual(said[0], 1)
        self.assertEqual(self.steps(run), list(range(1, 101)))
        for row in run.rows().values():
            present = [rank for rank, cell in enumerate(row["cells"]) if "present" in cell["flags"]]
            self.assertEqual(present, [said[0]])

    def test_library_comes_first(self):
        """A trainer that reports by itself is not reported a second time for what it prints."""
        checkpoints = self.scratch / "checkpoints"
        checkpoints.mkdir()
        run = self.run_of("sh", "-c", 'step=0; while [ $step -lt 20 ]; do step=$((step + 1)); '
                          'echo "step=$step loss=1" >&2; done; exec "$@"', "sh", self.tools.trainer, "pretrain",
                          "--output", self.scratch / "out.safetensors", "--steps", 30, "--checkpoints", checkpoints,
                          "--checkpoint-every", 0, *life.MODEL, "--log-every", 1, name="both",
                          options=("--progress", "none")).start()
        self.done(run)
        self.assertEqual(self.steps(run), list(range(1, 31)))
        lines = self.run_of(self.tools.trainer, "pretrain", "--output", self.scratch / "out.safetensors", "--steps",
                            30, "--checkpoints", checkpoints, "--checkpoint-every", 0, *life.MODEL, "--log-every", 1,
                            ranks=2).start()
        self.done(lines)
        self.assertEqual(self.steps(lines), list(range(1, 31)))
        self.assertEqual(lines.of_kind("progress"), [])
        self.assertTrue(all(row["present_count"] == 2 for row in lines.rows().values()))

    def test_closed_output(self):
        run = self.talk("bar", "--steps", 60).start()
        self.done(run)
        self.assertEqual(self.read_from(run), [(0, "bar")])
        self.assertEqual(self.steps(run), list(range(1, 61)))

    def test_flood(self):
        run = self.talk("flood").start()
        run.wait_kind("started")
        logger = self.logger_pid(run)
        sizes = {}
        while run.process.poll() is None:
            for name, pid in (("agent", run.agent_pid), ("logger", logger)):
                sizes[name] = max(sizes.get(name, 0), resident_mib(pid))
            try:
                run.process.wait(0.05)
            except subprocess.TimeoutExpired:
                pass
        self.done(run)
        said = (run.directory / "logs" / "attempt-001" / "rank-0000.err").read_text()
        written, steps = int(said.split()[1]), int(said.split()[4])
        print(f"{written / 1e6:.0f} MB, {steps} steps, resident {sizes} MiB")
        self.assertEqual(self.steps(run), list(range(1, steps + 1)))
        self.assertLess(max(sizes.values()), RSS_MAX_MIB)

    def test_file(self):
        path = self.scratch / "progress.txt"
        path.write_text("step=1 loss=7\nstep=2 loss=7\nstep=900 loss=7\n")
        run = self.talk("appended", "--file", path, "--steps", 50, "--step-ms", 20,
                        options=("--progress", f"file:{path}")).start()
        self.done(run)
        self.assertEqual(self.read_from(run), [(0, "keys")])
        # Whoever opens the file at once may be quicker than the first look at it.
        self.assertEqual(self.steps(run)[-20:], list(range(31, 51)))
        self.assertNotIn(900, run.rows())

    def test_last_words(self):
        """An end waits for what was printed before it, when those who read it are held up."""
        folder = self.scratch / "run" / "logs" / "attempt-002"
        run = self.talk("held", "--file", folder.parent, "--steps", 20, "--step-ms", 0,
                        options=("--first-tries", "3")).start()
        rig.wait_for((folder / "rank-0000.out").exists, "the log")
        log = os.open(folder / "rank-0000.out", os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, log)
        (folder / "ready").touch()
        rig.wait_for(lambda: waiting(log) >= PIPE_BYTES // 2 and self.writes(self.logger_pid(run)),
                     "a log that takes no more")
        pid = run.rank_pid(0)
        (folder / "held").touch()
        rig.wait_for(lambda: not rig.parent_of(pid), "the trainer's end")
        # Whoever does not wait for its last words is through with it now.
        try:
            run.wait_kind("exit", attempt=2, deadline_s=0.3)
        except rig.Late:
            pass
        os.set_blocking(log, True)
        while os.read(log, PIPE_BYTES):
            pass
        self.done(run)
        self.assertEqual(self.steps(run), list(range(1, 41)))

    def test_notify(self):
        run = self.talk("notify", "--steps", 40, "--step-ms", 10).start()
        self.done(run)
        self.assertEqual(self.read_from(run), [(0, "words")])
        self.assertEqual(self.steps(run), list(range(1, 41)))
        self.assertEqual([(record["previous"], record["phase"]) for record in run.of_kind("phase")], [("init", "step")])

    def test_pattern(self):
        run = self.talk("hard", "--steps", 1000, "--step-ms", 20,
                        options=("--progress", r"^(a+)+$|^step (?<step>\d+) loss (?<loss>\S+)")).start()
        self.done(run)
        self.assertEqual(self.read_from(run), [(0, "pattern")])
        # Those that came when there was no time left are not looked at; the rest are there.
        self.assertTrue(set(self.steps(run)) <= set(range(20, 1001, 20)))
        log = (run.directory / "logs" / "attempt-001" / "rank-0000.out").read_text()
        self.assertEqual(log.count("[holdfast: the --progress pattern takes too long"), 1)
        self.assertEqual(log.count("loss 0.5"), 50)

    def test_bad_pattern(self):
        for words, said in ((["("], "at byte 1 of the pattern: missing closing parenthesis"),
                            (["loss (?<loss>.*)"], "no group is named step"), (["file:"], "names no file")):
            with self.subTest(words):
                done = self.holdfast("run", "--dir", self.scratch / "none", "--progress", *words, "--", "true")
                self.assertEqual(done.returncode, 64)
                self.assertRegex(done.stderr, r"\Aholdfast: run: --progress.*\n\Z")
                self.assertIn(said, done.stderr)
                self.assertFalse((self.scratch / "none").exists())

    def test_none(self):
        run = self.talk("nanogpt", "--steps", 100, options=("--progress", "none")).start()
        self.done(run)
        self.assertEqual((self.steps(run), self.read_from(run)), ([], []))

    def test_logger_replaced(self):
        """Killed three times, it goes on where it was: what was read and not recognised is lost, and nothing twice."""
        run = self.talk("keys", "--steps", 400).start()
        for step in (50, 120, 200):
            run.wait_step(step)
            os.kill(self.logger_pid(run), signal.SIGKILL)
        self.done(run)
        steps = self.steps(run)
        self.assertEqual(steps[-1], 400)
        self.assertGreater(len(steps), 300)
        self.assertEqual(len(run.of_kind("start")), 1)
        self.assertEqual([record for record in run.of_kind("step") if "again" in record["flags"]], [])


if __name__ == "__main__":
    sys.exit(life.main(Progress))
