"""One process with a progress bar on standard error and nothing else: tqdm's, or one that looks like it."""

import os
import sys
import time

import tiny
import torch

try:
    from tqdm import tqdm
except ImportError:
    tqdm = None


class Bar:
    """As much of tqdm as is used here."""

    WIDTH = 10

    def __init__(self, total, initial=0, desc=""):
        self.total, self.count, self.desc = total, initial, desc
        self.initial, self.start, self.postfix = initial, time.monotonic(), ""

    def set_postfix(self, **values):
        self.postfix = "".join(f", {name}={value}" for name, value in values.items())

    @staticmethod
    def clock(seconds):
        return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"

    def update(self, count=1):
        self.count += count
        took = time.monotonic() - self.start
        rate = (self.count - self.initial) / took if took > 0 else 0.0
        left = (self.total - self.count) / rate if rate > 0 else 0.0
        share = self.count / self.total
        full = int(share * self.WIDTH)
        sys.stderr.write(f"\r{self.desc}: {share:4.0%}|{'█' * full:{self.WIDTH}}| {self.count}/{self.total}"
                         f" [{self.clock(took)}<{self.clock(left)}, {rate:5.2f}it/s{self.postfix}]")
        sys.stderr.flush()

    def close(self):
        sys.stderr.write("\n")


def main():
    arguments = tiny.options(__doc__).parse_args()
    path = os.path.join(arguments.directory, "last.ckpt")
    model, optimizer = tiny.prepare(arguments)
    first = 0
    if os.path.exists(path):
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"])
        first = saved["step"]
    bar = (tqdm or Bar)(total=arguments.steps, initial=first, desc="Epoch 0")
    pace = tiny.Pace(arguments)
    for step in range(first, arguments.steps):
        loss, _ = tiny.advance(model, optimizer, *tiny.batch(arguments, step))
        pace.wait()
        bar.set_postfix(loss=f"{loss:.3f}")
        bar.update(1)
        if arguments.save_every and (step + 1) % arguments.save_every == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                     "random": torch.get_rng_state(), "step": step + 1}
            torch.save(state, path + ".tmp")
            os.replace(path + ".tmp", path)
    bar.close()
    tiny.finish(arguments, model)


if __name__ == "__main__":
    main()
