"""A trainer without a framework that saves as scripts do: in one file, by rename, numbered, or as directories.

Its state is a chain of hashes, so that every loss and the end tell whether it went on from what it should have.  Each
start is written to starts.log; a checkpoint that is not whole when it is loaded is written to torn.log, and ends it.
Saving takes its time, so that a kill finds it in the middle.
"""

import argparse
import hashlib
import io
import json
import os
import pathlib
import sys
import time
import zipfile

PIECES = 40


def advance(chain, step):
    return hashlib.sha256(chain + str(step).encode()).digest()


def loss_of(chain):
    return int.from_bytes(chain[:4], "big") / 2**32


def chain_after(step):
    """The state that an undisturbed run has after this step."""
    chain = b"start"
    for number in range(1, step + 1):
        chain = advance(chain, number)
    return chain


def encode(step, chain, size):
    """As torch.save does it: a zip, its directory at the end."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("archive/data.pkl", json.dumps({"step": step, "chain": chain.hex()}))
        archive.writestr("archive/data/0", hashlib.shake_128(chain).digest(size))
    return whole.getvalue()


def decode(path):
    with zipfile.ZipFile(path) as archive:
        state = json.loads(archive.read("archive/data.pkl"))
        archive.read("archive/data/0")
    return state["step"], bytes.fromhex(state["chain"])


class Saver:
    def __init__(self, arguments):
        self.arguments = arguments
        self.folder = pathlib.Path(arguments.directory)

    def path(self, step):
        return self.folder / {
            "inplace": "ckpt.pt", "rename": "ckpt.pt", "numbered": f"ckpt-{step}.pt",
            "directory": f"checkpoint-{step}",
        }[self.arguments.shape]  # fmt: skip

    def write(self, path, data):
        with open(path, "wb", buffering=0) as file:
            for piece in range(PIECES):
                file.write(data[piece * len(data) // PIECES : (piece + 1) * len(data) // PIECES])
                time.sleep(self.arguments.save_ms / 1000 / PIECES)

    def save(self, step, chain):
        path, data = self.path(step), encode(step, chain, self.arguments.size)
        if self.arguments.shape == "rename":
            self.write(str(path) + ".tmp", data)
            os.replace(str(path) + ".tmp", path)
        elif self.arguments.shape == "directory":
            path.mkdir(exist_ok=True)
            self.write(path / "model.pt", data)
            self.write(path / "optimizer.pt", data)
            (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        else:
            self.write(path, data)

    def load(self, path):
        if self.arguments.shape == "directory":
            state = decode(path / "model.pt")
            if decode(path / "optimizer.pt") != state or not (path / "trainer_state.json").exists():
                raise ValueError("its files do not fit together")
            return state
        return decode(path)

    def newest(self):
        """What a script that looks for itself finds: the newest by its number, or the one there is."""
        if self.arguments.shape in ("inplace", "rename"):
            return self.path(0) if self.path(0).exists() else None
        found = [path for path in self.folder.glob("c*-*") if "tmp" not in path.name]
        return max(found, key=lambda path: int(path.stem.split("-")[1]), default=None)


def start(arguments, saver):
    """The step and the state to go on from."""
    path = None
    if arguments.resume:
        path = pathlib.Path(arguments.resume)
    elif not arguments.scratch:
        path = saver.newest()
    with open(saver.folder / "starts.log", "a", encoding="utf-8") as log:
        log.write(json.dumps({"words": sys.argv[1:], "path": path and str(path)}) + "\n")
    if path is None:
        return 0, b"start"
    try:
        return saver.load(path)
    except Exception as error:  # whatever a torn file makes of it
        with open(saver.folder / "torn.log", "a", encoding="utf-8") as log:
            log.write(f"{path}: {error!r}\n")
        sys.exit(66)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=["inplace", "rename", "numbered", "directory"], default="inplace")
    parser.add_argument("--directory", default=".")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--every", type=int, default=5, help="steps between checkpoints")
    parser.add_argument("--step-ms", type=float, default=5)
    parser.add_argument("--save-ms", type=float, default=50)
    parser.add_argument("--size", type=int, default=200_000)
    parser.add_argument("--silent", action="store_true", help="print nothing")
    parser.add_argument("--scratch", action="store_true", help="never look for a checkpoint without --resume")
    parser.add_argument("--resume", help="the checkpoint to load")
    parser.add_argument("--note", help="for the log of starts only")
    parser.add_argument("--wait-for", help="at the end, until there is such a file")
    arguments = parser.parse_args()
    saver = Saver(arguments)
    step, chain = start(arguments, saver)
    while step < arguments.steps:
        time.sleep(arguments.step_ms / 1000)
        step += 1
        chain = advance(chain, step)
        if not arguments.silent:
            print(f"iter {step}: loss {loss_of(chain)!r}, time {arguments.step_ms:.2f}ms", flush=True)
        if step % arguments.every == 0:
            saver.save(step, chain)
    while arguments.wait_for and not os.path.exists(arguments.wait_for):
        time.sleep(0.01)
    (saver.folder / "end").write_text(chain.hex())


if __name__ == "__main__":
    main()
