"""A rank that is forked from the warm interpreter is what a rank of its own would have been (H12), and ends as it
would; and whatever keeps an interpreter from being warm keeps no run from going on.

    test_warm.py BUILD [TEST...]
"""

import os
import signal
import subprocess
import sys
import zipfile

import warming
from warming import HERE, PYTHON, comparable, life, rig

MODULES = "json,decimal,xml.dom.minidom"

# Of each: the same from a start of its own and from the warm interpreter, the status and every word.
ENDINGS = {
    "exception": "def f():\n    raise KeyError('a')\nf()\n",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError(2) from e\n",
    "syntax": "a = (\n",
    "exit": "import sys\nsys.exit(3)\n",
    "exit_text": "import sys\nsys.exit('because')\n",
    "exit_none": "raise SystemExit\n",
    "interrupt": "raise KeyboardInterrupt\n",
    "at_once": "import os\nos._exit(9)\n",
    "killed": "import os\nos.kill(os.getpid(), 9)\n",
    "abort": "import os\nos.abort()\n",
    "atexit": "import atexit\natexit.register(print, 'last')\nprint('first')\n",
    "thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()\n",
    "unflushed": "import sys\nsys.stdout.write('no end of line')\n",
    "stderr": "import sys\nprint('out')\nprint('err', file=sys.stderr)\n",
    "input": "print(repr(input()))\n",
    "child": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', "
             "'import sys; print(sys.path, sys.modules.get(\"sitecustomize\"))'], check=True)\n",
    "pool": "import multiprocessing\nif __name__ == '__main__':\n"
            "    with multiprocessing.get_context('spawn').Pool(2) as pool:\n        print(pool.map(abs, [-1, 2]))\n",
    "pickle": "import pickle\nclass A: pass\nprint(pickle.loads(pickle.dumps(A())).__class__ is A, A.__module__)\n",
}


class Same(warming.Warm):
    def both(self, *words, ranks=1, **rest):
        """What given.py says from a cold start and from a warm one."""
        said = []
        for modules in (None, MODULES):
            run = self.python(*words, modules=modules, name=f"run-{modules is None}", ranks=ranks, **rest)
            self.finished(run)
            self.assertEqual(self.warmth(run), [int(modules is not None)] * ranks, run.output())
            said.append([comparable(self.output(run, rank=rank), run) for rank in range(ranks)])
        return said

    def assert_same(self, *words, **rest):
        cold, warm = self.both(*words, **rest)
        for one, other in zip(cold, warm):
            # Control: what is compared is there, and is what a rank has.
            self.assertTrue(one["parent"] and one["leader"] and one["death_signal"] == signal.SIGKILL, one)
            self.assertIn("RANK=0" if one is cold[0] else "RANK=1", one["environ"])
            for field in one:
                self.assertEqual(other[field], one[field], field)

    def test_script(self):
        self.assert_same(HERE / "given.py", "--a", "", "b c", "é", ranks=2)

    def test_relative(self):
        """The name of the script as it is written, and a link to it."""
        link = self.scratch / "linked.py"
        link.symlink_to(HERE / "given.py")
        self.assert_same(os.path.relpath(link))

    def test_module(self):
        self.assert_same("-m", "given", "--a", environment={"PYTHONPATH": str(HERE)})

    def test_code(self):
        self.assert_same("-c", (HERE / "given.py").read_text(), "-c", "x")

    def test_folder(self):
        (self.scratch / "folder").mkdir()
        self.write("folder/__main__.py", (HERE / "given.py").read_text())
        self.assert_same(self.scratch / "folder", "-x")

    def test_archive(self):
        with zipfile.ZipFile(self.scratch / "a.zip", "w") as archive:
            archive.writestr("__main__.py", (HERE / "given.py").read_text())
        self.assert_same(self.scratch / "a.zip")

    def test_options(self):
        self.assert_same("-uO", "-B", "-W", "error", "-Xutf8", "-X", "dev", HERE / "given.py")

    def test_buffered(self):
        """Without PYTHONUNBUFFERED being set by us, as somebody may have it."""
        self.assert_same(HERE / "given.py", environment={"PYTHONUNBUFFERED": ""})

    def test_search_path(self):
        self.assert_same(HERE / "given.py", environment={"PYTHONPATH": f"{self.scratch}:/nowhere:"})

    def test_own_sitecustomize(self):
        """Somebody's own sitecustomize runs, once, as it would."""
        self.write("sitecustomize.py", "import sys\nsys.customized = getattr(sys, 'customized', 0) + 1\n")
        self.assert_same(HERE / "given.py", environment={"PYTHONPATH": str(self.scratch)})

    def test_broken_sitecustomize(self):
        self.write("sitecustomize.py", "raise ValueError(1)\n")
        self.assert_same(HERE / "given.py", environment={"PYTHONPATH": str(self.scratch)})

    def test_surroundings(self):
        """Mask, ignored signals, limits and extra descriptors, as a shell may have left them."""
        said = []
        with open("/dev/zero", "rb") as zero:
            extra = os.dup2(zero.fileno(), 3 if zero.fileno() != 3 else 4)
            high = os.dup2(zero.fileno(), 150)
            for name, words in (("cold", []), ("warm", ["--warm", MODULES])):
                run = self.scratch / name
                done = subprocess.run(
                    ["sh", "-c", "ulimit -n 200; ulimit -c 0; umask 027; trap '' USR1 QUIT; exec \"$@\"", "sh",
                     self.tools.holdfast, "run", "--quiet", "-d", run, *words, "--", PYTHON, HERE / "given.py"],
                    pass_fds=(extra, high), timeout=rig.DEADLINE_S, capture_output=True, text=True, check=False,
                    preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2}))
                self.assertEqual(done.returncode, 0, done.stderr)
                text = (run / "logs/attempt-001/rank-0000.out").read_text()
                said.append({k: v for k, v in warming.json.loads(text).items()
                             if k in ("descriptors", "status", "handlers", "limits", "umask", "nice", "scheduler")})
            os.close(extra)
            os.close(high)
        self.assertEqual(said[0]["limits"]["RLIMIT_NOFILE"][0], 200)
        self.assertIn("150", said[0]["descriptors"])
        for field in said[0]:
            self.assertEqual(said[1][field], said[0][field], field)

    def test_endings(self):
        for name, text in ENDINGS.items():
            with self.subTest(name):
                script = self.write(f"{name}.py", text)
                ends = []
                for modules in (None, MODULES):
                    run = self.python(script, modules=modules, name=f"{name}-{modules is None}",
                                      options=["--first-tries", "1"])
                    run.start()
                    code = run.wait()
                    run.settle()
                    self.assertEqual(set(self.warmth(run)), {int(modules is not None)}, run.output())
                    ends.append([code, [r["wait_status"] for r in run.of_kind("exit")], self.output(run),
                                 self.output(run, "err")])
                self.assertEqual(ends[1], ends[0])

    def test_random(self):
        """Two starts draw different numbers."""
        script = self.write("draw.py", "import random, os\nprint(random.random(), os.urandom(4))\n")
        run = self.finished(self.python(script, modules="random", ranks=2))
        self.assertEqual(self.warmth(run), [1, 1])
        self.assertNotEqual(self.output(run, rank=0), self.output(run, rank=1))

    def test_imported(self):
        """The modules are there before the script asks for them, and see its folder and name when they are imported."""
        self.write("beside.py", "import sys, __main__, os\nname = __main__.__file__\nfirst = sys.path[0]\n"
                                "pid = os.getpid()\nranks = [n for n in os.environ if n.endswith('RANK')]\n")
        script = self.write("a.py", "import sys, os\nb = sys.modules['beside']\n"
                                    "print(b.name == __file__, b.first == sys.path[0], b.pid != os.getpid(), b.ranks)\n")
        run = self.finished(self.python(script, modules="beside"))
        self.assertEqual(self.output(run), "True True True ['GROUP_RANK']\n")


class Fallback(warming.Warm):
    def cold(self, modules, *words, said, **rest):
        run = self.finished(self.python(*words, modules=modules, **rest))
        self.assertEqual(set(self.warmth(run)), {0}, run.output())
        lines = [line for line in run.output().splitlines() if "--warm" in line]
        self.assertEqual(len(lines), 1, run.output())
        self.assertIn(said, lines[0])
        self.assertIn("cold", lines[0])
        # The script ran once, as a rank.
        self.assertEqual(self.output(run).count("ran"), 1)
        self.assertEqual((self.scratch / "runs").read_text(), "0\n")

    def setUp(self):
        super().setUp()
        self.script = self.write("script.py", f"import os\nopen({str(self.scratch / 'runs')!r}, 'a')"
                                              ".write(os.environ.get('RANK', 'none') + '\\n')\nprint('ran')\n")

    def test_missing(self):
        self.cold("json,no_such_module", self.script, said="No module named 'no_such_module'")

    def test_thread(self):
        self.write("threaded.py", "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True)"
                                  ".start()\n")
        self.cold("threaded", self.script, said="1 thread(s)")

    def test_process(self):
        self.write("forked.py", "import subprocess\np = subprocess.Popen(['sleep', '1000'])\n")
        self.cold("forked", self.script, said="started a process")

    def test_exit(self):
        self.write("ending.py", "raise SystemExit(4)\n")
        self.cold("ending", self.script, said="SystemExit: 4")

    def test_dies(self):
        """An interpreter that dies each time is given up."""
        self.write("dying.py", "import os\nos.kill(os.getpid(), 9)\n")
        run = self.finished(self.python(self.script, modules="dying"))
        self.assertEqual(self.warmth(run), [0])
        self.assertEqual(run.output().count("signal 9"), 3, run.output())
        self.assertEqual((self.scratch / "runs").read_text(), "0\n")

    def test_isolated(self):
        for option in ("-I", "-E", "-S"):
            with self.subTest(option):
                (self.scratch / "runs").unlink(missing_ok=True)
                self.cold("json", option, self.script, said="-E, -I and -S", name=f"run{option}")

    def test_wrapper(self):
        """What calls itself python but lets nothing in does not run the script where there is no rank."""
        wrapper = self.write("python3", f"#!/bin/sh\nunset PYTHONPATH\nexec {PYTHON} \"$@\"\n")
        wrapper.chmod(0o755)
        self.cold("json", self.script, python=wrapper, said="PYTHONPATH")

    def test_not_python(self):
        run = self.finished(self.run_of("sh", "-c", "echo ran", options=["--warm", "json"]))
        self.assertEqual(self.warmth(run), [0])
        self.assertIn("no Python interpreter", run.output())

    def test_colon(self):
        self.cold("json", self.script, name="a:b", said="colon")


class Killed(warming.Warm):
    def setUp(self):
        super().setUp()
        self.stop = self.scratch / "stop"
        self.script = self.write(
            "wait.py", f"import os, time\nwhile not os.path.exists({str(self.stop)!r}):\n    time.sleep(0.01)\n")

    def begin(self, ranks=2):
        run = self.python(self.script, modules=MODULES, ranks=ranks, options=["--first-tries", "20", "--tries", "20",
                                                                             "--backoff-max", "50ms"])
        run.start()
        self.started(run, ranks)
        return run

    def started(self, run, count):
        rig.wait_for(lambda: len(run.of_kind("started")) >= count, f"{count} starts")

    def end(self, run):
        self.stop.touch()
        self.assertEqual(run.wait(), 0, run.output())
        self.gone(run)

    def test_rank(self):
        """A rank that is killed is started again warm, and the interpreter survives the clearing between."""
        run = self.begin()
        interpreter = self.interpreter_pid(run)
        for count in (4, 6):
            os.kill(run.rank_pid(1), signal.SIGKILL)
            self.started(run, count)
        self.assertEqual(self.warmth(run), [1] * 6)
        self.assertEqual(self.interpreter_pid(run), interpreter)
        self.end(run)

    def test_interpreter(self):
        """An interpreter that is killed costs the ranks nothing, and is replaced."""
        run = self.begin()
        first = self.interpreter_pid(run)
        ranks = [run.rank_pid(0), run.rank_pid(1)]
        os.kill(first, signal.SIGKILL)
        second = self.interpreter_pid(run, other_than=first)
        self.assertEqual([run.rank_pid(0), run.rank_pid(1)], ranks)
        self.assertIn("signal 9", run.output())
        starts = 2
        while self.warmth(run)[-1] == 0 or starts == 2:
            os.kill(run.rank_pid(0), signal.SIGKILL)
            starts += 2
            self.started(run, starts)
            self.assertLess(starts, 20, "never warm again")
        self.assertEqual(self.interpreter_pid(run), second)
        self.end(run)

    def test_both(self):
        """Without an interpreter a start is cold and waits for none."""
        run = self.begin()
        os.kill(self.interpreter_pid(run), signal.SIGSTOP)
        os.kill(self.interpreter_pid(run), signal.SIGKILL)
        os.kill(run.rank_pid(1), signal.SIGKILL)
        self.started(run, 4)
        self.end(run)

    def test_stopped_interpreter(self):
        """The agent has one that somebody stopped go on."""
        run = self.begin()
        os.kill(self.interpreter_pid(run), signal.SIGSTOP)
        os.kill(run.rank_pid(1), signal.SIGKILL)
        self.started(run, 4)
        self.end(run)

    def test_agent(self):
        """Nothing outlives an agent that is killed."""
        run = self.begin()
        pids = [self.interpreter_pid(run), run.rank_pid(0), run.rank_pid(1)]
        run.kill_agent()
        rig.wait_for(lambda: not any(rig.parent_of(pid) for pid in pids), "end of what the agent left")

    def test_stop_while_importing(self):
        """Who asks for a stop need not wait until slow modules are imported."""
        self.write("slow.py", "import os, time\nwhile not os.path.exists('/nowhere'):\n    time.sleep(0.01)\n")
        run = self.python(self.script, modules="slow")
        run.start()
        self.interpreter_pid(run)
        rig.wait_for(lambda: run.of_kind("start"), "decision to start")
        run.process.send_signal(signal.SIGTERM)
        self.assertNotEqual(run.wait(), 0)
        self.gone(run)


if __name__ == "__main__":
    sys.exit(life.main(Same, Fallback, Killed))
