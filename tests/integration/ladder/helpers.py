"""A keeper and a restore driven as the agent drives them, and files in the shapes that scripts write."""

import concurrent.futures
import io
import json
import os
import pathlib
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import unittest
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
import rig  # noqa: E402

NONE = 2**64 - 1
READY, WRITING, KEPT, TROUBLE, DROPPED = 1, 2, 3, 4, 5
PROTECT, DROP, STOP = 16, 17, 18
BEGINS, AGAIN, DIRECTORY, LINKED, IN_PLACE, AT_START, POLLING, UNCHECKED, REWRITTEN = (1 << i for i in range(9))
PUT, ALREADY = 1, 2
TEXT = 4096
MESSAGE = struct.Struct(f"<II6Q16siI{TEXT}s{TEXT}s")
ANSWER = struct.Struct(f"<iIII{TEXT}s{TEXT}s")


def text(raw):
    return os.fsdecode(raw.split(b"\0", 1)[0])


class Message:
    """One datagram; attributes as the fields of struct keeper_message."""

    def __init__(self, raw):
        (self.kind, self.flags, self.step, self.ordinal, self.size_bytes, self.file_count, _, self.writing,
         self.digest, self.error, self.finite, kept, original) = MESSAGE.unpack(raw)
        self.kept, self.original = text(kept), text(original)
        if self.step == NONE:
            self.step = None

    def __repr__(self):
        return f"<kind {self.kind} flags {self.flags} step {self.step} ordinal {self.ordinal} error {self.error}>"


class Keeper:
    """A helper-keeper over its socket pair."""

    def __init__(self, holdfast, pattern, run_dir, mode="auto", keep=3, budget=0, protect=True, prefix=()):
        self.arguments = [*prefix, str(holdfast), "helper-keeper", "--pattern", os.fspath(pattern), "--run-dir",
                          str(run_dir), "--mode", mode, "--keep", str(keep), "--budget-bytes", str(budget)]
        self.said = []
        self.run_dir = pathlib.Path(run_dir)
        self.protect = protect
        self.start()

    def start(self):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Its number in the keeper is 3, which is another file's here.
        number = os.dup(theirs.fileno()) if theirs.fileno() == 3 else theirs.fileno()
        words = ["bash", "-c", 'exec 3<&"$0"-; exec "$@"', str(number), *self.arguments]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=(number,))
        if number != theirs.fileno():
            os.close(number)
        theirs.close()
        self.wait(READY)
        if self.protect:
            self.send(PROTECT)
        return self

    def send(self, kind, ordinal=0, also=0):
        self.socket.send(MESSAGE.pack(kind, 0, NONE, ordinal, 0, 0, also, 0, b"", 0, 0, b"", b""))

    def take(self, timeout_s):
        """The next message, None when there is none in time, EOFError at the end."""
        if not select.select([self.socket], [], [], timeout_s)[0]:
            return None
        raw = self.socket.recv(MESSAGE.size + 1)
        if not raw:
            raise EOFError
        assert len(raw) == MESSAGE.size, len(raw)
        message = Message(raw)
        self.said.append(message)
        return message

    def wait(self, kind, deadline_s=rig.DEADLINE_S, **fields):
        """The next message of this kind with these fields; the others are in .said."""
        end = time.monotonic() + deadline_s
        while True:
            left = end - time.monotonic()
            message = self.take(left) if left > 0 else None
            if message is None:
                raise rig.Late(f"no message {kind} {fields} within {deadline_s} s; {self.said}")
            if message.kind == kind and all(getattr(message, k) == v for k, v in fields.items()):
                return message

    def wait_kept(self, **fields):
        return self.wait(KEPT, **fields)

    def drain(self):
        while self.take(0) is not None:
            pass
        return self.said

    def kill(self):
        """SIGKILL, as it may come at any moment."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.socket.close()

    def stop(self):
        """Its exit status."""
        try:
            self.send(STOP)
        except OSError:
            pass
        status = self.process.wait(rig.DEADLINE_S)
        self.socket.close()
        return status

    def close(self):
        if self.process.poll() is None:
            self.kill()
        self.socket.close()


def restore(holdfast, run_dir, pattern, kept=None, original=None):
    """helper-restore; its answer as (error, flags, moved_count, subject, aside)."""
    words = [str(holdfast), "helper-restore", "--run-dir", str(run_dir), "--pattern", os.fspath(pattern)]
    words += ["--none"] if kept is None else ["--kept", kept, "--original", os.fspath(original)]
    done = subprocess.run(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=rig.DEADLINE_S)
    if done.returncode != 0:
        raise AssertionError(f"helper-restore ended with {done.returncode}")
    error, flags, moved, _, subject, aside = ANSWER.unpack(done.stdout)
    return error, flags, moved, text(subject), text(aside)


# Files.


def torch_bytes(seed, size=20000):
    """What torch.save writes: a zip of stored entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, raw in (("data.pkl", random.Random(seed).randbytes(300)),
                          ("data/0", random.Random(seed + 1).randbytes(size)), ("version", b"3\n")):
            # An entry without the time of day, so that the same seed makes the same bytes.
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), raw)
    return out.getvalue()


def safetensors_bytes(values):
    data = struct.pack(f"<{len(values)}f", *values)
    header = json.dumps({"w": {"dtype": "F32", "shape": [len(values)], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def whole_zip(raw):
    """By another implementation than ours."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, ValueError, EOFError, struct.error):
        return False


def write_over(path, raw, chunks=1):
    """In place."""
    with open(path, "wb") as file:
        step = -(-len(raw) // chunks)
        for at in range(0, len(raw), step):
            file.write(raw[at : at + step])
            file.flush()


def write_renamed(path, raw):
    apart = f"{os.fspath(path)}.tmp"
    write_over(apart, raw)
    os.rename(apart, path)


def kept_copies(run_dir):
    """Paths of all kept copies, oldest first."""
    return [p for d in sorted(pathlib.Path(run_dir, "checkpoints").glob("*-step-*")) for p in d.iterdir()
            if p.name != ".kept.json"]


class Case(unittest.TestCase):
    """A test with folders of its own: self.run_dir for the run, self.out for what a script writes."""

    holdfast = None

    def setUp(self):
        scratch = rig.Scratch()
        self.scratch = scratch.__enter__()
        self.addCleanup(scratch.__exit__)
        self.run_dir, self.out = self.scratch / "run", self.scratch / "out"
        self.run_dir.mkdir()
        self.out.mkdir()

    def keeper(self, pattern, **words):
        keeper = Keeper(self.holdfast, self.out / pattern, words.pop("run_dir", self.run_dir), **words)
        self.addCleanup(keeper.close)
        return keeper

    def restore(self, pattern, kept=None, original=None):
        return restore(self.holdfast, self.run_dir, self.out / pattern, kept, original)


def main(*cases):
    """Every test of the cases, several at a time: most of their time is waiting for quiet."""
    build, *names = sys.argv[1:]
    Case.holdfast = pathlib.Path(build).resolve() / "holdfast"
    tests = [test for case in cases for test in unittest.defaultTestLoader.loadTestsFromTestCase(case)
             if not names or test.id().rsplit(".", 1)[-1] in names]

    def one(test):
        began, result = time.monotonic(), unittest.TestResult()
        test.run(result)
        return test, result, time.monotonic() - began

    whole = unittest.TestResult()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for test, result, took_s in pool.map(one, tests):
            word = "ok" if result.wasSuccessful() else "FAIL"
            if result.skipped:
                word = f"skipped: {result.skipped[0][1]}"
            print(f"{test.id()}: {word}, {took_s:.1f} s")
            for _, trace in result.failures + result.errors:
                print(trace)
            whole.testsRun += 1
            whole.skipped += result.skipped
            whole.failures += result.failures
            whole.errors += result.errors
    return rig.ended(whole) if tests else 1
