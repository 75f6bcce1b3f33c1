"""What the trainers in this folder share: a small model, its data, their options, a pace, a digest.

Each trainer has the shape of scripts that people have.  None knows who starts it.  All of them are deterministic: the
same seed and number of steps end with the same digest, however often a script was interrupted and resumed.
"""

import argparse
import hashlib
import os
import time

import torch

VOCABULARY = 64
CONTEXT = 16


class Model(torch.nn.Module):
    """Guesses the next token; with dropout, so that a resumed run needs the state of the random numbers."""

    def __init__(self, width):
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, width)
        self.inner = torch.nn.Linear(width, width)
        self.dropout = torch.nn.Dropout(0.1)
        self.head = torch.nn.Linear(width, VOCABULARY)

    def forward(self, tokens):
        return self.head(self.dropout(torch.tanh(self.inner(self.embedding(tokens)))))


def options(description, save_every=10):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--steps", type=int, default=100, help="iterations of the whole run")
    parser.add_argument("--step-ms", type=float, default=0.0, help="an iteration takes at least this long")
    parser.add_argument("--save-every", type=int, default=save_every, help="steps between checkpoints; 0: none")
    parser.add_argument("--directory", default=".", help="where checkpoints are kept")
    parser.add_argument("--summary", help="write the digest of the parameters here at the end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--width", type=int, default=32)
    return parser


def prepare(arguments):
    """The model and its optimizer, the same in every rank."""
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    torch.use_deterministic_algorithms(True)
    model = Model(arguments.width)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


def sample(seed, index):
    """Sample `index` of the endless data: tokens, and the tokens that follow them."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
    start, stride = torch.randint(1, VOCABULARY, (2,), generator=generator).tolist()
    line = (start + stride * torch.arange(CONTEXT + 1)) % VOCABULARY
    return line[:-1], line[1:]


def batch(arguments, step, rank=0, size=8):
    """What `rank` sees in `step`."""
    first = (step * 64 + rank) * size
    pairs = [sample(arguments.seed, first + i) for i in range(size)]
    return torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])


def advance(model, optimizer, tokens, following):
    """One iteration; the loss and the norm of the gradient."""
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), following.flatten())
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item(), float(norm)


class Pace:
    """Keeps an iteration from being faster than asked for."""

    def __init__(self, arguments):
        self.least_s = arguments.step_ms / 1000
        self.start = time.perf_counter()

    def wait(self):
        """Wait for the end of the iteration; how many milliseconds it took."""
        left = self.start + self.least_s - time.perf_counter()
        if left > 0:
            time.sleep(left)
        now = time.perf_counter()
        took, self.start = now - self.start, now
        return took * 1000


def digest(model):
    """SHA-256 of all parameters."""
    state = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        state.update(name.encode())
        state.update(value.detach().contiguous().numpy().tobytes())
    return state.hexdigest()


def finish(arguments, model, say=print):
    """The end of a script: the digest, on a line and in the file that was asked for."""
    found = digest(model)
    if arguments.summary:
        with open(arguments.summary + ".part", "w", encoding="ascii") as file:
            file.write(found + "\n")
        os.replace(arguments.summary + ".part", arguments.summary)
    if say is not None:
        say(f"digest {found}")
