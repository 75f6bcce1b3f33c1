"""However a run ends, nothing of it is left: no process, no shared memory, no socket; and its exit code says how.

    test_endings.py BUILD [TEST...]
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import life  # noqa: E402
import rig  # noqa: E402

STEPS = 120
# A child in a session of its own, deaf to signals that ask; it says its pid, and its parent goes on.
WAIT = "while [ $(wc -l <{file}) -lt {count} ]; do sleep 0.01; done; "
DAEMON = "setsid sh -c 'trap \"\" TERM HUP INT; echo $$ >>{file}; exec sleep 600' & "


def alive(pid):
    return rig.parent_of(pid) != 0


class Endings(life.Life):
    def setUp(self):
        super().setUp()
        (self.scratch / "pids").touch()

    def daemons(self, count=1):
        """Pids that DAEMON wrote."""
        path = self.scratch / "pids"
        rig.wait_for(lambda: rig.read_text(path).count(b"\n") >= count, "daemon")
        return [int(word) for word in rig.read_text(path).split()]

    def test_done(self):
        script = (DAEMON + WAIT + "exit 0").format(file=self.scratch / "pids", count=2)
        run = self.shell(script, ranks=2).start()
        self.assertEqual(run.wait(), 0, run.output())
        self.gone(run)
        self.assertEqual([pid for pid in self.daemons(2) if alive(pid)], [])

    def test_stop_continue(self):
        """Stopped by the command, a training saves a checkpoint; the same command again ends where an undisturbed
        one does, bit for bit, although its memory is gone."""
        undisturbed = self.training(STEPS, "undisturbed").start()
        self.assertEqual(undisturbed.wait(), 0, undisturbed.output())
        undisturbed.settle()
        run = self.training(STEPS).start()
        run.wait_step(STEPS // 2 + 3)
        done = subprocess.run([self.tools.holdfast, "stop", "--wait", run.directory], capture_output=True, text=True,
                              timeout=rig.DEADLINE_S, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        status = run.wait()
        self.assertEqual(status, 143, run.output())
        self.gone(run)
        last = max(run.rows())
        self.assertLess(last, STEPS)
        saved = [record["step"] for record in run.of_kind("saved")]
        self.assertIn(last, saved, "a checkpoint of the last step")
        run.start()
        self.assertEqual(run.wait(), 0, run.output())
        self.gone(run)
        self.assertEqual(run.of_kind("start")[-1]["source"], "file")
        self.assertEqual(run.of_kind("start")[-1]["step"], last)
        self.assertEqual(self.outcome(run, "run", STEPS), self.outcome(undisturbed, "undisturbed", STEPS))

    def test_signals(self):
        """Asked once, the trainers have their time to end; asked twice, it is at once; three times, without anybody's
        advice.  All of it with trainers that do not listen."""
        script = DAEMON.format(file=self.scratch / "pids") + "trap '' TERM INT; while :; do sleep 0.05; done"
        for number, times, grace, at_most_s in ((signal.SIGTERM, 1, "1s", 8), (signal.SIGINT, 2, "60s", 8),
                                                (signal.SIGINT, 3, "60s", 8)):
            with self.subTest(number=number, times=times):
                (self.scratch / "pids").write_text("")
                run = self.shell(script, name=f"run-{number}-{times}", options=("--stop-timeout", grace)).start()
                run.wait_kind("started")
                daemons = self.daemons()
                began = time.monotonic()
                for _ in range(times):
                    run.process.send_signal(number)
                    if times > 1:  # a signal that is still pending is not counted twice
                        rig.wait_for(lambda: not self.pending(run.agent_pid, number), "signal taken", 5)
                self.assertIn(run.wait(), (143, 128 + number), run.output())
                self.assertLess(time.monotonic() - began, at_most_s)
                run.settle()
                left = run.leftovers()
                self.assertEqual([one for one in left if isinstance(one, int)] + [p for p in daemons if alive(p)], [])
                if times == 3 and left:
                    # What memory holds is the next agent's, which brings the journal to its end.
                    run.start()
                    run.wait_kind("started", after=run.follower.mark())
                    for _ in range(2):
                        run.process.send_signal(signal.SIGTERM)
                        rig.wait_for(lambda: not self.pending(run.agent_pid, signal.SIGTERM), "signal taken", 5)
                    self.assertEqual(run.wait(), 143, run.output())
                self.gone(run)

    def pending(self, pid, number):
        for line in rig.read_text(f"/proc/{pid}/status").splitlines():
            if line.startswith((b"ShdPnd:", b"SigPnd:")) and int(line.split()[1], 16) >> (number - 1) & 1:
                return True
        return False

    def test_hangup(self):
        """A run outlives its terminal."""
        run = self.shell("sleep 0.7; exit 5", options=("--first-tries", "1")).start()
        run.wait_kind("started")
        for _ in range(3):
            run.process.send_signal(signal.SIGHUP)
            rig.wait_for(lambda: not self.pending(run.agent_pid, signal.SIGHUP), "signal taken", 5)
        self.assertIsNone(run.process.poll())
        self.assertEqual(run.wait(), 5, run.output())
        self.gone(run)

    def test_agent_killed(self):
        """With the agent dead its trainers are, too; continued, the rest goes as well."""
        run = self.training(STEPS).start()
        run.wait_step(STEPS // 3)
        ranks = [run.rank_pid(rank) for rank in range(2)]
        supervisor = run.supervisor_pid()
        run.kill_agent()
        rig.wait_for(lambda: not any(alive(pid) for pid in ranks + [supervisor]), "end of what the agent started", 10)
        run.start()
        self.assertEqual(run.wait(), 0, run.output())
        self.gone(run)
        self.assertEqual(sorted(run.rows()), list(range(1, STEPS + 1)))

    def test_agent_killed_daemon(self):
        """What hid from a dead agent is found by the next one, before anything is started (H6); but a command that
        is another run's touches nothing."""
        run = self.shell(DAEMON.format(file=self.scratch / "pids") + "sleep 600").start()
        run.wait_kind("started")
        (first,) = self.daemons()
        run.kill_agent()
        self.assertTrue(alive(first), "the test needs one that survives its agent")
        other = self.shell("exit 0").start(follow=False)
        self.assertEqual(other.wait(), 78, other.output())
        self.assertTrue(alive(first), "killed by a command that was refused")
        run.start()
        run.wait_kind("started", after=run.follower.mark(), deadline_s=20)
        self.assertFalse(alive(first), "alive beside the next attempt")
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.wait(), 143, run.output())
        self.gone(run)

    def test_given_up(self):
        """The trainer's own code, or that of its signal, is the run's."""
        for script, code in (("exit 3", 3), ("kill -SEGV $$", 128 + signal.SIGSEGV), ("exit 255", 255)):
            with self.subTest(script):
                (self.scratch / "pids").write_text("")
                whole = (DAEMON + WAIT).format(file=self.scratch / "pids", count=1) + script
                run = self.shell(whole, name=f"run-{code}").start()
                self.assertEqual(run.wait(), code, run.output())
                self.gone(run)
                self.assertEqual(len(run.of_kind("start")), 2, "two tries before a first step")
                self.assertEqual([pid for pid in self.daemons() if alive(pid)], [])

    def test_no_such_command(self):
        (self.scratch / "file").write_text("")
        (self.scratch / "broken").write_text("#!/no/such/interpreter\n")
        (self.scratch / "broken").chmod(0o755)
        for word, code in (("no-such-command-here", 127), (self.scratch / "none", 127), (self.scratch / "file", 126),
                           (self.scratch, 126), (self.scratch / "broken", 127)):
            with self.subTest(word):
                # A folder on PATH that may not be searched makes of "not found" a "permission denied".
                run = self.run_of(word, name=f"run-{pathlib.Path(word).name}",
                                  environment={"PATH": "/usr/bin:/bin"}).start()
                self.assertEqual(run.wait(), code, run.output())
                self.gone(run)
                # One line, also for those who wanted to hear of nothing but errors.
                self.assertRegex(run.output(), rf"\Aholdfast: .*exit status {code}.*holdfast why .*\n\Z")
                why = subprocess.run([self.tools.holdfast, "why", run.directory], capture_output=True, text=True,
                                     timeout=rig.DEADLINE_S, check=True).stdout
                self.assertIn("could not be started", why)

    def test_others_live_on(self):
        """What a job script put into the background before it called exec is not the run's to end."""
        script = f"sleep 600 >/dev/null 2>&1 & echo $! >{self.scratch / 'other'}; exec \"$@\""
        run = self.scratch / "run"
        done = subprocess.run(
            ["/bin/sh", "-c", script, "sh", self.tools.holdfast, "run", "--quiet", "-d", run, "--", "sh", "-c", "exit 3"],
            capture_output=True, text=True, timeout=rig.DEADLINE_S, check=False)  # fmt: skip
        other = int((self.scratch / "other").read_text())
        try:
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertTrue(alive(other))
        finally:
            os.kill(other, signal.SIGKILL)

    def test_daemons_between_attempts(self):
        """What called setsid is gone before the next attempt starts: each sees that nothing else lives."""
        script = (
            "for pid in $(cat {file}); do kill -0 $pid 2>/dev/null && echo $pid >>{alive}; done; "
            + DAEMON + "while [ $(wc -l <{file}) -le $TORCHELASTIC_RESTART_COUNT ]; do sleep 0.01; done; "
            "[ $TORCHELASTIC_RESTART_COUNT = 2 ] && exit 0; exit 1")
        run = self.shell(script.format(file=self.scratch / "pids", alive=self.scratch / "alive"),
                         options=("--first-tries", "5")).start()
        self.assertEqual(run.wait(), 0, run.output())
        self.gone(run)
        self.assertEqual(len(self.daemons(3)), 3)
        self.assertFalse((self.scratch / "alive").exists(), "somebody of an earlier attempt was alive")
        self.assertGreaterEqual(sum(record["swept"] for record in run.of_kind("clear")), 3)


if __name__ == "__main__":
    sys.exit(life.main(Endings))
