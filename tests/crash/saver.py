"""A script that saves checkpoints, as children that may be killed: torch.save, or without torch a zip in pieces.

    saver.py FD...

On each descriptor, a stream socket, one lane: `save SHAPE DIR STEP` answers `pid N`, `begin` right before it writes,
`end` when it has, and `gone` once the child is reaped; `cut SHAPE DIR STEP` likewise, but the child stays until it is
killed; `load SHAPE DIR` answers what a script would resume from:
`step N`, `nothing`, or `torn WHY`.
"""

import json
import os
import pathlib
import re
import signal
import socket
import sys
import zipfile

try:
    import torch
except ImportError:
    torch = None

VALUES = 1 << 21  # four bytes each


def save_file(path, step):
    if torch is not None:
        torch.save({"step": step, "w": torch.full((VALUES,), float(step))}, path)
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("w/data", "w", force_zip64=True) as entry:
            for _ in range(64):
                entry.write(step.to_bytes(4, "little") * (VALUES // 64))
        archive.writestr("w/step", str(step))


def load_file(path):
    """The step; raises when anything about it is not as it was saved."""
    if torch is not None:
        state = torch.load(path, map_location="cpu")
        step, low, high = state["step"], int(state["w"].min()), int(state["w"].max())
    else:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError("an entry is not what it was")
            step, raw = int(archive.read("w/step")), archive.read("w/data")
        low = high = step
        if raw != step.to_bytes(4, "little") * VALUES:
            raise ValueError("mixed bytes")
    if not low == high == step:
        raise ValueError(f"mixed: step {step}, values from {low} to {high}")
    return step


def save(shape, folder, step):
    if shape == "inplace":
        save_file(folder / "ckpt.pt", step)
    elif shape == "renamed":
        save_file(folder / "ckpt.pt.tmp", step)
        os.replace(folder / "ckpt.pt.tmp", folder / "ckpt.pt")
    elif shape == "numbered":
        save_file(folder / f"model_{step}.pt", step)
    else:
        made = folder / f"checkpoint-{step}"
        made.mkdir(exist_ok=True)
        save_file(made / "model.pt", step)
        save_file(made / "optimizer.pt", step)
        (made / "trainer_state.json").write_text(json.dumps({"global_step": step}))


def newest(folder, pattern):
    found = [(int(match[1]), name) for name in os.listdir(folder) if (match := re.fullmatch(pattern, name))]
    return folder / max(found)[1] if found else None


def load(shape, folder):
    if shape in ("inplace", "renamed"):
        path = folder / "ckpt.pt"
        return load_file(path) if path.exists() else None
    if shape == "numbered":
        path = newest(folder, r"model_(\d+)\.pt")
        return load_file(path) if path else None
    path = newest(folder, r"checkpoint-(\d+)")
    if path is None:
        return None
    step = json.loads((path / "trainer_state.json").read_text())["global_step"]
    if not load_file(path / "model.pt") == load_file(path / "optimizer.pt") == step:
        raise ValueError("parts of different steps")
    return step


def serve(lane):
    def say(text):
        lane.sendall(f"{text}\n".encode())

    with lane.makefile("r") as heard:
        for line in heard:
            verb, shape, folder, *step = line.rstrip("\n").split("\t")
            if verb == "load":
                try:
                    found = load(shape, pathlib.Path(folder))
                    say("nothing" if found is None else f"step {found}")
                except Exception as error:  # whatever a reader of a torn file raises
                    say(f"torn {type(error).__name__}")
                continue
            pid = os.fork()
            if pid == 0:
                say(f"pid {os.getpid()}")
                say("begin")
                save(shape, pathlib.Path(folder), int(step[0]))
                say("end")
                if verb == "cut":
                    signal.pause()
                os._exit(0)
            os.waitpid(pid, 0)
            say("gone")


def main():
    lanes = [socket.socket(fileno=int(number)) for number in sys.argv[1:]]
    children = []
    for lane in lanes:
        pid = os.fork()
        if pid == 0:
            for other in lanes:
                if other is not lane:
                    other.close()
            serve(lane)
            os._exit(0)
        children.append(pid)
    for lane in lanes:
        lane.close()
    for pid in children:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
