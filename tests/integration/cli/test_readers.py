#!/usr/bin/env python3
"""What people read of a run, while it lives, when it has ended and when it was killed: status, log, why and the
lines of run itself, held against what the run is known to have done."""

import fcntl
import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import termios
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import cli  # noqa: E402

STEPS = 120
TRAIN = (cli.TRAINER, "pretrain", "--width", "16", "--layers", "1", "--heads", "1", "--batch", "16")
# Rank 1 fails once, before its first step and when its last words have come to where they are kept.
STUMBLE = """
if [ "$RANK" = 1 ] && [ ! -e stumbled ]; then
    touch stumbled
    echo I stumbled >&2
    until grep -qs stumbled run*/logs/attempt-001/rank-0001.err; do sleep 0.01; done
    exit 9
fi
exec "$@"
"""


def train(steps=STEPS):
    return (*TRAIN, "--steps", str(steps), "--output", "out.safetensors")


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


class Ended(cli.Scratch):
    """A run with one incident that came to its end."""

    def setUp(self):
        super().setUp()
        code, self.said, error = self.holdfast("run", "-n", "2", "-d", "run", "--", "sh", "-c", STUMBLE, "sh", *train())
        self.assertEqual((code, error), (0, ""))

    def read(self, *words):
        code, out, error = self.holdfast(*words)
        self.assertEqual((code, error), (0, ""), words)
        return out

    def test_plain_lines(self):
        said = self.said.splitlines()
        self.assertTrue(all(line.startswith("holdfast: ") for line in said), said)
        self.assertIn("2 ranks", said[0])
        self.assertIn("rank 1 ended with exit status 9 before the first step", self.said)
        self.assertIn("done", said[-1])
        self.assertNotIn("\033", self.said)

    def test_status(self):
        now = json.loads(self.read("status", "run", "--json"))
        for name, value in {"state": "ended", "end_reason": "done", "exit_code": 0, "pid": None, "ranks": 2,
                            "step": STEPS, "first_step": 1, "high_step": STEPS, "committed": STEPS, "missing": 0,
                            "incidents": 1, "attempts": 2}.items():
            self.assertEqual(now[name], value, name)
        self.assertEqual(now["last_incident"]["fault"], "exit")
        text = self.read("status", "run")
        self.assertRegex(text, r"(?m)^state +ended at .*done")
        self.assertRegex(text, rf"(?m)^committed +{STEPS} iterations, 0 missing")
        self.assertLessEqual(len(text.splitlines()), 24)

    def test_log(self):
        rows = lines_of(self.read("log", "run", "--json"))
        self.assertEqual([row["step"] for row in rows], list(range(1, STEPS + 1)))
        for row in rows:
            for name in ("loss", "grad_norm", "learning_rate"):
                self.assertEqual(struct.pack(">d", row[name]).hex(), row[name + "_bits"], name)
            self.assertNotIn("cells", row)
        cells = lines_of(self.read("log", "run", "--json", "--cells", "--last", "1"))[0]["cells"]
        self.assertEqual(len(cells), 2)
        text = self.read("log", "run").splitlines()
        self.assertEqual(len(text), STEPS + 1)
        self.assertIn("loss", text[0])
        self.assertEqual(len({line.index(" 2 ", 8) for line in text[1:]}), 1, "columns")

    def test_log_ranges(self):
        def steps(*words):
            return [row["step"] for row in lines_of(self.read("log", "run", "--json", *words))]

        whole = list(range(1, STEPS + 1))
        self.assertEqual(steps("--steps", "10..20"), whole[9:20])
        self.assertEqual(steps("--steps", "100.."), whole[99:])
        self.assertEqual(steps("--steps", "..5"), whole[:5])
        self.assertEqual(steps("-s", "7"), [7])
        self.assertEqual(steps("--steps", f"{STEPS + 1}.."), [])
        self.assertEqual(steps("--last", "3"), whole[-3:])
        self.assertEqual(steps("-n", "3", "--steps", "..50"), [48, 49, 50])
        self.assertEqual(steps("--last", "100000"), whole)
        self.assertTrue(set(whole) <= set(steps("--all-attempts")))

    def test_log_incidents(self):
        text = self.read("log", "run", "--incidents").splitlines()
        self.assertEqual(sum("rank 1 ended with exit status 9" in line for line in text), 1)
        self.assertIn("*", text[1])
        self.assertIn("done", text[-1])
        kinds = [record["kind"] for record in lines_of(self.read("log", "run", "--incidents", "--json"))]
        self.assertEqual([kind for kind in kinds if kind != "step"], ["fault", "start", "recovered", "end"])

    def test_why(self):
        text = self.read("why", "run")
        for part in ("incident 1 at ", "rank 1 ended with exit status 9", "rank 1 of attempt 1, pid ", "attempt 2",
                     "stepping again at step 1", "I stumbled", "end at "):
            self.assertIn(part, text)
        incident, end = lines_of(self.read("why", "run", "--json"))
        self.assertEqual((incident["kind"], incident["incident"], end["kind"]), ("incident", 1, "end"))
        self.assertEqual((incident["fault"]["fault"], incident["fault"]["detail"]), ("exit", 9))
        self.assertEqual((incident["start"]["attempt"], incident["recovered"]["step"]), (2, 1))
        self.assertTrue(any("I stumbled" in piece["text"] for piece in incident["evidence"]))
        alone = self.read("why", "run", "--incident", "1")
        self.assertTrue(text.startswith(alone.rstrip()), alone)
        self.assertNotIn("end at ", alone)
        self.refused(self.holdfast("why", "run", "--incident", "2"), 64, "no incident 2")

    def test_nobody_reads(self):
        """A reader that goes away ends us without a word; a full one is said."""
        with open("/dev/full", "w", encoding="utf-8") as full:
            for subcommand in ("status", "log", "why"):
                code, _, error = self.holdfast(subcommand, "run", stdout=full)
                self.assertEqual((code, error.count("\n")), (75, 1), error)
        for restore in (True, False):  # False: SIGPIPE is ignored, as Python has it
            process = subprocess.Popen([cli.BINARY, "log", "--all-attempts", self.folder / "run"], text=True,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, restore_signals=restore)
            process.stdout.close()
            self.assertEqual(process.stderr.read(), "")
            process.stderr.close()
            self.assertIn(process.wait(cli.DEADLINE_S), (0, -signal.SIGPIPE))


class Quiet(cli.Scratch):
    def test_nothing_happened(self):
        self.assertEqual(self.holdfast("run", "--quiet", "-d", "run", "--", *train(10)), (0, "", ""))
        code, out, _ = self.holdfast("why", "run")
        self.assertEqual(code, 0)
        self.assertIn("nothing interrupted this run", out)

    def test_json_lines(self):
        code, out, error = self.holdfast("run", "--json", "--total-steps", "10", "-d", "run", "--", *train(10))
        self.assertEqual((code, error), (0, ""))
        records = lines_of(out)
        self.assertEqual((records[0]["kind"], records[-1]["kind"], records[-1]["exit_code"]), ("run", "end", 0))
        self.assertEqual(records[0]["run_directory"], str((self.folder / "run").resolve()))

    def test_defaults(self):
        """What --help calls a default is what a run goes by."""
        out = self.holdfast("run", "--json", "-d", "run", "--", "true")[1]
        config = lines_of(out)[0]["config"]
        told = {}
        units = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "": 1}
        for option, value, unit in re.findall(r"--([a-z-]+) \w+\s(?:(?! --)[^(])*\(default (\d+)(ms|s|m|h|)\)",
                                              self.holdfast("run", "--help")[1]):
            told[option] = int(value) * units[unit]
        names = {"stopped-grace": "stall_stopped_ns", "capture-timeout": "capture_max_ns",
                 "clear-timeout": "clear_max_ns", "verify-timeout": "verify_max_ns", "stop-timeout": "stop_grace_ns",
                 "stall-factor": "stall_factor", "clean-steps": "clean_steps", "tries": "tries_max",
                 "first-tries": "tries_first_max"}
        for option in ("ranks", "checkpoint-keep"):  # not the policy's
            told.pop(option)
        self.assertEqual({names.get(option, option.replace("-", "_") + "_ns"): value for option, value in told.items()},
                         config)

    def test_control_characters(self):
        """What a command is called does not reach the terminal as it is."""
        self.holdfast("run", "--quiet", "-d", "run", "--", "sh", "-c", "exit 0 # \033]0;x\a\u009b31m")
        for subcommand in ("status", "log", "why"):
            out = self.holdfast(subcommand, "run")[1]
            self.assertFalse(set(out) & set("\033\a\u009b"), out)


class Alive(cli.Scratch):
    """A run that goes on."""

    def status(self):
        return json.loads(self.holdfast("status", "run", "--json")[1] or "{}")

    def test_follow_and_stop(self):
        process = self.live(*train(100000))
        cli.until(lambda: self.status().get("step"), "step")
        self.assertEqual((self.status()["state"], self.status()["pid"]), ("running", process.pid))
        follower = subprocess.Popen([cli.BINARY, "log", "run", "--follow", "--incidents", "--json"], cwd=self.folder,
                                    stdout=subprocess.PIPE, text=True)
        self.started.append(follower)
        first = json.loads(follower.stdout.readline())
        self.assertEqual((first["kind"], first["step"]), ("step", 1))
        self.assertEqual(self.holdfast("stop", "--wait", "run"), (0, "", ""))
        process.wait(cli.DEADLINE_S)
        records = lines_of(follower.stdout.read())
        follower.stdout.close()
        self.assertEqual(follower.wait(cli.DEADLINE_S), 0)
        steps = [r["step"] for r in records if r["kind"] == "step" and "partial" not in r["flags"]]
        self.assertEqual(steps, list(range(2, self.status()["high_step"] + 1)))
        self.assertEqual([r["kind"] for r in records if r["kind"] in ("control", "end")], ["control", "end"])
        self.assertEqual(self.status()["end_reason"], "stopped")

    def test_dead_and_continued(self):
        process = self.live(*train(3000))
        cli.until(lambda: (self.status().get("step") or 0) > 3, "step")
        process.kill()
        process.wait()
        now = self.status()
        self.assertEqual((now["state"], now["pid"]), ("dead", None))
        self.assertIn("dead since", self.holdfast("status", "run")[1])
        follow = self.holdfast("log", "run", "--follow", "--json")
        self.assertEqual((follow[0], follow[2]), (0, ""))
        code, out, error = self.holdfast("run", "-d", "run", "--", *train(3000))
        self.assertEqual((code, error), (0, ""))
        self.assertIn("run continues in", out.splitlines()[0])
        now = self.status()
        self.assertEqual((now["state"], now["committed"], now["missing"]), ("ended", 3000, 0))


class HeldUp(cli.Scratch):
    """A reader whose own reader takes its time, as a pager does, costs the writer nothing."""

    TURNS = 100
    # Much of a page, so that status too prints more than one write takes.
    LONG = "#" * 6000

    def step(self):
        return json.loads(self.holdfast("status", "run", "--json")[1])["step"] or 0

    def turns(self):
        """Commits of the journal: the greater number of LMDB's two meta pages, 144 bytes behind their beginning."""
        with open(self.folder / "run" / "journal" / "data.mdb", "rb") as data:
            return max(struct.unpack_from("=Q", os.pread(data.fileno(), 8, page * 4096 + 144))[0] for page in (0, 1))

    def size_after(self, turns):
        """Size of the journal once so many more turns are in it."""
        wanted = self.turns() + turns
        cli.until(lambda: self.turns() >= wanted, f"turn {wanted}")
        return (self.folder / "run" / "journal" / "data.mdb").stat().st_size

    @staticmethod
    def in_write(process):
        assert process.poll() is None, f"it ended with {process.returncode}"
        folder = pathlib.Path("/proc", str(process.pid))
        try:
            return "pipe" in (folder / "wchan").read_text() or (folder / "syscall").read_text().startswith("1 0x1 ")
        except OSError:
            return False

    @staticmethod
    def fill(end):
        """Nothing more goes into a pipe; returns the bytes that lie in it."""
        os.set_blocking(end, False)
        filled = 0
        try:
            while True:
                filled += os.write(end, b"." * 4096)
        except BlockingIOError:
            os.set_blocking(end, True)
        return filled

    def growth(self, *command, room=False):
        """Bytes by which the journal grows beside a reader that is held up.

        With `room` it is held up, goes on with what came meanwhile, and is held up again."""
        ours, theirs = os.pipe()
        filled = self.fill(theirs)
        process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.PIPE, stdout=theirs)
        os.close(theirs)
        try:
            cli.until(lambda: self.in_write(process), "reader that is held up")
            if room:
                self.size_after(4 * self.TURNS)
                while filled > 0:
                    filled -= len(os.read(ours, filled))
                cli.until(lambda: self.in_write(process), "reader that is held up again")
            before = self.size_after(0)
            return self.size_after(self.TURNS) - before
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            os.close(ours)

    def test_cost(self):
        marker = self.folder / "hurt"
        self.live("sh", "-c", f'[ -e {marker} ] || {{ touch {marker}; echo "{self.LONG}" >&2; exit 9; }}; exec "$@" '
                  f"{self.LONG}", "sh", *train(10000000), options=("--backoff-first", "1ms"))
        cli.until(lambda: self.step() >= 200, "rows")
        grown = {words: self.growth(cli.BINARY, *words, "run") for words in (
            ("status",), ("log",), ("log", "--json", "--cells"), ("why",), ("why", "--full"), ("why", "--json"))}
        follow = ("log", "--json", "--cells", "--follow")
        grown[follow] = self.growth(cli.BINARY, *follow, "run", room=True)
        # A reader that keeps its snapshot while it waits: what the others must not do.  It is the last, for the
        # snapshot of one that was killed counts until the writer looks for such.
        careless = self.growth(cli.DUMP, "run/journal")
        print(f"{self.TURNS} turns: {careless} bytes beside a careless reader, else {sorted(grown.values())}")
        for words, bytes_ in grown.items():
            self.assertLess(2 * bytes_, careless, words)


class Terminal(cli.Scratch):
    """The line that is drawn again and again."""

    def shown(self, columns, steps=1500):
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            [cli.BINARY, "run", "--total-steps", str(steps), "-n", "2", "-d", f"run{columns}", "--", "sh", "-c",
             STUMBLE, "sh", *train(steps)],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
            env=dict(os.environ, TERM="xterm"), close_fds=True)
        self.started.append(process)
        os.close(theirs)
        output = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the last of them has closed it
                break
            if not piece:
                break
            output += piece
        os.close(ours)
        self.assertEqual(process.wait(cli.DEADLINE_S), 0)
        return output.decode()

    def test_widths(self):
        for columns in (20, 40, 80, 200):
            with self.subTest(columns=columns):
                (self.folder / "stumbled").unlink(missing_ok=True)
                output = self.shown(columns)
                drawn = re.findall(r"\r([^\r\n]+)\033\[K", output)
                self.assertTrue(drawn, output)
                for line in drawn:
                    self.assertLess(len(line), columns, line)
                    self.assertRegex(line, "^(step [0-9]|no step yet)")
                if columns >= 80:
                    self.assertTrue(any(re.search(r"step \d+ of 1500 .*/s .*left", line) for line in drawn), drawn)
                permanent = re.sub(r"\r[^\r\n]*\033\[K", "", output).replace("\r\n", "\n")
                if columns > 24:  # broken between words, and set in
                    self.assertLessEqual(max(map(len, permanent.splitlines())), columns, permanent)
                    permanent = permanent.replace("\n" + " " * 10, " ")
                self.assertRegex(permanent, r"(?m)^holdfast: incident 1: rank 1 ended with exit status 9")
                self.assertTrue(permanent.rstrip().endswith("status 0"), permanent)

    def test_reader_goes_away(self):
        """The run goes on when nobody reads its lines any more."""
        process = subprocess.Popen([cli.BINARY, "run", "-d", "run", "--", *train(1500)], cwd=self.folder,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.started.append(process)
        self.assertIn("run in", process.stdout.readline())
        process.stdout.close()
        self.assertEqual(process.stderr.read(), "")
        process.stderr.close()
        self.assertEqual(process.wait(cli.DEADLINE_S), 0)


if __name__ == "__main__":
    cli.main()
