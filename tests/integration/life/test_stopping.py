"""Stopping and cleaning: who is asked and who is not, what is passed on, leaving the terminal, and processes that
hide or cannot be ended.

    test_stopping.py BUILD [TEST...]
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import life  # noqa: E402
import rig  # noqa: E402

# A trainer with two workers, as a data loader has them.  Asked to stop it needs them once more before it saves.
WITH_WORKERS = """
import os, signal, sys, time
out = open(sys.argv[1], "a", buffering=1)
workers = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        while True:
            time.sleep(60)
    workers.append(pid)
def lives(pid):
    return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] not in "ZX"
def stop(number, frame):
    out.write(f"stop workers={sum(map(lives, workers))}\\n")
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    sys.exit(0)
def user(number, frame):
    out.write(f"user {signal.Signals(number).name} workers={sum(map(lives, workers))}\\n")
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGUSR1, user)
signal.signal(signal.SIGUSR2, user)
out.write("ready\\n")
while True:
    time.sleep(60)
"""
THREAD_THAT_HANGS = """
import os, sys, threading, time
threading.Thread(target=open, args=(sys.argv[1],), daemon=True).start()
time.sleep(600)
"""


def state_of(pid):
    stat = rig.read_text(f"/proc/{pid}/stat")
    return stat[stat.rindex(b")") + 2 :].split()[0].decode() if stat else ""


def alive(pid):
    return rig.parent_of(pid) != 0


class Stopping(life.Life):
    def setUp(self):
        super().setUp()
        self.said = self.scratch / "said"
        self.said.touch()

    def lines(self, start=""):
        return [line for line in rig.read_text(self.said).decode().splitlines() if line.startswith(start)]

    def wait_lines(self, count, start=""):
        return rig.wait_for(lambda: len(self.lines(start)) >= count and self.lines(start), f"{count} lines {start!r}")

    def with_workers(self, **words):
        (self.scratch / "trainer.py").write_text(WITH_WORKERS)
        return self.run_of(sys.executable, self.scratch / "trainer.py", self.said, **words)

    # Who is asked.

    def test_leaders_only(self):
        """A trainer that is asked to stop still has its workers."""
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number=number):
                self.said.write_text("")
                run = self.with_workers(name=f"run-{number}", ranks=2, options=("--stop-timeout", "60s")).start()
                self.wait_lines(2, "ready")
                run.process.send_signal(number)
                self.assertEqual(run.wait(), 143, run.output())
                self.gone(run)
                self.assertEqual(self.lines("stop"), ["stop workers=2"] * 2)

    def test_user_signals(self):
        """SIGUSR1 and SIGUSR2 reach the ranks, and not their workers, which they would end."""
        run = self.with_workers(ranks=2).start()
        self.wait_lines(2, "ready")
        for count, name in ((2, "SIGUSR1"), (4, "SIGUSR2")):
            run.process.send_signal(getattr(signal, name))
            self.wait_lines(count, "user")
            self.assertEqual(self.lines("user")[count - 2 :], [f"user {name} workers=2"] * 2)
        verbs = [record["verb"] for record in run.of_kind("control")]
        self.assertEqual(verbs, ["usr1", "usr2"])
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.wait(), 143, run.output())
        self.gone(run)

    def test_user_signals_without_trainers(self):
        """Between attempts there is nobody to have them, and they end nothing."""
        run = self.shell("exit 9", options=("--first-tries", "9", "--backoff-first", "30s")).start()
        run.wait_kind("start", attempt=2)
        run.wait_kind("clear", attempt=2)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            run.process.send_signal(number)
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.wait(), 143, run.output())
        self.gone(run)
        self.assertEqual([record["verb"] for record in run.of_kind("control")], ["stop"])

    def test_hangup_disposition(self):
        """The agent ignores SIGHUP; a trainer does as the shell, or nohup, had it (H12)."""
        for ignored in (False, True):
            with self.subTest(ignored=ignored):
                before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
                try:
                    run = self.shell("sleep 60", name=f"run-{ignored}").start()
                finally:
                    signal.signal(signal.SIGHUP, before)
                status = rig.read_text(f"/proc/{run.rank_pid(0)}/status").decode()
                mask = int(re.search(r"^SigIgn:\s*(\w+)", status, re.MULTILINE)[1], 16)
                self.assertEqual(bool(mask & 1), ignored)
                run.process.send_signal(signal.SIGHUP)
                run.process.send_signal(signal.SIGTERM)
                self.assertEqual(run.wait(), 143, run.output())

    # Leaving the terminal.

    def detached(self, *words, name="run", **more):
        directory = self.scratch / name
        done = subprocess.run(
            [self.tools.holdfast, "run", "--detach", "-d", directory, *life.QUICK, *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=rig.DEADLINE_S, check=False,
            env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"), **more)
        return directory, done

    def test_detach(self):
        script = f"echo $$ >>{self.said}; exec sleep 600"
        directory, done = self.detached("--json", "--", "sh", "-c", script)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        answer = json.loads(done.stdout)
        pid = answer["pid"]
        try:
            self.assertEqual(answer["run_directory"], str(directory.resolve()))
            log = pathlib.Path(answer["log"])
            self.assertEqual(os.getsid(pid), pid)
            (trainer,) = self.wait_lines(1)
            self.assertTrue(alive(int(trainer)))
            for number, target in ((0, os.devnull), (1, str(log)), (2, str(log))):
                self.assertEqual(os.readlink(f"/proc/{pid}/fd/{number}"), target)
            # What is refused is said to who asks, and nothing else happens.
            again = self.detached("--", "sh", "-c", script)[1]
            self.assertEqual((again.returncode, again.stdout), (75, ""))
            self.assertRegex(again.stderr, rf"\Aholdfast: .*in use by a live run, pid {pid};.*\n\Z")
        finally:
            os.kill(pid, signal.SIGTERM)
            rig.wait_for(lambda: not alive(pid), "end of the run")
        self.assertFalse(alive(int(trainer)))
        kinds = [json.loads(line)["kind"] for line in log.read_text().splitlines()]
        self.assertEqual((kinds[0], kinds[-1]), ("run", "end"))

    def test_detach_does_not_come_up(self):
        for words, code, reason in ((("--", "no-such-command-here"), 127, "could not be started"),
                                    (("--shm-dir", "/no/such", "--", "true"), 78, "no shared memory"),
                                    (("-n", "0", "--", "true"), 64, "not a number")):
            with self.subTest(words):
                directory, done = self.detached(*words, name=f"run-{code}")
                self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
                self.assertIn(reason, done.stderr)
                self.assertEqual((directory / "logs" / "holdfast.log").exists(), code == 127)

    def test_detach_unheard(self):
        """Interrupted before it could say the run's pid, it leaves no run that nobody knows of."""
        script = f"echo $$ >>{self.said}; exec sleep 600"
        directory = self.scratch / "run"
        process = subprocess.Popen(
            [self.tools.holdfast, "run", "--detach", "-d", directory, *life.QUICK, "--", "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
        process.send_signal(signal.SIGKILL)
        process.wait(rig.DEADLINE_S)

        def over():
            found = subprocess.run([self.tools.holdfast, "status", "--json", directory], capture_output=True, text=True,
                                   timeout=rig.DEADLINE_S, check=False)
            return not directory.exists() or found.returncode != 0 or json.loads(found.stdout)["state"] == "ended"

        rig.wait_for(over, "end of the run")
        self.assertEqual([pid for pid in self.lines() if alive(int(pid))], [])

    # Who hides, and who cannot be ended.

    def test_changed_environment(self):
        """A grandchild in a session of its own, an orphan, with another environment: gone before the next attempt."""
        daemon = f"(setsid env -i /bin/sh -c 'trap \"\" TERM HUP INT; echo $$ >>{self.said}; exec /bin/sleep 600' &)"
        script = (f"for pid in $(cat {self.said}); do kill -0 $pid 2>/dev/null && exit 44; done; {daemon}; "
                  f"while [ $(wc -l <{self.said}) -le $TORCHELASTIC_RESTART_COUNT ]; do sleep 0.01; done; "
                  "[ $TORCHELASTIC_RESTART_COUNT = 2 ] && exit 0; exit 1")
        run = self.shell(script, options=("--first-tries", "5")).start()
        self.assertEqual(run.wait(), 0, run.output())
        self.gone(run)
        self.assertEqual([pid for pid in self.lines() if alive(int(pid))], [])
        self.assertEqual(len(self.lines()), 3)

    def silent_fs(self):
        directory = self.scratch / "silent"
        directory.mkdir()
        process = subprocess.Popen([sys.executable, HERE / "silent_fs.py", directory], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
        said = process.stdout.readline().strip()
        if said != "ready":
            process.stdin.close()
            process.wait(rig.DEADLINE_S)
            process.stdout.close()
            self.skipTest(f"no file system of our own here: {said}")

        def end():
            process.stdin.close()
            process.wait(rig.DEADLINE_S)
            process.stdout.close()

        self.addCleanup(lambda: process.poll() is None and end())
        return directory / "file", process.stdout, end

    def explained(self, run, pid, where):
        """why names the process and what the kernel does with it."""
        run.settle()
        (clear,) = [record for record in run.of_kind("clear") if record["stuck"]]
        self.assertEqual((clear["stuck_pid"], clear["stuck_state"]), (pid, "D"))
        why = subprocess.run([self.tools.holdfast, "why", run.directory], capture_output=True, text=True,
                             timeout=rig.DEADLINE_S, check=True).stdout
        self.assertRegex(why, rf"stuck +process {pid} \(.+\) of attempt 1 cannot be ended: the kernel holds it"
                         + (f" in {where}" if where else ""))
        self.assertEqual(run.of_kind("end")[-1]["reason"], "stuck")

    def hung(self, pid, asked):
        self.assertEqual(asked.readline(), "asked\n")
        where = rig.read_text(f"/proc/{pid}/wchan").decode()
        return "" if where == "0" else where

    def test_stuck_rank(self):
        """A rank that waits for a file system that does not answer: asked to stop, the run ends in time, says which
        process is left, and starts nothing beside it (H6)."""
        file, asked, end = self.silent_fs()
        run = self.shell(f"test $TORCHELASTIC_RESTART_COUNT = 0 && read line <{file}; exit 0",
                         options=("--stop-timeout", "500ms", "--clear-timeout", "1s")).start()
        pid = run.rank_pid(0)
        where = self.hung(pid, asked)
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.wait(), 75, run.output())
        self.explained(run, pid, where)
        self.assertEqual(state_of(pid), "D")
        # As long as it is there the same command does not start beside it.
        run.start()
        self.assertEqual(run.wait(), 75, run.output())
        end()
        rig.wait_for(lambda: not alive(pid), "end of the process that hung")
        run.start()
        self.assertEqual(run.wait(), 0, run.output())
        self.gone(run)

    def test_stuck_stall(self):
        """The same found as a stall: neither taking its stacks nor ending it holds anybody up."""
        file, asked, end = self.silent_fs()
        run = self.shell(f"read line <{file}", options=(
            "--stall-first", "1s", "--capture-timeout", "1s", "--clear-timeout", "1s")).start()
        pid = run.rank_pid(0)
        where = self.hung(pid, asked)
        self.assertEqual(run.wait(), 75, run.output())
        self.explained(run, pid, where)
        self.assertEqual(run.of_kind("fault")[0]["fault"], "stall-idle")
        end()

    def test_stuck_thread(self):
        """A daemon whose first thread is gone while another hangs is no zombie."""
        file, asked, end = self.silent_fs()
        (self.scratch / "hang.py").write_text(THREAD_THAT_HANGS)
        run = self.shell(f"setsid {sys.executable} {self.scratch}/hang.py {file} & echo $! >{self.said}; "
                         f"while [ ! -e {self.scratch}/go ]; do sleep 0.01; done; exit 3",
                         options=("--clear-timeout", "1s")).start()
        self.assertEqual(asked.readline(), "asked\n")
        (self.scratch / "go").touch()
        self.assertEqual(run.wait(), 75, run.output())
        self.explained(run, int(self.lines()[0]), "")
        end()


if __name__ == "__main__":
    sys.exit(life.main(Stopping))
