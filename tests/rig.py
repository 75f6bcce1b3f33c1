"""What tests of the real thing share: a run of holdfast, watched through its journal and hurt from outside.

Every wait has a deadline and waits for the thing itself.  Only processes that a Run started are ended, by pid.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time

DEADLINE_S = 60.0
POLL_S = 0.005


SKIPPED_STATUS = 77  # ctest lists such a test as skipped


def ended(result):
    """Exit status for the result of a unittest run; what was skipped goes where `check` shows it."""
    told = os.environ.get("HOLDFAST_SKIPPED")
    if told and result.skipped:
        with open(told, "a", encoding="utf-8") as file:
            file.writelines(f"{case.id().removeprefix('__main__.')}: {why}\n" for case, why in result.skipped)
    if not result.wasSuccessful():
        return 1
    return SKIPPED_STATUS if result.skipped and len(result.skipped) >= result.testsRun else 0


class Late(AssertionError):
    """A condition did not come true in time."""


def wait_for(condition, what, deadline_s=DEADLINE_S):
    """Return the first true value of condition(); raise Late when there is none in time."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Late(f"no {what} within {deadline_s} s")
        time.sleep(POLL_S)


class Tools:
    """The programs of one build folder."""

    def __init__(self, build):
        self.build = pathlib.Path(build).resolve()
        self.holdfast = self.build / "holdfast"
        self.trainer = self.build / "holdfast-trainer"
        self.inject = self.build / "tests" / "faults" / "holdfast-inject"
        self.dump = self.build / "tests" / "holdfast-dump"


def read_text(path):
    try:
        return pathlib.Path(path).read_bytes()
    except OSError:
        return b""


def parent_of(pid):
    stat = read_text(f"/proc/{pid}/stat")
    if not stat:
        return 0
    fields = stat[stat.rindex(b")") + 2 :].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[1])


def children_of(pid):
    """Living children of a process, zombies aside."""
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and parent_of(p) == pid]


def environment_of(pid):
    pairs = (line.partition(b"=") for line in read_text(f"/proc/{pid}/environ").split(b"\0"))
    return {name.decode(): value.decode(errors="replace") for name, _, value in pairs if name}


class Follower:
    """Every record of a journal, as it is committed."""

    def __init__(self, tools, journal):
        self.records = []
        self.changed = threading.Condition()
        self.process = subprocess.Popen(
            [tools.dump, journal, "--follow"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            record = json.loads(line)
            with self.changed:
                self.records.append(record)
                self.changed.notify_all()

    def wait(self, matches, what, after=0, deadline_s=DEADLINE_S):
        """The first record from index `after` on that matches."""
        end = time.monotonic() + deadline_s
        at = after
        with self.changed:
            while True:
                while at < len(self.records):
                    if matches(self.records[at]):
                        return self.records[at]
                    at += 1
                left = end - time.monotonic()
                if left <= 0:
                    raise Late(f"no {what} within {deadline_s} s")
                self.changed.wait(left)

    def mark(self):
        with self.changed:
            return len(self.records)

    def close(self):
        self.process.stdin.close()
        self.thread.join(DEADLINE_S)
        self.process.wait(DEADLINE_S)
        self.process.stdout.close()
        self.process.stderr.close()


def is_step(record, at_least=0):
    return (
        record["kind"] == "step"
        and record["step"] is not None
        and record["step"] >= at_least
        and "partial" not in record["flags"]
    )


class Run:
    """One `holdfast run`: started, watched, hurt, started again, and cleaned up after."""

    def __init__(self, tools, directory, command, ranks=2, options=(), environment=None):
        self.tools = tools
        self.directory = pathlib.Path(directory)
        self.command = [str(word) for word in command]
        self.options = ["-n", str(ranks), "-d", str(self.directory), *options]
        self.ranks = ranks
        self.environment = dict(os.environ, **(environment or {}))
        # The leak sanitizer stops a process with a helper of its own, which the agent's sweep would meet.
        self.environment.setdefault("ASAN_OPTIONS", "detect_leaks=0")
        self.process = None
        self.follower = None
        self.said = tempfile.TemporaryFile()
        self.run_id = None

    def start(self, follow=True):
        arguments = [str(self.tools.holdfast), "run", "--quiet", *self.options, "--", *self.command]
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said, env=self.environment
        )
        if follow and self.follower is None:
            self.follower = Follower(self.tools, self.directory / "journal")
        return self

    def output(self):
        self.said.seek(0)
        return self.said.read().decode(errors="replace")

    # What the journal says.

    @property
    def records(self):
        return self.follower.records

    def of_kind(self, kind):
        return [r for r in list(self.records) if r["kind"] == kind]

    def wait_step(self, step, after=0, deadline_s=DEADLINE_S):
        return self.follower.wait(lambda r: is_step(r, step), f"step {step}", after, deadline_s)

    def wait_kind(self, kind, after=0, deadline_s=DEADLINE_S, **fields):
        def matches(record):
            return record["kind"] == kind and all(record.get(k) == v for k, v in fields.items())

        return self.follower.wait(matches, f"{kind} {fields}", after, deadline_s)

    def run_ns(self, monotonic_ns):
        """Run time of a moment of CLOCK_MONOTONIC, by the last session."""
        session = self.of_kind("session")[-1]
        return monotonic_ns - session["monotonic_ns"] + session["time_ns"]

    def rows(self):
        """The newest complete row of every step."""
        rows = {}
        for record in list(self.records):
            if is_step(record):
                rows[record["step"]] = record
        return rows

    # Who is alive.

    @property
    def agent_pid(self):
        return self.process.pid

    def rank_pid(self, rank, deadline_s=DEADLINE_S):
        def find():
            for pid in children_of(self.agent_pid):
                environment = environment_of(pid)
                if environment.get("RANK") == str(rank) and "HOLDFAST_CHANNEL" in environment:
                    return pid
            return None

        return wait_for(find, f"process of rank {rank}", deadline_s)

    def supervisor_pid(self, deadline_s=DEADLINE_S):
        def find():
            for pid in children_of(self.agent_pid):
                words = read_text(f"/proc/{pid}/cmdline").split(b"\0")
                if len(words) > 1 and words[1] == b"supervisor":
                    return pid
            return None

        return wait_for(find, "supervisor", deadline_s)

    def shared_memory(self, suffix=""):
        """The run's files in /dev/shm."""
        run_id = self.of_kind("run")[0]["run_id"][:16]
        return sorted(pathlib.Path("/dev/shm").glob(f"holdfast-{run_id}*{suffix}"))

    def inject(self, *words):
        """holdfast-inject; returns its JSON answer, or None where the machine does not allow it."""
        done = subprocess.run(
            [self.tools.inject, *map(str, words)], capture_output=True, text=True, timeout=DEADLINE_S
        )
        if done.returncode == 77:
            return None
        if done.returncode != 0:
            raise AssertionError(f"inject {words}: {done.stderr}")
        return json.loads(done.stdout)

    # How it ends.

    def wait(self, deadline_s=DEADLINE_S):
        """Exit status of holdfast run."""
        try:
            status = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise Late(f"the run did not end within {deadline_s} s\n{self.output()}") from None
        return status

    def settle(self):
        """Read what was committed last."""
        last = subprocess.run(
            [self.tools.dump, self.directory / "journal"], capture_output=True, text=True, timeout=DEADLINE_S
        )
        count = len(last.stdout.splitlines())
        wait_for(lambda: len(self.records) >= count, "last records")

    def leftovers(self):
        """What a run that ended must not leave: processes, shared memory, its socket."""
        run_id = self.of_kind("run")[0]["run_id"]
        wanted = f"HOLDFAST_RUN_ID={run_id}".encode()
        processes = [
            int(p)
            for p in os.listdir("/proc")
            if p.isdigit() and wanted in read_text(f"/proc/{p}/environ").split(b"\0") and parent_of(p)
        ]
        sockets = [p for p in [self.directory / "control.sock"] if p.exists()]
        return processes + self.shared_memory() + sockets

    def kill_agent(self):
        os.kill(self.agent_pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill_agent()
        if self.follower is not None:
            self.follower.close()
            for path in self.shared_memory() if self.of_kind("run") else []:
                path.unlink(missing_ok=True)
        self.said.close()


class Scratch:
    """A folder that goes away."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-test-"))
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)
