"""Snapshots of large states: what they add to a trainer's memory, and a run whose shared memory is too small for them.

    test_memory.py BUILD [TEST...]
"""

import os
import subprocess
import sys

import pymodule

SIZE_BYTES = 192 << 20
# Snapshots one large array, and says by how much the process grew beside what is shared with the slots.
LARGE = """
    import os, signal, sys
    import holdfast
    import numpy

    def peak_kib():
        status = {line.split(":")[0]: line.split()[1] for line in open("/proc/self/status") if "kB" in line}
        return int(status["VmHWM"]), int(status["RssShmem"])

    size = int(sys.argv[1])
    state = {"weights": numpy.arange(size // 8, dtype="u8")}

    class Model:
        def state_dict(self):
            return state
        def load_state_dict(self, values):
            state.update(values)

    model = Model()
    open("/proc/self/clear_refs", "w").write("5")  # the peak from here on
    before = peak_kib()[0]
    attempt = holdfast.resume_from().attempt
    restored = holdfast.restore(model)
    if restored is not None:
        peak = peak_kib()[0]
        assert (state["weights"] == numpy.arange(size // 8, dtype="u8")).all()
        print("restored", restored.step, peak - before, 0, flush=True)
        sys.exit(0)
    for step in range(1, 6):
        holdfast.step(step)
        assert holdfast.snapshot(model, step=step)
        peak, shared = peak_kib()
        print("grown", step, peak - before - shared, shared, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
FULL = """
    import holdfast, sys
    for step in range(1, 50):
        holdfast.step(step, loss=1.0)
        saved = holdfast.snapshot(None, step=step, extra=bytes(int(sys.argv[1])))
        assert saved == (sys.argv[2] == "fits"), saved
"""


class Memory(pymodule.Scripts):
    def said(self, run, word):
        """The numbers of the lines that begin with this word."""
        files = sorted((run.directory / "logs").rglob("*.out"))
        lines = [line.split() for file in files for line in file.read_text().splitlines()]
        return [[int(n) for n in line[1:]] for line in lines if line[0] == word]

    def test_large(self):
        try:
            import numpy  # noqa: F401
        except ImportError:
            self.skipTest("numpy cannot be imported by this interpreter")
        found = os.statvfs("/dev/shm")
        size = int(os.environ.get("SIZE_MIB", SIZE_BYTES >> 20)) << 20
        if found.f_bavail * found.f_frsize < 4 * size:
            self.skipTest("/dev/shm is too small here")
        run = self.run_of(self.write(LARGE), size).start()
        self.ends(run)
        grown = self.said(run, "grown")
        print(f"state {size >> 20} MiB: grown by {[g[1] >> 10 for g in grown]} MiB beside "
              f"{[g[2] >> 10 for g in grown]} MiB of slots", end=" ")
        self.assertEqual(len(grown), 5)
        for _, private_kib, shared_kib in grown:
            # A copy of the state would be seen; what is loaded and measured is a few MiB.
            self.assertLess(private_kib, (size >> 10) // 4)
            self.assertLessEqual(shared_kib, 3 * (size >> 10) * 1.03 + 4096)
        ((step, private_kib, _),) = self.said(run, "restored")
        self.assertEqual(step, 5)
        print(f"restored with {private_kib >> 10} MiB", end=" ")
        # It is read into the array that is there.
        self.assertLess(private_kib, (size >> 10) // 4)

    def test_too_small(self):
        run, errors = self.full("small", ("--shm-dir", self.small_folder(8)), 4 << 20, "full")
        self.assert_refused(run, errors)

    def test_the_run_says_so(self):
        command = [self.build / "holdfast", "run", "-d", self.scratch / "aloud", "--shm-dir", self.small_folder(8), "--",
                   sys.executable, self.write(FULL), str(4 << 20), "full"]
        done = subprocess.run(command, env=dict(os.environ, **self.environment()), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("rank 0 has no memory for its snapshots: 1 rank needs", done.stdout + done.stderr)

    def test_control_large_enough(self):
        run, errors = self.full("large", ("--shm-dir", self.small_folder(64)), 4 << 20, "fits")
        self.assertEqual(run.of_kind("no-room"), [])
        self.assertEqual(errors, "")

    def test_limited(self):
        """The same by a limit on the size of files, where nothing can be mounted."""
        script = self.write(FULL)
        shell = f'ulimit -f 8192; exec "{sys.executable}" "{script}" {4 << 20} full'
        run = self.run_of("-c", "import os, sys; os.execv('/bin/sh', ['sh', '-c', sys.argv[1]])", shell, ranks=2).start()
        self.ends(run)
        self.assert_refused(run, self.logs(run))

    def small_folder(self, size_mib):
        """A small file system in memory."""
        if os.geteuid() != 0:
            self.skipTest("needs root, to mount a small file system")
        folder = self.scratch / f"shm-{size_mib}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0700", "none", folder],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self.skipTest("mounting is not allowed here: " + done.stderr.strip())
        self.addCleanup(subprocess.run, ["umount", "--lazy", folder], check=True)
        return str(folder)

    def full(self, name, options, size, outcome):
        run = self.run_of(self.write(FULL), size, outcome, ranks=2, name=name, options=options).start()
        self.assertEqual(run.wait(120), 0, run.output() + self.logs(run))
        run.settle()
        self.assertEqual(pymodule.audit.audit(run.records), [])
        return run, "".join(f.read_text() for f in sorted((run.directory / "logs").rglob("*.err")))

    def assert_refused(self, run, errors):
        """Each rank says it once, the journal and what reads it say what is needed, and the run was none the worse."""
        lines = [line for line in errors.splitlines() if "no memory for snapshots" in line]
        self.assertEqual(len(lines), 2, errors)
        self.assertIn("32", lines[0])  # 3 slots of 5.3 MiB, base64 as they are, for 2 ranks
        refused = run.of_kind("no-room")
        self.assertEqual(sorted((r["rank"], r["step"], r["rank_count"]) for r in refused), [(0, 1, 2), (1, 1, 2)])
        for record in refused:
            self.assertLess(record["room_bytes"], record["need_bytes"])
            self.assertGreater(record["need_bytes"], 12 << 20)
        self.assertEqual(run.of_kind("fault"), [])
        self.assertEqual(sorted(run.rows()), list(range(1, 50)))
        for command in ("status", "why"):
            done = subprocess.run([self.build / "holdfast", command, run.directory], capture_output=True, text=True,
                                  timeout=60, check=False)
            self.assertIn("has no memory for its snapshots: 2 ranks need", done.stdout, command)


if __name__ == "__main__":
    sys.exit(pymodule.main(Memory))
