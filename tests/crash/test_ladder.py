"""A script is killed in the middle of saving, at random; the keeper now and then as well.

    test_ladder.py BUILD [--kills N] [--seed N]

Four lanes, each a shape in which scripts save.  In each a checkpoint is saved and kept, the next one is killed while it
is being written, the newest kept one is put back, and what a script would resume from then is loaded and looked through:
it must be that one.  The control: without the restore some of the files are torn.
"""

import argparse
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration" / "ladder"))
import helpers as h  # noqa: E402
import rig  # noqa: E402

SHAPES = {"inplace": "ckpt.pt", "renamed": "ckpt.pt", "numbered": "model_{step}.pt", "directory": "checkpoint-{step}"}
KEEPER_KILLED_EVERY = 3


class Lane(threading.Thread):
    """One shape, killed so many times."""

    def __init__(self, shape, folder, words, theirs):
        super().__init__()
        self.shape, self.kills, self.holdfast = shape, words.kills, words.build / "holdfast"
        self.rng = random.Random(f"{words.seed} {shape}")
        self.out, self.run_dir = folder / shape / "out", folder / shape / "run"
        self.out.mkdir(parents=True)
        self.run_dir.mkdir()
        self.socket = theirs
        self.heard = theirs.makefile("r")
        self.torn = self.keeper_kills = self.killed = 0
        self.save_s = 0.0
        self.error = None

    def ask(self, *words):
        self.socket.sendall(("\t".join(map(str, words)) + "\n").encode())

    def hear(self, word):
        line = self.heard.readline().split()
        assert line and line[0] == word, f"{self.shape}: wanted {word}, heard {line}"
        return line[1:]

    def load(self):
        self.ask("load", self.shape, self.out)
        return self.heard.readline().split()

    def save(self, step):
        self.ask("save", self.shape, self.out, step)
        self.hear("pid")
        self.hear("begin")
        began = time.monotonic()
        self.hear("end")
        self.save_s = time.monotonic() - began
        self.hear("gone")

    def save_killed(self, step):
        """Kill it at a random moment of its saving."""
        self.ask("cut", self.shape, self.out, step)
        (pid,) = self.hear("pid")
        self.hear("begin")
        # Nothing to wait for: the moment is what is random here.
        time.sleep(self.rng.uniform(0, self.save_s))
        os.kill(int(pid), signal.SIGKILL)
        if self.heard.readline().split() == ["end"]:
            self.hear("gone")
        else:
            self.killed += 1

    def keeper(self):
        return h.Keeper(self.holdfast, self.out / SHAPES[self.shape], self.run_dir, keep=2)

    def wait_kept(self, keeper, step):
        """Until what was just saved is kept; for one path the bytes tell which that is."""
        while True:
            kept = keeper.wait_kept()
            if kept.flags & (h.AGAIN | h.AT_START) == h.AGAIN and self.step_of(kept) != step:
                continue
            if self.step_of(kept) == step:
                return kept

    def step_of(self, kept):
        # Files of one path are as large for every step: the copy itself is asked.
        if kept.step is not None:
            return kept.step
        self.ask("load", "inplace", pathlib.Path(kept.kept).parent)
        word, *step = self.heard.readline().split()
        assert word == "step", f"{self.shape}: the kept copy {kept.kept} is {word} {step}"
        return int(step[0])

    def all_whole(self):
        for path in h.kept_copies(self.run_dir):
            for file in [path] if path.is_file() else path.glob("*.pt"):
                assert h.whole_zip(file.read_bytes()), f"{file} is no whole copy"

    def round(self, keeper, step):
        self.save(step)
        if step % (2 * KEEPER_KILLED_EVERY) == 1:
            # While it looks, copies or commits.
            time.sleep(self.rng.uniform(0.15, 0.4))
            keeper.kill()
            self.keeper_kills += 1
            keeper = self.keeper()
        kept = self.wait_kept(keeper, step)
        self.save_killed(step + 1)
        found = self.load()
        self.torn += found[0] == "torn"
        error, _, _, subject, _ = h.restore(self.holdfast, self.run_dir, self.out / SHAPES[self.shape], kept.kept,
                                            kept.original)
        assert error == 0, f"{self.shape} step {step}: restore: error {error}, {subject}"
        found = self.load()
        assert found == ["step", str(step)], f"{self.shape}: step {step} was put back, {found} was loaded"
        self.all_whole()
        return keeper

    def run(self):
        keeper = None
        try:
            keeper = self.keeper()
            for at in range(self.kills):
                keeper = self.round(keeper, 2 * at + 1)
            assert keeper.stop() == 0
        except (AssertionError, OSError, EOFError, rig.Late) as error:
            self.error = error
            traceback.print_exc()
        finally:
            if keeper is not None:
                keeper.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("--kills", type=int, default=8, help="of the script, in each of the four shapes (100 in all: 25)")
    parser.add_argument("--seed", type=int, default=1)
    words = parser.parse_args()
    python = os.environ.get("HOLDFAST_TORCH_PYTHON", "/usr/bin/python3")
    with rig.Scratch() as folder:
        pairs = [socket.socketpair() for _ in SHAPES]
        saver = subprocess.Popen([python, HERE / "saver.py", *(str(theirs.fileno()) for _, theirs in pairs)],
                                 pass_fds=[theirs.fileno() for _, theirs in pairs], stderr=subprocess.DEVNULL,
                                 env=dict(os.environ, OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1"))
        lanes = [Lane(shape, folder, words, ours) for shape, (ours, _) in zip(SHAPES, pairs)]
        for _, theirs in pairs:
            theirs.close()
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
            lane.heard.close()
            lane.socket.close()
        saver.wait(rig.DEADLINE_S)
    for lane in lanes:
        print(f"seed {words.seed}, {lane.shape}: {lane.kills} rounds, {lane.killed} killed while saving, {lane.torn} left "
              f"torn by it, keeper killed {lane.keeper_kills} times: {lane.error or 'ok'}")
    good = all(lane.error is None for lane in lanes)
    # The control: were nothing torn without the restore, this would test nothing.
    if good and sum(lane.torn for lane in lanes) < words.kills // 4:
        print("hardly anything was torn: the moments of the kills are wrong")
        good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
