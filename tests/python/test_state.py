"""Snapshots without torch: what a state may hold and how it comes back, what is refused and said, and a whole run of a
script that is killed and continues where it was.

    test_state.py BUILD [TEST...]
"""

import contextlib
import errno
import io
import math
import os
import random
import sys
from unittest import mock

import pymodule

STATE = {
    "text": "ü\0\n", "none": None, "true": True, "big": 3**80, "negative": -1, "float": 0.1, "tiny": 5e-324,
    "infinite": -math.inf, "zero": -0.0, "tuple": (1, (2.5, "x"), []), "list": [1, [None]], "bytes": bytes(range(256)),
    "empty": {}, 0: {1: "int keys", (2, "a"): 2}, None: False, True: 1.5,
}
# Counts by random numbers; dies in the middle of its 50th, once; says what it ended with.
SCRIPT = """
    import hashlib, os, random, signal, sys
    import holdfast

    class Model:
        def __init__(self):
            self.values = {"weight": b"", "count": 0}
        def state_dict(self):
            return self.values
        def load_state_dict(self, values):
            self.values = values

    random.seed(7)
    model = Model()
    restored = holdfast.restore(model)
    cursor = 0
    if restored is not None:
        assert restored.step == model.values["count"], (restored, model.values)
        cursor = restored.extra["data_cursor"]
        print("restored", restored.step, flush=True)
    for step in range(model.values["count"] + 1, 101):
        model.values = {"count": step,
                        "weight": hashlib.sha256(model.values["weight"] + random.randbytes(8)).digest()}
        cursor += 3
        holdfast.step(step, loss=1.0 / step, data_cursor=cursor)
        if step == 50 and holdfast.resume_from().attempt == 1 and len(sys.argv) > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        assert holdfast.snapshot(model, step=step, extra={"data_cursor": cursor})
    open(sys.argv[1], "w").write(model.values["weight"].hex() + " " + str(cursor))
"""


class Model:
    """As much of a model as the module asks for."""

    def __init__(self, values):
        self.values = values

    def state_dict(self):
        return self.values

    def load_state_dict(self, values):
        self.values = values


class Trees(pymodule.Remembered):
    def test_there_and_back(self):
        self.assertTrue(self.holdfast.snapshot(None, step=3, extra=STATE))
        step, extra = self.holdfast.restore(None)
        self.assertEqual((step, repr(extra)), (3, repr(STATE)))
        self.assertTrue(self.holdfast.snapshot(None, step=4, extra=math.nan))
        self.assertTrue(math.isnan(self.holdfast.restore(None).extra))

    def test_random_numbers(self):
        random.gauss(0, 1)  # leaves half a pair behind
        self.holdfast.snapshot(None, step=1)
        wanted = [random.random(), random.gauss(0, 1)]
        random.seed(1)
        self.assertNotEqual([random.random(), random.gauss(0, 1)], wanted, "control")
        self.holdfast.restore(None)
        self.assertEqual([random.random(), random.gauss(0, 1)], wanted)

    def test_numpy(self):
        try:
            import numpy
        except ImportError:
            self.skipTest("numpy cannot be imported by this interpreter")
        arrays = {"a": numpy.arange(12.0).reshape(3, 4).T, "b": numpy.array(7, "i2"), "c": numpy.array([True, False]),
                  "d": numpy.zeros((0, 3)), "e": numpy.array([1 + 2j]), "f": numpy.float32(0.1)}
        self.holdfast.snapshot(None, step=1, extra=arrays)
        wanted = numpy.random.rand(3)
        extra = self.holdfast.restore(None).extra
        self.assertEqual(numpy.random.rand(3).tolist(), wanted.tolist())
        for name in "abcde":
            self.assertEqual((extra[name].dtype, extra[name].tolist()), (arrays[name].dtype, arrays[name].tolist()))
        self.assertEqual(extra["f"], float(arrays["f"]))

    def test_what_has_no_form(self):
        for extra, where in (({"a": [0, object()]}, r"extra\['a'\]\[1\] is a object"), ({1, 2}, "extra is a set"),
                             ({"f": len}, "builtin")):
            with self.assertRaisesRegex(TypeError, where):
                self.holdfast.snapshot(None, step=1, extra=extra)
        self.assertEqual(self.memory.begun, 0)

    def test_nothing_to_restore(self):
        self.holdfast.snapshot(None, step=1)
        self.memory.source = 0
        self.assertIsNone(self.holdfast.restore(None))
        self.memory.source = 2
        self.assertIsNone(self.holdfast.restore(None))

    def refused(self, text, model=None, optimizer=None):
        with self.assertRaisesRegex(self.holdfast.SnapshotError, text):
            self.holdfast.restore(model, optimizer)
        self.assertIsNone(self.memory.position, "the reading was not ended")

    def test_of_another_program(self):
        model = Model({"a": 1, "b": 2})
        self.holdfast.snapshot(model, step=1)
        self.refused("with the model's state")
        self.refused("b is only in the snapshot", Model({"a": 1}))
        self.refused("c is only in the model", Model({"a": 1, "b": 1, "c": 1}))
        self.refused("without the optimizer's state", model, Model({}))
        other = Model({"a": 5, "b": 6})
        self.assertEqual(self.holdfast.restore(other).step, 1)
        self.assertEqual(other.values, model.values)
        self.memory.step, self.memory.restore_begin = 9, lambda step: -errno.EBADMSG
        self.refused("step 9 cannot be read", model)

    def test_damage_is_an_error_and_no_crash(self):
        """Every byte of the header changed, and every truncation: an error, or the same kind of state."""
        self.holdfast.snapshot(None, step=1, extra={"a": (1, b"xy"), 2: "z"})
        whole, seed = self.memory.data, 1
        generator = random.Random(seed)
        outcomes = {"refused": 0, "restored": 0}
        for at in range(0, min(len(whole), 400)):
            for damaged in (whole[:at] + bytes([generator.randrange(256)]) + whole[at + 1 :], whole[:at]):
                self.memory.data = damaged
                before = random.getstate()
                try:
                    self.holdfast.restore(None)
                    outcomes["restored"] += 1
                except self.holdfast.SnapshotError:
                    outcomes["refused"] += 1
                random.setstate(before)
        print(f"seed {seed}: {outcomes}", end=" ")
        self.assertGreater(outcomes["refused"], 400)
        self.memory.data = whole + b"x"
        self.refused("its length is not that of its parts")

    def test_no_memory_is_said_once(self):
        self.memory.refusal = -errno.ENOSPC
        said = io.StringIO()
        with mock.patch.dict(os.environ, HOLDFAST_CHANNEL="/dev/shm/x", LOCAL_WORLD_SIZE="2"), \
                contextlib.redirect_stderr(said):
            for step in range(4):
                self.assertFalse(self.holdfast.snapshot(None, step=step, extra=b"a" * (3 << 20)))
        self.assertEqual(said.getvalue().count("\n"), 1, said.getvalue())
        # 4 MiB in base64, thrice, twice.
        self.assertRegex(said.getvalue(), r"no memory for snapshots: /dev/shm needs 3 x 4\S* MiB .* 2 ranks, 24\S* MiB")
        self.assertEqual(self.memory.begun, 1, "it was tried again")

    def test_other_refusals(self):
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            for refusal in (errno.EDOM, errno.EACCES, errno.EACCES):
                self.memory.refusal = -refusal
                self.assertFalse(self.holdfast.snapshot(None, step=5))
        self.assertEqual(said.getvalue(), "holdfast: step 5 is in no snapshot: Permission denied\n")


class Killed(pymodule.Scripts):
    def outcome(self, *arguments):
        name = "-".join(("run", *arguments))
        path = self.scratch / (name + ".txt")
        run = self.run_of(self.write(SCRIPT), path, *arguments, name=name).start()
        self.ends(run)
        return path.read_text(), run

    def test_continues_to_the_bit(self):
        whole, _ = self.outcome()
        self.assertTrue(whole.endswith(" 300"))
        killed, run = self.outcome("killed")
        self.assertEqual(killed, whole)
        self.assertEqual([s["step"] for s in run.of_kind("start") if s["source"] == "memory"], [49])
        self.assertEqual([r["redone_steps"] for r in run.of_kind("recovered")], [1])


if __name__ == "__main__":
    sys.exit(pymodule.main(Trees, Killed))
