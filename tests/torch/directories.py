"""One process; a directory checkpoint-N of several files each time, the oldest removed; prints JSON lines."""

import json
import os
import re
import shutil

import tiny
import torch

KEPT = 3


def directories(folder):
    """Numbers of the checkpoints in `folder`, oldest first."""
    matches = (re.fullmatch(r"checkpoint-(\d+)", name) for name in os.listdir(folder))
    return sorted(int(m[1]) for m in matches if m)


def save(folder, model, optimizer, step):
    target = os.path.join(folder, f"checkpoint-{step}")
    os.makedirs(target, exist_ok=True)
    torch.save(model.state_dict(), os.path.join(target, "model.pt"))
    torch.save(optimizer.state_dict(), os.path.join(target, "optimizer.pt"))
    torch.save(torch.get_rng_state(), os.path.join(target, "rng_state.pth"))
    with open(os.path.join(target, "trainer_state.json"), "w", encoding="ascii") as file:
        json.dump({"global_step": step}, file)
    for old in directories(folder)[:-KEPT]:
        shutil.rmtree(os.path.join(folder, f"checkpoint-{old}"))


def load(path, model, optimizer):
    """The number of steps that the checkpoint holds."""
    model.load_state_dict(torch.load(os.path.join(path, "model.pt")))
    optimizer.load_state_dict(torch.load(os.path.join(path, "optimizer.pt")))
    torch.set_rng_state(torch.load(os.path.join(path, "rng_state.pth")))
    with open(os.path.join(path, "trainer_state.json"), encoding="ascii") as file:
        return json.load(file)["global_step"]


def main():
    parser = tiny.options(__doc__)
    parser.add_argument("--resume_from_checkpoint", metavar="PATH", help="a directory checkpoint-N; latest: the newest")
    arguments = parser.parse_args()
    model, optimizer = tiny.prepare(arguments)
    source, first = arguments.resume_from_checkpoint, 0
    if source == "latest":
        found = directories(arguments.directory)
        source = os.path.join(arguments.directory, f"checkpoint-{found[-1]}") if found else None
    if source is not None:
        first = load(source, model, optimizer)
    pace = tiny.Pace(arguments)
    for step in range(first, arguments.steps):
        loss, norm = tiny.advance(model, optimizer, *tiny.batch(arguments, step))
        print(json.dumps({"step": step, "loss": loss, "grad_norm": norm, "step_ms": pace.wait()}))
        if arguments.save_every and (step + 1) % arguments.save_every == 0:
            save(arguments.directory, model, optimizer, step + 1)
    tiny.finish(arguments, model)


if __name__ == "__main__":
    main()
