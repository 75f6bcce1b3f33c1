"""One process with DataLoader workers; prints as Megatron does; checkpoints model-N.pt, resumes from the newest."""

import os
import re

import tiny
import torch
from torch.utils.data import DataLoader, Dataset

BATCH = 8


class Samples(Dataset):
    def __init__(self, seed, first, count):
        self.seed, self.first, self.count = seed, first, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return tiny.sample(self.seed, self.first + index)


def newest(folder):
    matches = (re.fullmatch(r"model-(\d+)\.pt", name) for name in os.listdir(folder))
    return max((int(m[1]) for m in matches if m), default=None)


def main():
    parser = tiny.options(__doc__)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    model, optimizer = tiny.prepare(arguments)
    first, step = 0, newest(arguments.directory)
    if step is not None:
        saved = torch.load(os.path.join(arguments.directory, f"model-{step}.pt"))
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"])
        first = step
    samples = Samples(arguments.seed, first * BATCH, (arguments.steps - first) * BATCH)
    # With a generator of its own the loader draws nothing from the random numbers that are saved.
    loader = DataLoader(samples, batch_size=BATCH, num_workers=arguments.workers, generator=torch.Generator())
    pace = tiny.Pace(arguments)
    for step, (tokens, following) in enumerate(loader, first + 1):
        loss, norm = tiny.advance(model, optimizer, tokens, following)
        print(f" iteration {step:8d}/{arguments.steps:8d} | consumed samples: {step * BATCH:12d} |"
              f" elapsed time per iteration (ms): {pace.wait():.1f} | learning rate: 1.000000E-02 |"
              f" global batch size: {BATCH:5d} | lm loss: {loss:.6E} | loss scale: 1.0 | grad norm: {norm:.3f} |"
              " number of skipped iterations:   0 | number of nan iterations:   0 |")
        if arguments.save_every and step % arguments.save_every == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
            path = os.path.join(arguments.directory, f"model-{step}.pt")
            torch.save(state, path + ".tmp")
            os.replace(path + ".tmp", path)
    tiny.finish(arguments, model)


if __name__ == "__main__":
    main()
