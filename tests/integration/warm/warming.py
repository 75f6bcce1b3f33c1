"""What the tests of --warm share."""

import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "life"))
import life  # noqa: E402
import rig  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = os.environ.get("HOLDFAST_TORCH_PYTHON", "/usr/bin/python3")


class Warm(life.Life):
    def python(self, *words, modules=None, name="run", python=PYTHON, options=(), **rest):
        """A run of a Python command; with modules, a warm one."""
        warm = ["--warm", modules] if modules else []
        return self.run_of(python, *words, name=name, options=[*warm, *options], **rest)

    def finished(self, run, code=0):
        """Start it, wait for its end, and give back its records of a kind by a function."""
        run.start()
        self.assertEqual(run.wait(), code, run.output())
        run.settle()
        return run

    def output(self, run, end="out", attempt=1, rank=0):
        return (run.directory / f"logs/attempt-{attempt:03}/rank-{rank:04}.{end}").read_text(errors="replace")

    def warmth(self, run):
        """Of each start: 1 warm, 0 cold."""
        return [r["warm"] for r in run.of_kind("started")]

    def interpreter_pid(self, run, other_than=0):
        """Pid of the warm interpreter."""
        def find():
            for pid in rig.children_of(run.agent_pid):
                word = rig.environment_of(pid).get("HOLDFAST_WARM", "")
                if " serve " in word and "RANK" not in rig.environment_of(pid) and pid != other_than:
                    return pid
            return None

        return rig.wait_for(find, "warm interpreter")

    def write(self, name, text):
        path = self.scratch / name
        path.write_text(text)
        return path


def comparable(text, run):
    """What given.py said, without what two starts of one kind differ in."""
    said = json.loads(text)
    run_id = run.of_kind("run")[0]["run_id"]
    port = said["environment"]["MASTER_PORT"]
    text = json.dumps(said).replace(run_id, "RUN").replace(run_id[:16], "RUN").replace(f'"{port}"', '"PORT"')
    text = text.replace(f"MASTER_PORT={port}", "MASTER_PORT=PORT").replace(str(run.directory), "DIRECTORY")
    said = json.loads(text)
    said["parent"] = said["parent"] == run.agent_pid
    return said


__all__ = ["HERE", "PYTHON", "Warm", "comparable", "life", "rig"]
