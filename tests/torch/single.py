"""One process; prints as nanoGPT does; overwrites one ckpt.pt in place; resumes with --init_from=resume."""

import os

import tiny
import torch


def main():
    parser = tiny.options(__doc__)
    parser.add_argument("--init_from", choices=["scratch", "resume"], default="scratch")
    arguments = parser.parse_args()
    path = os.path.join(arguments.directory, "ckpt.pt")
    model, optimizer = tiny.prepare(arguments)
    first = 0
    if arguments.init_from == "resume":
        print(f"Resuming training from {path}")
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"])
        first = saved["iter_num"]
    pace = tiny.Pace(arguments)
    for step in range(first, arguments.steps):
        loss, _ = tiny.advance(model, optimizer, *tiny.batch(arguments, step))
        print(f"iter {step}: loss {loss:.4f}, time {pace.wait():.2f}ms")
        if arguments.save_every and (step + 1) % arguments.save_every == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                     "random": torch.get_rng_state(), "iter_num": step + 1}
            print(f"saving checkpoint to {arguments.directory}")
            torch.save(state, path)
    tiny.finish(arguments, model)


if __name__ == "__main__":
    main()
