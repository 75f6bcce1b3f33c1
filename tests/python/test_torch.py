"""Snapshots of models and optimizers of torch: every type and layout to the bit, bounded memory, and two ranks of DDP of
which one is killed again and again.  Skipped where torch cannot be imported; HOLDFAST_TORCH_PYTHON names an interpreter
that has it.

    test_torch.py BUILD [TEST...]		KILLS=N in the environment: kills in the run of two ranks (3)
"""

import os
import random
import signal
import sys
import time
import unittest
from unittest import mock

import pymodule

try:
    import torch

    # A folder of that name can be imported as well.
    if not hasattr(torch, "Tensor"):
        raise ImportError("it is not installed")
except ImportError as error:
    torch = None
    print(f"skipped: torch cannot be imported by {sys.executable}: {error}")

STEPS = 60
STEP_MS = 30


def bits(tensor):
    """The bytes of a tensor, in the order of its elements, and what else there is to it."""
    tensor = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    raw = bytes(tensor.flatten().view(torch.uint8).tolist()) if tensor.numel() and tensor.dim() else \
        bytes(tensor.reshape(1).view(torch.uint8).tolist()) if tensor.numel() else b""
    return str(tensor.dtype), tuple(tensor.shape), raw


def flat(tree):
    """A tree with the bits of its tensors."""
    if isinstance(tree, dict):
        return {key: flat(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(flat(value) for value in tree)
    return bits(tree) if isinstance(tree, torch.Tensor) else tree


@unittest.skipIf(torch is None, "torch cannot be imported")
class Tensors(pymodule.Remembered):
    def setUp(self):
        super().setUp()
        torch.set_num_threads(1)
        torch.manual_seed(1)

    def trained(self, make=None, dtype=None, steps=2):
        """A model and an optimizer that have made steps."""
        model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 4))
        if dtype is not None:
            model.to(dtype)
        optimizer = (make or torch.optim.AdamW)(model.parameters(), lr=0.01)
        for _ in range(steps):
            self.advance(model, optimizer)
        return model, optimizer

    def advance(self, model, optimizer):
        def closure():
            optimizer.zero_grad()
            loss = (model(given) ** 2).mean()
            loss.backward()
            return loss

        given = torch.randn(32, 8).to(next(model.parameters()).dtype)
        optimizer.step(closure)

    def test_every_type(self):
        names = ("float64 float32 float16 bfloat16 uint8 int8 int16 int32 int64 bool complex64 complex128 "
                 "float8_e4m3fn float8_e5m2 uint16 uint32 uint64").split()
        tensors = {}
        for name in names:
            dtype = getattr(torch, name, None)
            if dtype is None:
                continue
            size = torch.empty((), dtype=dtype).element_size()
            raw = torch.randint(0, 2 if name == "bool" else 256, (24 * size,), dtype=torch.uint8)
            tensors[name] = raw.view(dtype).reshape(2, 3, 4)
            tensors[name + " 0-dim"] = tensors[name][1, 2, 3].clone()
            tensors[name + " empty"] = tensors[name][:, :0].clone()
        model = torch.nn.Module()
        for at, tensor in enumerate(tensors.values()):
            model.register_buffer(f"b{at}", tensor)
        self.assertTrue(self.holdfast.snapshot(model, step=1, extra=tensors))
        wanted = flat(model.state_dict())
        places = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
        for tensor in model.buffers():
            tensor.zero_()
        self.assertNotEqual(flat(model.state_dict()), wanted, "control")
        extra = self.holdfast.restore(model).extra
        self.assertEqual(flat(model.state_dict()), wanted)
        self.assertEqual(flat(extra), flat(tensors))
        self.assertEqual({name: tensor.data_ptr() for name, tensor in model.state_dict().items()}, places)
        print(len(tensors), "tensors", end=" ")

    def of_the_model(self, model):
        """The sizes of the pieces that a model's tensors were written in; the random numbers' states follow them."""
        left, sizes = sum(t.numel() * t.element_size() for t in model.state_dict().values()), []
        for size in self.memory.writes[1:]:
            if left > 0:
                sizes.append(size)
                left -= size
        return sizes

    def test_layouts(self):
        """Strided tensors pass through a small buffer and come back in place."""
        from holdfast import _blobs

        base = torch.randn(6, 50, 7, 9)
        makes = {"channels last": lambda: base.clone(memory_format=torch.channels_last),
                 "transposed": lambda: base.clone().transpose(0, 3), "every other": lambda: base.clone()[:, ::2],
                 "conjugate": lambda: torch.complex(base, base).conj(),
                 "negative": lambda: torch.complex(base, base).conj().imag,
                 "slice": lambda: base.clone()[1:3], "whole": base.clone}
        for name, make in makes.items():
            for chunk in (4, 64, 1000, 5000, 1 << 20):
                with self.subTest(name, chunk=chunk), mock.patch.object(_blobs, "CHUNK_BYTES", chunk):
                    model = torch.nn.Module()
                    model.register_buffer("it", make())
                    self.holdfast.snapshot(model, step=1)
                    if name not in ("whole", "slice", "every other"):
                        self.assertLessEqual(max(self.of_the_model(model)), max(chunk, 8))
                    there, stride = model.it.data_ptr(), model.it.stride()
                    wanted = bits(model.it)
                    model.it.copy_(torch.ones_like(model.it))
                    self.assertNotEqual(bits(model.it), wanted, "control")
                    self.holdfast.restore(model)
                    self.assertEqual(bits(model.it), wanted)
                    self.assertEqual((model.it.data_ptr(), model.it.stride()), (there, stride))

    def optimizers(self):
        yield "AdamW", None
        yield "AdamW amsgrad", lambda p, lr: torch.optim.AdamW(p, lr=lr, amsgrad=True)
        yield "SGD momentum", lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, nesterov=True)
        yield "SGD", torch.optim.SGD
        yield "Adagrad", torch.optim.Adagrad
        yield "LBFGS", lambda p, lr: torch.optim.LBFGS(p, lr=lr, history_size=3)
        yield "groups", lambda p, lr: torch.optim.Adam([{"params": [q], "lr": lr / (i + 1)} for i, q in enumerate(p)])
        if not torch.__version__.startswith("1."):
            yield "lr tensor", lambda p, lr: torch.optim.AdamW(p, lr=torch.tensor(lr), foreach=False)

    def test_optimizers(self):
        """A new model and optimizer take the state and then go the same way, to the bit."""
        for name, make in self.optimizers():
            with self.subTest(name):
                model, optimizer = self.trained(make)
                self.assertTrue(self.holdfast.snapshot(model, optimizer, step=2))
                wanted = flat([model.state_dict(), optimizer.state_dict()])
                self.advance(model, optimizer)
                later = flat([model.state_dict(), optimizer.state_dict()])
                for steps in (0, 3):  # without a state of its own, and with one
                    other, its = self.trained(make, steps=steps)
                    self.assertEqual(self.holdfast.restore(other, its).step, 2)
                    self.assertEqual(flat([other.state_dict(), its.state_dict()]), wanted)
                    self.advance(other, its)
                    self.assertEqual(flat([other.state_dict(), its.state_dict()]), later)

    def test_types_of_an_optimizer_state(self):
        """State that has another type than its parameter keeps it; torch's own loading would change it."""
        model, optimizer = self.trained(dtype=torch.bfloat16)
        for state in optimizer.state.values():
            state["master"] = torch.randn(3, dtype=torch.float64)
            state["nested"] = {"list": [torch.randn(2), (1, None)]}
        self.holdfast.snapshot(model, optimizer, step=2)
        other, its = self.trained(dtype=torch.bfloat16, steps=0)
        self.holdfast.restore(other, its)
        self.assertEqual(flat(its.state_dict()), flat(optimizer.state_dict()))
        control = torch.optim.AdamW(other.parameters(), lr=0.01)
        control.load_state_dict(optimizer.state_dict())
        self.assertNotEqual(flat(control.state_dict()), flat(optimizer.state_dict()), "control")

    def test_in_place(self):
        model, optimizer = self.trained()
        self.holdfast.snapshot(model, optimizer, step=2)

        def places():
            return [t.data_ptr() for t in [*model.parameters(), *model.buffers()]] + \
                [t.data_ptr() for state in optimizer.state.values() for t in state.values()
                 if isinstance(t, torch.Tensor)]

        before = places()
        self.advance(model, optimizer)
        self.holdfast.restore(model, optimizer)
        self.assertEqual(places(), before)

    def test_extra_state_and_wrappers(self):
        class Counting(torch.nn.Linear):
            count = 0

            def get_extra_state(self):
                return {"count": self.count}

            def set_extra_state(self, state):
                self.count = state["count"]

        class Wrapped:
            """An optimizer that is none of torch's."""

            def __init__(self, inner):
                self.state_dict, self.load_state_dict = inner.state_dict, inner.load_state_dict

        model = Counting(3, 2)
        model.count = 5
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.randn(1, 3)).sum().backward()
        optimizer.step()
        self.holdfast.snapshot(model, Wrapped(optimizer), step=1)
        wanted = flat([model.state_dict(), optimizer.state_dict()])
        other = Counting(3, 2)
        its = torch.optim.AdamW(other.parameters())
        self.holdfast.restore(other, Wrapped(its))
        self.assertEqual(other.count, 5)
        self.assertEqual(flat([other.state_dict(), its.state_dict()]), wanted)

    def test_of_another_model(self):
        model, optimizer = self.trained()
        self.holdfast.snapshot(model, optimizer, step=2)
        for text, other in (("0.weight is float32 of shape", torch.nn.Sequential(
                torch.nn.Linear(8, 17), torch.nn.BatchNorm1d(17), torch.nn.Linear(17, 4))),
                            ("1.bias is only", torch.nn.Sequential(torch.nn.Linear(8, 16))),
                            ("0.weight is float32", self.trained(dtype=torch.float64, steps=0)[0])):
            wanted = flat(other.state_dict())
            with self.assertRaisesRegex(self.holdfast.SnapshotError, text):
                self.holdfast.restore(other, torch.optim.AdamW(other.parameters()))
            self.assertEqual(flat(other.state_dict()), wanted, "it was changed all the same")
        with self.assertRaisesRegex(self.holdfast.SnapshotError, "has 6 parameters, this one has 1"):
            self.holdfast.restore(model, torch.optim.AdamW([next(model.parameters())]))

    def test_what_cannot_be_saved(self):
        sparse = torch.eye(3).to_sparse()
        with self.assertRaisesRegex(TypeError, r"extra\['s'\]: a tensor of layout torch.sparse_coo"):
            self.holdfast.snapshot(None, step=1, extra={"s": sparse})

    def test_random_numbers(self):
        model, optimizer = self.trained()
        self.holdfast.snapshot(model, optimizer, step=1)
        wanted = torch.rand(4).tolist()
        torch.manual_seed(5)
        self.assertNotEqual(torch.rand(4).tolist(), wanted, "control")
        self.holdfast.restore(model, optimizer)
        self.assertEqual(torch.rand(4).tolist(), wanted)


@unittest.skipIf(torch is None, "torch cannot be imported")
class Ranks(pymodule.Scripts):
    """tests/torch/snapshots.py: DDP on gloo with the three lines."""

    def train(self, name):
        script = pymodule.HERE.parent / "torch" / "snapshots.py"
        directory = self.scratch / name
        directory.mkdir()
        return self.run_of(script, "--steps", STEPS, "--step-ms", STEP_MS, "--save-every", 0, "--directory", directory,
                           "--summary", directory / "summary", ranks=2, name=name + "-run").start()

    def digest(self, name):
        return (self.scratch / name / "summary").read_text()

    def test_killed_again_and_again(self):
        seed, kills = time.time_ns() % 100000, int(os.environ.get("KILLS", "3"))
        print(f"seed {seed}, {kills} kills", end=" ", flush=True)
        generator = random.Random(seed)
        whole = self.train("whole")
        self.ends(whole)
        run = self.train("killed")
        for kill in range(kills):
            mark = run.follower.mark()
            # New steps, so that the run gets on; then a moment within a step.
            run.wait_step((kill + 1) * (STEPS - 10) // (kills + 1) + generator.randrange(3), after=mark)
            time.sleep(generator.random() * STEP_MS / 1000)
            os.kill(run.rank_pid(generator.randrange(2)), signal.SIGKILL)
            run.wait_kind("recovered", after=mark, deadline_s=150)
        self.ends(run)
        recovered = run.of_kind("recovered")
        faults = [(f["fault"], f["step"], f["rank"]) for f in run.of_kind("fault")]
        self.assertEqual(len(recovered), kills, f"{faults}\n{self.logs(run)}")
        self.assertLessEqual(max(r["redone_steps"] for r in recovered), 1, recovered)
        self.assertEqual([s["source"] for s in run.of_kind("start")[1:]], ["memory"] * kills)
        self.assertEqual(self.digest("killed"), self.digest("whole"))
        self.assertEqual({n: r["loss_bits"] for n, r in run.rows().items()},
                         {n: r["loss_bits"] for n, r in whole.rows().items()})
        print("redone", [r["redone_steps"] for r in recovered], end=" ")

    def test_the_example_of_the_manual(self):
        page = (pymodule.HERE.parent.parent / "man" / "holdfast-python.3").read_text(encoding="utf-8")
        example = page.split(".Sh EXAMPLES", 1)[1].split(".Bd -literal\n", 1)[1].split("\n.Ed", 1)[0]
        run = self.run_of(self.write(example), ranks=2, name="example")
        here = os.getcwd()
        os.chdir(self.scratch)
        try:
            run.start()
        finally:
            os.chdir(here)
        run.wait_step(300)
        os.kill(run.rank_pid(1), signal.SIGKILL)
        self.ends(run)
        self.assertEqual([s["source"] for s in run.of_kind("start")], ["scratch", "memory"])
        self.assertEqual(sorted(run.rows()), list(range(1, 1001)))
        self.assertTrue((self.scratch / "model.pt").exists())


if __name__ == "__main__":
    pymodule.torch_interpreter()
    sys.exit(pymodule.main(Tensors, Ranks))
