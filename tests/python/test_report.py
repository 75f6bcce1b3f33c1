"""A supervised script's reports in the journal: values, what is not finite, phases, checkpoints, requests; and who
does not report: forked and spawned workers, and a process that only imports the module.

    test_report.py BUILD [TEST...]
"""

import os
import pathlib
import sys

import pymodule

VALUES = """
    import holdfast
    for n in range(5):
        holdfast.step(n, loss=0.1 * n, grad_norm=2.0, learning_rate=1e-3, tokens=512, data_cursor=7 + n,
                      digest=2**64 - 1, compute_ns=1500, accuracy=0.5, skipped=None)
    holdfast.step(5, 0.25)
    holdfast.step(6)
"""
PHASES = """
    import holdfast
    assert holdfast.supervised()
    with holdfast.phase("restore"):
        pass
    holdfast.step(1)
    with holdfast.phase("eval"):
        with holdfast.phase("save"):
            holdfast.checkpoint_saved("relative.pt", 1)
    holdfast.step(2)
"""
# What the first attempt does wrong; the second is well.
WRONG = """
    import holdfast, sys, time
    first = holdfast.resume_from()
    print(first, flush=True)
    for n in range(20):
        holdfast.step(n, {wrong})
        time.sleep(0.01)
    while first.attempt == 1:
        time.sleep(0.01)
"""
STOP = """
    import holdfast, time
    n = 0
    while not holdfast.should_stop():
        holdfast.step(n)
        n += 1
        time.sleep(0.01)
"""
WORKERS = """
    import multiprocessing, os, signal, subprocess, sys
    import holdfast

    def work(how):
        # A worker's first call would join where nobody has.
        holdfast.step(100, loss=1.0)
        assert not holdfast.supervised() and not holdfast.should_stop()
        assert holdfast.snapshot(None, step=100) is False
        open(os.path.join(sys.argv[1], how), "w").close()

    def workers(how):
        for method in ("fork", "spawn"):
            process = multiprocessing.get_context(method).Process(target=work, args=(method + how,), daemon=True)
            process.start()
            process.join()
            assert process.exitcode == 0, process.exitcode

    if __name__ == "__main__":
        # A tool that imports the module and calls nothing has not joined.
        subprocess.run([sys.executable, "-c", "import holdfast"], check=True)
        workers("-before")
        holdfast.step(1, loss=0.5)
        assert holdfast.supervised()
        workers("-after")
        child = os.fork()
        if child == 0:
            work("bare")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        holdfast.step(2, loss=0.25)
"""


class Report(pymodule.Scripts):
    def test_values(self):
        run = self.run_of(self.write(VALUES)).start()
        self.ends(run)
        rows = run.rows()
        self.assertEqual(sorted(rows), list(range(7)))
        for n in range(5):
            row = rows[n]
            self.assertEqual((row["loss"], row["grad_norm"], row["learning_rate"]), (0.1 * n, 2.0, 1e-3))
            self.assertEqual((row["tokens"], row["data_cursor"]), (512, 7 + n))
            self.assertEqual(row["digest"], "f" * 16)
            self.assertEqual(row["fields"], ["loss", "grad_norm", "learning_rate", "tokens", "data_cursor", "digest",
                                             "compute"])
        self.assertEqual((rows[5]["loss"], rows[5]["fields"]), (0.25, ["loss"]))
        self.assertEqual(rows[6]["fields"], [])
        self.assertEqual(run.of_kind("fault"), [])

    def wrong(self, wrong):
        """The faults of a script whose 8th step reports this."""
        run = self.run_of(self.write(WRONG.format(wrong=wrong)), name=f"run-{len(wrong)}").start()
        self.ends(run)
        return [fault["fault"] for fault in run.of_kind("fault")]

    def test_not_finite(self):
        for wrong in ("loss=float('nan') if n == 7 and first.attempt == 1 else 1.0",
                      "grad_norm=float('inf') if n == 7 and first.attempt == 1 else 1.0",
                      "loss=1.0, accuracy=float('nan') if n == 7 and first.attempt == 1 else 1.0"):
            with self.subTest(wrong):
                self.assertEqual(self.wrong(wrong), ["not-finite"])

    def test_phases(self):
        run = self.run_of(self.write(PHASES)).start()
        self.ends(run)
        self.assertEqual([p["phase"] for p in run.of_kind("phase")],
                         ["restore", "init", "step", "evaluation", "checkpoint", "evaluation", "step"])
        (saved,) = run.of_kind("saved")
        self.assertEqual((saved["step"], saved["path"]), (1, str(pathlib.Path.cwd() / "relative.pt")))

    def test_stop(self):
        run = self.run_of(self.write(STOP)).start()
        run.wait_step(5)
        run.process.terminate()
        self.ends(run, 143)
        # The script was not ended: it ended.
        self.assertEqual([e["wait_status"] for e in run.of_kind("exit")], [0])

    def test_workers(self):
        run = self.run_of(self.write(WORKERS), self.scratch).start()
        self.ends(run)
        self.assertEqual(sorted(run.rows()), [1, 2])
        self.assertEqual(len(run.of_kind("connected")), 1)
        made = {name for name in os.listdir(self.scratch) if "-" in name or name == "bare"}
        self.assertEqual(made, {"fork-before", "spawn-before", "fork-after", "spawn-after", "bare"})


if __name__ == "__main__":
    sys.exit(pymodule.main(Report))
