#!/usr/bin/env python3
"""holdfast-inject does to a process and to a file what it says.

Usage: test_inject.py INJECT VICTIM.  Each process fault is tried on a victim in user code and on one that
is blocked in a system call; without the fault the victim goes on (the control of each case is that it is
still alive, or still unchanged, right before).
"""
import ctypes
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

INJECT, VICTIM = sys.argv.pop(1), sys.argv.pop(1)
SEED = int(os.environ.get("HOLDFAST_SEED", "20261124"))
WAIT_S = 20


def inject(*words):
    """Run the injector; return (exit status, its JSON line or None, standard error)."""
    done = subprocess.run([INJECT, *map(str, words)], capture_output=True, text=True, timeout=WAIT_S)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def until(condition):
    """Wait for a condition with a deadline."""
    end = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def state_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def cpu_ticks(pid):
    """User time of the main thread only."""
    with open(f"/proc/{pid}/task/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[11])


def call_of(pid):
    with open(f"/proc/{pid}/syscall") as file:
        return file.read().split()[0]


class Victim:
    """A victim that is in the state its mode names."""

    def __init__(self, mode):
        self.process = subprocess.Popen([VICTIM, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.process.pid
        assert self.process.stdout.readline() == b"ready\n"
        if mode == "loop":
            assert until(lambda: cpu_ticks(self.pid) > 0), "the victim does not compute"
        else:
            assert until(lambda: state_of(self.pid) == "S" and call_of(self.pid) != "running")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Processes(unittest.TestCase):
    modes = ("loop", "read", "sleep", "threads")

    def check_line(self, answer, name, pid):
        status, line, error = answer
        self.assertEqual(status, 0, error)
        self.assertEqual((line["fault"], line["pid"]), (name, pid))
        age_s = time.clock_gettime(time.CLOCK_MONOTONIC) - line["at_ns"] / 1e9
        self.assertTrue(0 <= age_s < WAIT_S, age_s)

    def test_segv(self):
        for mode in self.modes:
            with self.subTest(mode), Victim(mode) as victim:
                self.assertIsNone(victim.process.poll())
                self.check_line(inject("segv", victim.pid), "segv", victim.pid)
                self.assertEqual(victim.process.wait(WAIT_S), -signal.SIGSEGV)

    def test_exit(self):
        for mode in self.modes:
            with self.subTest(mode), Victim(mode) as victim:
                self.assertIsNone(victim.process.poll())
                self.check_line(inject("exit", victim.pid, 37), "exit", victim.pid)
                self.assertEqual(victim.process.wait(WAIT_S), 37)

    def test_spin(self):
        for mode in self.modes[1:]:
            with self.subTest(mode), Victim(mode) as victim:
                before = cpu_ticks(victim.pid)
                self.check_line(inject("spin", victim.pid), "spin", victim.pid)
                self.assertTrue(until(lambda: cpu_ticks(victim.pid) >= before + 5))
                self.assertEqual(call_of(victim.pid), "running")
                self.assertIsNone(victim.process.poll())

    def test_spin_in_user_code(self):
        with Victim("loop") as victim:
            self.check_line(inject("spin", victim.pid), "spin", victim.pid)
            # Its own loop no longer turns: program counter and stack pointer stand still while it runs.
            before, places = cpu_ticks(victim.pid), set()
            self.assertTrue(until(lambda: places.add(self.place(victim.pid)) or
                                  cpu_ticks(victim.pid) >= before + 5))
            self.assertEqual(len(places), 1, places)

    def test_no_spin_moves(self):
        """The control of the case above: left alone, they move."""
        with Victim("loop") as victim:
            places = set()
            self.assertTrue(until(lambda: places.add(self.place(victim.pid)) or len(places) > 1))

    @staticmethod
    def place(pid):
        """Stack pointer and program counter; they are shown for a process that does not run."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        libc.ptrace.restype = ctypes.c_long
        assert libc.ptrace(0x4206, pid, None, None) == 0  # PTRACE_SEIZE
        libc.ptrace(0x4207, pid, None, None)  # PTRACE_INTERRUPT
        os.waitpid(pid, 0x40000000)  # __WALL
        with open(f"/proc/{pid}/syscall") as file:
            place = tuple(file.read().split()[-2:])
        libc.ptrace(17, pid, None, None)  # PTRACE_DETACH
        return place

    def test_other_threads_go_on(self):
        with Victim("threads") as victim:
            self.check_line(inject("spin", victim.pid), "spin", victim.pid)
            for byte in b"abc":
                victim.process.stdin.write(bytes([byte]))
                victim.process.stdin.flush()
                self.assertEqual(victim.process.stdout.read(1), bytes([byte]))

    def test_signal(self):
        for word in ("STOP", "SIGSTOP", int(signal.SIGSTOP)):
            with self.subTest(word), Victim("read") as victim:
                self.check_line(inject("signal", victim.pid, word), "signal", victim.pid)
                self.assertTrue(until(lambda: state_of(victim.pid) == "T"))

    def test_refusals(self):
        gone = subprocess.Popen(["true"])
        gone.wait()
        for words in (("segv", gone.pid), ("spin", gone.pid), ("exit", gone.pid, 1)):
            status, line, error = inject(*words)
            self.assertEqual((status, line, error.count("\n")), (77, None, 1), error)
        for words in ((), ("segv",), ("segv", "x"), ("exit", 1, 256), ("nonsense", 1), ("flip", "/x")):
            self.assertEqual(inject(*words)[:2], (64, None), words)


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "file")
        self.random = random.Random(SEED)
        self.bytes = self.random.randbytes(50000)
        self.write(self.bytes)

    def tearDown(self):
        self.folder.cleanup()

    def write(self, data):
        with open(self.path, "wb") as file:
            file.write(data)

    def changed(self):
        with open(self.path, "rb") as file:
            now = file.read()
        self.assertEqual(len(now), len(self.bytes))
        return [i for i, (a, b) in enumerate(zip(self.bytes, now)) if a != b]

    def test_flip(self):
        self.assertEqual(inject("flip", self.path, "--seed", SEED)[0], 0)
        first = self.changed()
        self.assertEqual(len(first), 16)
        self.write(self.bytes)
        inject("flip", self.path, "--seed", SEED)
        self.assertEqual(self.changed(), first)
        self.write(self.bytes)
        inject("flip", self.path, "--seed", SEED, "--offset", 100, "--count", 3)
        self.assertEqual(self.changed(), [100, 101, 102])

    def test_truncate(self):
        status, line, error = inject("truncate", self.path, "--seed", SEED)
        self.assertEqual(status, 0, error)
        self.assertEqual(os.path.getsize(self.path), line["offset"])
        self.assertLess(line["offset"], len(self.bytes))

    def test_wipe(self):
        self.assertEqual(inject("wipe-snapshots", self.path + ".none*")[0], 77)
        self.assertEqual(inject("wipe-snapshots", self.path + "*")[0], 0)
        self.assertFalse(os.path.exists(self.path))

    def group(self, count=1000, world=2, stride=4096):
        """A group file as group.h has it, its gradients and their average zero."""
        offsets = (8192, stride, 8192 + world * stride, 8192 + (world + 1) * stride)
        self.write(struct.pack("<QII5Q", 0x3130505552474648, world, 0, count, *offsets).ljust(offsets[3], b"\0"))

    def floats(self, area, count=1000):
        with open(self.path, "rb") as file:
            return struct.unpack(f"<{count}f", file.read()[8192 + area * 4096:][:4 * count])

    def test_nan_group(self):
        """The average is made here, by copying rank 1's gradient, once it has a NaN."""
        self.group()
        process = subprocess.Popen([INJECT, "nan-group", self.path, "--rank", "1", "--for-ms", "20000"],
                                   stdout=subprocess.PIPE, text=True)
        self.assertTrue(until(lambda: any(value != value for value in self.floats(1))))
        self.assertIsNone(process.poll())
        with open(self.path, "r+b") as file:
            file.seek(8192 + 2 * 4096)
            file.write(struct.pack("<1000f", *self.floats(1)))
        line = json.loads(process.communicate(timeout=WAIT_S)[0])
        self.assertEqual((process.returncode, line["fault"], line["rank"]), (0, "nan-group", 1))
        self.assertEqual(set(self.floats(0)), {0.0})

    def test_nan_group_refuses(self):
        self.group()
        self.assertEqual(inject("nan-group", self.path, "--rank", 2)[0], 77)
        self.assertEqual(inject("nan-group", self.path, "--rank", 0, "--for-ms", 5)[0], 77)
        for count, world, stride in ((1025, 2, 4096), (1 << 61, 2, 4096), (1000, 61, 4096), (0, 2, 4096)):
            self.group()
            with open(self.path, "r+b") as file:
                file.write(struct.pack("<QIIQQQ", 0x3130505552474648, world, 0, count, 8192, stride))
            with open(self.path, "rb") as file:
                before = file.read()
            self.assertEqual(inject("nan-group", self.path, "--rank", 0, "--for-ms", 50)[0], 77)
            with open(self.path, "rb") as file:
                self.assertEqual(file.read(), before)

    def snapshot(self, checksum):
        """A snapshot file of three slots whose second was committed last."""
        slot_bytes = 8192
        data = struct.pack("<QIIQQ", 0x313050414E534648, 1, 3, slot_bytes, 0).ljust(4096, b"\0")
        for step, sequence in ((7, 1), (8, 3), (9, 2)):
            head = struct.pack("<QQQ16s", step, 5000, sequence, bytes(16))
            data += (head + struct.pack("<Q", checksum(head))).ljust(4096, b"\0")
        self.bytes = data + self.random.randbytes(3 * slot_bytes)
        self.write(self.bytes)
        return range(16384 + slot_bytes, 16384 + slot_bytes + 5000)

    def test_flip_snapshot(self):
        library = ctypes.CDLL("libxxhash.so.0")
        library.XXH3_64bits.restype = ctypes.c_uint64
        library.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        body = self.snapshot(lambda head: library.XXH3_64bits(head, len(head)))
        with Victim("loop") as victim:
            status, line, error = inject("flip-snapshot", self.path, "--seed", SEED, "--pid", victim.pid)
            self.assertEqual((status, line and line["step"]), (0, 8), error)
            self.assertEqual(victim.process.wait(WAIT_S), -signal.SIGKILL)
        changed = self.changed()
        self.assertEqual(len(changed), 16)
        self.assertTrue(all(i in body for i in changed), changed)

    def test_flip_snapshot_refuses(self):
        """No slot is complete: nothing is changed, and the process goes on."""
        self.snapshot(lambda head: 1)
        with Victim("loop") as victim:
            self.assertEqual(inject("flip-snapshot", self.path, "--pid", victim.pid)[0], 77)
            self.assertTrue(until(lambda: state_of(victim.pid) == "R"))
        self.assertEqual(self.changed(), [])


if __name__ == "__main__":
    print(f"seed {SEED}")
    unittest.main(verbosity=2)
