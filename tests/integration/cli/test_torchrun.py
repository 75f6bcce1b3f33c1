#!/usr/bin/env python3
"""`holdfast torchrun` runs what torchrun would run, tells the ranks what torchrun would tell them, and says what it
cannot do.

PYTHON_EXEC names this interpreter.  No torch is needed: a folder on its path plays it where devices are counted.
"""

import json
import os
import pathlib
import socket
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import cli  # noqa: E402

USAGE, AGAIN, CONFIG = 64, 75, 78
# A rank writes down what it was given.
SCRIPT = """
import json, os, sys
with open("rank-" + os.environ["RANK"], "w") as f:
    json.dump({"arguments": sys.argv[1:], "environment": dict(os.environ), "unbuffered": sys.stdout.write_through,
               "name": __name__, "program": sys.orig_argv}, f)
sys.exit(int(os.environ.get("END_WITH", "0")))
"""
# A torch that counts devices.
TORCH = """
class Kind:
    def __init__(self, count): self.count = count
    def is_available(self): return self.count > 0
    def device_count(self): return self.count
cuda, xpu = Kind({cuda}), Kind(3)
"""
NO_EFFECT = (
    ("--run-path",), ("--log-dir", "logs"), ("-r", "3"), ("-r0:1,1:3",), ("--redirects=3",), ("-t", "3"), ("--tee", "1"),
    ("--local-ranks-filter", "0"), ("--duplicate-stdout-filters", "x"), ("--duplicate-stderr-filters", "x"),
    ("--monitor-interval", "0.1"), ("--start-method", "fork"), ("--rdzv-conf", "join_timeout=5"),
    ("--local-addr", "localhost"), ("--event-log-handler", "console"), ("--signals-to-handle", "SIGTERM"),
    ("--nnodes", "1"), ("--nnodes=1:1",), ("--node-rank", "0"), ("--rdzv-backend", "c10d"), ("--standalone",),
    ("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"),
)


class Torchrun(cli.Scratch):
    def setUp(self):
        super().setUp()
        (self.folder / "train.py").write_text(SCRIPT)

    def torchrun(self, *words, script=("train.py",), **environment):
        base = {name: value for name, value in os.environ.items()
                if not name.startswith(("PET_", "MASTER_", "PYTHONUNBUFFERED", "OMP_"))}
        return self.holdfast("torchrun", *words, *script, env={**base, "PYTHON_EXEC": sys.executable, **environment})

    def ranks(self, *words, count=1, **more):
        """Run it; what its ranks were given."""
        directory = self.folder / "holdfast-run"
        answer = self.torchrun("--quiet", *words, **more)
        self.assertEqual(answer, (0, "", ""))
        files = sorted(self.folder.glob("rank-*"))
        self.assertEqual(len(files), count)
        seen = [json.loads(file.read_text()) for file in files]
        for file in files:
            file.unlink()
        if directory.exists():
            cli.shutil.rmtree(directory)
        return seen

    def free_port(self):
        with socket.socket() as s:
            s.bind(("", 0))
            return s.getsockname()[1]

    # What is run.

    def test_script(self):
        for words in (("--nproc-per-node", "2"), ("--nproc_per_node", "2"), ("--nproc-per-node=2",),
                      ("--nproc_per_node=2",)):
            with self.subTest(words):
                zero, one = self.ranks(*words, script=("train.py", "--nnodes", "7", "a b", "--", "-m"), count=2)
                self.assertEqual(one["arguments"], ["--nnodes", "7", "a b", "--", "-m"])
                self.assertEqual(one["program"][:3], [sys.executable, "-u", "train.py"])
                self.assertEqual((one["unbuffered"], one["name"]), (True, "__main__"))
                self.assertEqual([rank["environment"]["RANK"] for rank in (zero, one)], ["0", "1"])

    def test_module(self):
        (self.folder / "package").mkdir()
        (self.folder / "package" / "train.py").write_text(SCRIPT)
        for flag in ("-m", "--module"):
            rank, = self.ranks(flag, script=("package.train", "-m"))
            self.assertEqual((rank["arguments"], rank["name"]), (["-m"], "__main__"))
            self.assertEqual(rank["program"][1:4], ["-u", "-m", "package.train"])

    def test_program(self):
        for flag in ("--no-python", "--no_python"):
            rank, = self.ranks(flag, script=(sys.executable, "train.py", "-u"))
            self.assertEqual(rank["program"], [sys.executable, "train.py", "-u"])

    def test_interpreter_on_path(self):
        folder = self.folder / "bin"
        folder.mkdir()
        (folder / "python3").write_text(f"#!/bin/sh\nexport CAME_FROM_PATH=yes\nexec {sys.executable} \"$@\"\n")
        (folder / "python3").chmod(0o755)
        rank, = self.ranks(PYTHON_EXEC="", PATH=f"{folder}:{os.environ['PATH']}")
        self.assertEqual(rank["environment"].get("CAME_FROM_PATH"), "yes")

    def test_own_options(self):
        """Those of holdfast run stand among torchrun's."""
        self.ranks("-d", "elsewhere", "--nproc-per-node", "2", "--stall_min=5s", count=2)
        self.assertTrue((self.folder / "elsewhere" / "journal").is_dir())
        answer = self.torchrun("--stall-min", "x")
        self.refused(answer, USAGE, "--stall-min", "x")

    # What the ranks are told.

    def test_names(self):
        port = self.free_port()
        rank, = self.ranks("--role", "critic", "--rdzv_id", "job 7", "--master_addr", "localhost",
                           f"--master-port={port}", "--max-restarts", "4", MASTER_PORT="1", MASTER_ADDR="nowhere")
        expected = {"ROLE_NAME": "critic", "TORCHELASTIC_RUN_ID": "job 7", "MASTER_ADDR": "localhost",
                    "MASTER_PORT": str(port), "TORCHELASTIC_MAX_RESTARTS": "4", "TORCHELASTIC_RESTART_COUNT": "0",
                    "TORCHELASTIC_USE_AGENT_STORE": "False", "PYTHONUNBUFFERED": "1"}
        self.assertEqual({name: rank["environment"].get(name) for name in expected}, expected)
        self.assertNotIn("OMP_NUM_THREADS", rank["environment"])
        self.assertTrue(rank["environment"]["TORCHELASTIC_ERROR_FILE"].endswith("attempt-001/rank-0000.error.json"))

    def test_endpoint(self):
        port = self.free_port()
        for endpoint, address in ((f"localhost:{port}", "localhost"), (f"[::1]:{port}", "::1")):
            rank, = self.ranks("--rdzv-endpoint", endpoint)
            self.assertEqual((rank["environment"]["MASTER_ADDR"], rank["environment"]["MASTER_PORT"]),
                             (address, str(port)))
        for free in (("--standalone", "--master-port", port), ("--rdzv-backend=c10d", "--rdzv-endpoint", f"a:{port}"),
                     ("--rdzv-endpoint", "localhost"), ()):
            rank, = self.ranks(*free)
            self.assertNotIn(rank["environment"]["MASTER_PORT"], ("0", str(port)))

    def test_environment(self):
        """What cluster managers set counts where the command line says nothing."""
        zero, _ = self.ranks(PET_NPROC_PER_NODE="2", PET_RDZV_ID="seven", PET_MODULE="0", PET_NNODES="1", count=2)
        self.assertEqual(zero["environment"]["TORCHELASTIC_RUN_ID"], "seven")
        self.ranks("--nproc-per-node", "1", PET_NPROC_PER_NODE="2")
        self.refused(self.torchrun(PET_NNODES="2"), USAGE, "--nnodes", "2")
        self.refused(self.torchrun(PET_VIRTUAL_LOCAL_RANK="1"), USAGE, "--virtual-local-rank")

    def test_no_effect(self):
        for words in NO_EFFECT:
            with self.subTest(words):
                for spelling in (words, [word.replace("-", "_") if word.startswith("--") else word for word in words]):
                    dashed = ["--" + word[2:] if word.startswith("__") else word for word in spelling]
                    self.ranks(*dashed)

    def test_devices(self):
        torch = self.folder / "torch.py"
        torch.write_text(TORCH.format(cuda=2))
        path = {"PYTHONPATH": str(self.folder)}
        for kind, count in (("gpu", 2), ("auto", 2), ("xpu", 3), ("cpu", len(os.sched_getaffinity(0)))):
            with self.subTest(kind):
                self.ranks("--nproc-per-node", kind, count=count, **path)
        torch.write_text(TORCH.format(cuda=0))
        self.ranks("--nproc-per-node", "auto", count=len(os.sched_getaffinity(0)), **path)
        self.refused(self.torchrun("--nproc-per-node", "gpu", **path), CONFIG, "gpu", "there is none")
        self.refused(self.torchrun("--nproc-per-node", "npu", **path), CONFIG, "npu", "there is none")
        torch.write_text("raise ImportError('half installed')")
        self.refused(self.torchrun("--nproc-per-node", "auto", **path), CONFIG, "auto", "PYTHON_EXEC")

    # What is refused, and how it ends.

    def test_refused(self):
        for words, part in ((("--numa-binding", "node"), "not supported"), (("--logs_specs", "x"), "not supported"),
                            (("--virtual_local_rank",), "not supported"), (("--nnodes", "2"), "one node"),
                            (("--nnodes=1:4",), "one node"), (("--node_rank", "1"), "one node"),
                            (("--rdzv-backend", "etcd"), "c10d or static"), (("--no-python", "-m"), "no program"),
                            (("--nproc-per-node", "0"), "auto"), (("--nproc-per-node", "-1"), "auto"),
                            (("--max-restarts", "-1"), "0 to"), (("--master-port", "65536"), "port"),
                            (("--rdzv-endpoint", ":1"), "HOST:PORT"), (("--shutdown-timeout", "0"), "seconds"),
                            (("--no-such-flag",), "no such option")):
            with self.subTest(words):
                self.refused(self.torchrun(*words), USAGE, words[0].replace("_", "-").lstrip("-")[:6], part)
        self.refused(self.torchrun(script=()), USAGE, "script is missing")
        self.assertEqual([path.name for path in self.folder.iterdir()], ["train.py"])

    def test_port_in_use(self):
        with socket.socket() as s:
            s.bind(("", 0))
            s.listen()
            port = s.getsockname()[1]
            self.refused(self.torchrun("--master-port", port), AGAIN, port, "in use")
        self.assertFalse((self.folder / "holdfast-run").exists())
        self.ranks("--master-port", port)  # the control

    def test_exit_code(self):
        for words, attempts in ((("--max-restarts", "0"), 1), (("--max_restarts=2",), 3)):
            with self.subTest(words):
                code, _, error = self.torchrun("--quiet", "--backoff-first", "1ms", *words, END_WITH="37")
                self.assertEqual((code, error.count("\n")), (37, 1), error)
                logs = self.folder / "holdfast-run" / "logs"
                self.assertEqual(len(list(logs.iterdir())), attempts)
                cli.shutil.rmtree(self.folder / "holdfast-run")


if __name__ == "__main__":
    cli.main()
