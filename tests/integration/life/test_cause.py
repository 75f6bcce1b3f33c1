"""Who is to blame: the rank that died first, not the one whose end was seen first; and for want of memory, that.

    test_cause.py BUILD [TEST...]
"""

import json
import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import life  # noqa: E402
import rig  # noqa: E402

# No trainer of ours: it links nothing, so that its end is known from its process only.
FAT_BYTES = 1 << 30
# The victim holds a gigabyte, which takes the kernel a while to free; its peer looks at it, and fails at once when it
# sees that it is dying, long before its process has ended.
FAT = f"""
import mmap, os, sys, time
me, victim = int(os.environ["RANK"]), int(sys.argv[1])
if me == victim:
    memory = mmap.mmap(-1, {FAT_BYTES})
    for at in range(0, {FAT_BYTES}, 4096):
        memory[at] = 1
    with open("pid.new", "w") as f:
        f.write(str(os.getpid()))
    os.rename("pid.new", "pid")
    time.sleep(600)
while not os.path.exists("pid"):
    time.sleep(0.01)
stat = open("/proc/" + open("pid").read() + "/stat", "rb", buffering=0)
open("watching", "w").close()
while True:
    stat.seek(0)
    fields = stat.read().rpartition(b")")[2].split()
    if fields[0] == b"Z" or fields[-1] != b"0":
        os._exit(1)
"""
# Both write their pid; the peer waits to be told to fail.
THIN = """
import os, signal, sys, time
with open("pid-" + os.environ["RANK"] + ".new", "w") as f:
    f.write(str(os.getpid()))
os.rename(f.name, f.name[:-4])
while not os.path.exists("fail") or os.environ["RANK"] == sys.argv[1]:
    time.sleep(0.005)
if sys.argv[2] == "abort":
    os.abort()
os._exit(1)
"""
# Rank 1 fails and takes long to end; rank 0 loses it at once, and ends first.
SLOW = """
import atexit, os, sys, time
if os.environ["RANK"] == "1":
    atexit.register(time.sleep, 600)
    sys.excepthook_before = sys.excepthook
    def excepthook(*words):
        sys.excepthook_before(*words)
        open("failed", "w").close()
    sys.excepthook = excepthook
    raise ValueError("a bad sample")
while not os.path.exists("failed"):
    time.sleep(0.01)
raise ConnectionResetError("Connection reset by peer")
"""
EAT = """
import os, time
if os.environ["RANK"] == "1":
    data = [b"x" * (1 << 20) for _ in range(1024)]
time.sleep(600)
"""
LIMIT_BYTES = 256 << 20


class Cause(life.Life):
    def two(self, script, *words, **more):
        """Two ranks of a Python script that is not run again."""
        path = self.scratch / "script.py"
        path.write_text(script)
        return self.run_of(sys.executable, path, *words, ranks=2, options=("--first-tries", "1"), **more)

    def blamed(self, run, rank, number):
        """The run was given up for the end of this rank by this signal, and `why` says so."""
        fault = run.wait_kind("fault")
        self.assertEqual((fault["rank"], fault["fault"], fault["detail"]), (rank, "signal", number), fault)
        self.assertEqual(run.wait(), 128 + number)
        self.gone(run)
        why = subprocess.run([self.tools.holdfast, "why", run.directory], capture_output=True, text=True,
                             timeout=rig.DEADLINE_S, check=False).stdout
        self.assertIn(f"rank {rank} was killed by {signal.Signals(number).name}", why)
        self.assertIn(f"rank {1 - rank} ended with exit status 1", why)

    def in_scratch(self):
        before = os.getcwd()
        os.chdir(self.scratch)
        self.addCleanup(os.chdir, before)

    def test_fat(self):
        """A gigabyte is being freed while the peer has failed and is gone."""
        self.in_scratch()
        for victim in (0, 1):
            with self.subTest(victim=victim):
                run = self.two(FAT, victim, name=f"run-{victim}").start()
                rig.wait_for((self.scratch / "watching").exists, "peer that watches")
                os.kill(int((self.scratch / "pid").read_text()), signal.SIGKILL)
                self.blamed(run, victim, signal.SIGKILL)
                for name in ("pid", "watching"):
                    (self.scratch / name).unlink()

    def together(self, victim, number, how):
        """Both ends are there when the agent looks again: reaped in the order of ranks, whatever came first."""
        for path in [*self.scratch.glob("pid-*"), *self.scratch.glob("fail")]:
            path.unlink()
        run = self.two(THIN, victim, how, name=f"run-{victim}-{number}-{how}").start()
        files = [self.scratch / f"pid-{rank}" for rank in (0, 1)]
        rig.wait_for(lambda: all(file.exists() for file in files), "pids")
        pids = [int(file.read_text()) for file in files]
        run.wait_kind("started", rank=1)
        os.kill(run.agent_pid, signal.SIGSTOP)
        os.kill(pids[victim], number)
        (self.scratch / "fail").touch()
        rig.wait_for(lambda: not any(map(rig.parent_of, pids)), "end of both")
        os.kill(run.agent_pid, signal.SIGCONT)
        return run

    def test_together(self):
        self.in_scratch()
        for victim in (0, 1):
            for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
                with self.subTest(victim=victim, number=number):
                    self.blamed(self.together(victim, number, "exit"), victim, number)
            with self.subTest(victim=victim, peer="abort"):
                fault = self.together(victim, signal.SIGKILL, "abort").wait_kind("fault")
                self.assertEqual((fault["rank"], fault["detail"]), (victim, signal.SIGKILL))

    def test_failed_first(self):
        """The control: nobody was killed, so who failed is to blame."""
        self.in_scratch()
        run = self.two(THIN, 0, "exit").start()
        rig.wait_for((self.scratch / "pid-1").exists, "pid")
        (self.scratch / "fail").touch()
        fault = run.wait_kind("fault")
        self.assertEqual((fault["rank"], fault["fault"], fault["detail"]), (1, "exit", 1))
        self.assertEqual(run.wait(), 1)

    def test_slow_to_end(self):
        """Who ended first met only what the other's failure left behind, and that is said."""
        self.in_scratch()
        run = self.two(SLOW).start()
        self.assertEqual(run.wait(), 1)
        why = subprocess.run([self.tools.holdfast, "why", run.directory], capture_output=True, text=True,
                             timeout=rig.DEADLINE_S, check=False).stdout
        self.assertIn("error      ConnectionResetError: Connection reset by peer", why)
        self.assertIn("rank 1 failed, too, and that is the likely cause: ValueError: a bad sample", why)

    # Memory.

    def group(self):
        """A control group of version 1 or 2 with little memory, or None where none can be made."""
        name = f"holdfast-test-{os.getpid()}"
        for root, limit, swap in (("/sys/fs/cgroup", "memory.max", "memory.swap.max"),
                                  ("/sys/fs/cgroup/unified", "memory.max", "memory.swap.max"),
                                  ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes")):
            path = pathlib.Path(root) / name
            try:
                if not (path.parent / "cgroup.procs").exists():
                    continue
                path.mkdir()
                self.addCleanup(path.rmdir)
                if not (path / limit).exists():
                    continue
                (path / limit).write_text(str(LIMIT_BYTES))
            except OSError:
                continue
            if (path / swap).exists():
                (path / swap).write_text("0" if limit == "memory.max" else str(LIMIT_BYTES))
            return path
        return None

    def test_out_of_memory(self):
        group = self.group()
        if group is None:
            self.skipTest("no control group with a limit can be made here")
        path = self.scratch / "eat.py"
        path.write_text(EAT)
        # The shell enters the group and becomes holdfast.
        enter = f"echo $$ >{group}/cgroup.procs && exec \"$0\" \"$@\""
        done = subprocess.run(
            ["sh", "-c", enter, self.tools.holdfast, "run", "--quiet", "-n", "2", "-d", self.scratch / "run",
             "--first-tries", "1", "--", sys.executable, path], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=rig.DEADLINE_S, check=False, env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
        self.assertEqual(done.returncode, 128 + signal.SIGKILL, done.stderr)
        dump = subprocess.run([self.tools.dump, self.scratch / "run" / "journal"], capture_output=True, text=True,
                              timeout=rig.DEADLINE_S, check=True)
        records = [json.loads(line) for line in dump.stdout.splitlines()]
        fault = next(r for r in records if r["kind"] == "fault")
        self.assertEqual((fault["rank"], fault["fault"]), (1, "out-of-memory"))
        ends = {r["rank"]: r["oom_killed"] for r in records if r["kind"] == "exit"}
        self.assertEqual(ends, {0: "no", 1: "certain"})
        why = subprocess.run([self.tools.holdfast, "why", self.scratch / "run"], capture_output=True, text=True,
                             timeout=rig.DEADLINE_S, check=False).stdout
        self.assertIn("rank 1 was killed by the kernel because memory ran out", why)
        self.assertIn("known      by the kernel's count", why)


if __name__ == "__main__":
    sys.exit(life.main(Cause))
