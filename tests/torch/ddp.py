"""Several ranks on gloo, met through env://; rank 0 prints and saves by rename; resumes when there is a checkpoint."""

import os

import tiny
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel


def save(path, model, optimizer, step):
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(),
             "random": torch.get_rng_state(), "step": step}
    torch.save(state, path + ".tmp")
    os.replace(path + ".tmp", path)


def load(path, model, optimizer):
    """The number of steps that the checkpoint holds."""
    saved = torch.load(path, map_location="cpu")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(saved["random"])
    return saved["step"]


def main():
    parser = tiny.options(__doc__)
    arguments = parser.parse_args()
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    path = os.path.join(arguments.directory, "snapshot.pt")
    model, optimizer = tiny.prepare(arguments)
    first = load(path, model, optimizer) if os.path.exists(path) else 0
    parallel = DistributedDataParallel(model)
    pace = tiny.Pace(arguments)
    for step in range(first, arguments.steps):
        loss, norm = tiny.advance(parallel, optimizer, *tiny.batch(arguments, step, rank))
        took = pace.wait()
        if rank == 0:
            print(f"step={step} loss={loss:.6f} grad_norm={norm:.4f} lr=0.01 time_ms={took:.2f}")
            if arguments.save_every and (step + 1) % arguments.save_every == 0:
                save(path, model, optimizer, step + 1)
    if rank == 0:
        tiny.finish(arguments, model)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
