"""One process that says nothing at all; overwrites one model.pt in place and resumes when it is there."""

import os

import tiny
import torch


def main():
    arguments = tiny.options(__doc__).parse_args()
    path = os.path.join(arguments.directory, "model.pt")
    model, optimizer = tiny.prepare(arguments)
    first = 0
    if os.path.exists(path):
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"])
        first = saved["step"]
    pace = tiny.Pace(arguments)
    for step in range(first, arguments.steps):
        tiny.advance(model, optimizer, *tiny.batch(arguments, step))
        pace.wait()
        if arguments.save_every and (step + 1) % arguments.save_every == 0:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                        "random": torch.get_rng_state(), "step": step + 1}, path)
    tiny.finish(arguments, model, say=None)


if __name__ == "__main__":
    main()
