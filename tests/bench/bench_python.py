"""What holdfast.step() costs a Python program: supervised, not supervised, and beside an empty call of the same form.

    bench_python.py BUILD [INTERPRETER...]

Each interpreter (default: the one that runs this) runs the same loop under `holdfast run`.  The best and the median
of several rounds are printed, in nanoseconds a call; the ring is never full, so that no call is cheaper for being
dropped.  Then what a snapshot costs, with as many tensors as a small language model has, where torch can be imported.
"""

import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 15
CALLS = 2000  # a quarter of a ring
LIMIT_NS = 3000


def empty(step, loss=None, grad_norm=None, learning_rate=None, tokens=None, data_cursor=None, digest=None,
          compute_ns=None, **metrics):
    """As long a list of parameters as holdfast.step() has."""


def rounds(call):
    """Nanoseconds a call, of each round."""
    import timeit

    found = []
    for _ in range(ROUNDS):
        found.append(timeit.timeit(call, number=CALLS) / CALLS * 1e9)
        time.sleep(0.2)  # the agent empties the ring, 100 times a second
    return found


def line(what, found):
    print(f"  {what:<44} best {min(found):7.0f} ns   median {statistics.median(found):7.0f} ns", flush=True)
    return statistics.median(found)


def measure():
    """In the process that is measured."""
    import holdfast

    count = iter(range(1 << 60))
    loss = 0.5

    def full(call):
        return lambda: call(next(count), loss=loss, grad_norm=1.0, learning_rate=1e-3, tokens=512, data_cursor=77)

    def short(call):
        return lambda: call(next(count), loss=loss)

    kind = "supervised" if holdfast.supervised() else "not supervised"
    print(f"{platform.python_implementation()} {platform.python_version()}, {kind}", flush=True)
    line("empty call, step and loss", rounds(short(empty)))
    line("holdfast.step(n, loss=)", rounds(short(holdfast.step)))
    line("empty call, six values", rounds(full(empty)))
    worst = line("holdfast.step(n, loss=, … data_cursor=)", rounds(full(holdfast.step)))
    line("holdfast.step(n, loss=, accuracy=)", rounds(lambda: holdfast.step(next(count), loss=loss, accuracy=0.5)))
    line("holdfast.should_stop()", rounds(holdfast.should_stop))
    if holdfast.supervised():
        print(f"  limit {LIMIT_NS} ns: {'held' if worst <= LIMIT_NS else 'NOT held'}", flush=True)
        snapshots(holdfast)


def snapshots(holdfast):
    try:
        import torch
    except ImportError:
        print("  snapshots: torch cannot be imported here")
        return
    torch.set_num_threads(1)
    model = torch.nn.Sequential(*[torch.nn.Linear(256, 256) for _ in range(75)])
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 256)).sum().backward()
    optimizer.step()
    found, blobs = [], sum(p.numel() * 12 + 4 for p in model.parameters())
    for n in range(ROUNDS):
        start = time.perf_counter_ns()
        if not holdfast.snapshot(model, optimizer, step=n):
            print("  snapshots: refused")
            return
        found.append(time.perf_counter_ns() - start)
    print(f"  snapshot, 150 parameters, {blobs / 2**20:.0f} MiB: median {statistics.median(found) / 1e6:.1f} ms, "
          f"first {found[0] / 1e6:.1f} ms", flush=True)


def main():
    build, *interpreters = sys.argv[1:]
    build = pathlib.Path(build).resolve()
    failed = False
    for interpreter in interpreters or [sys.executable]:
        for supervised in (False, True):
            command = [interpreter, os.path.abspath(__file__), "--measure"]
            environment = dict(os.environ, PYTHONPATH=str(build / "python"))
            with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as scratch:
                if supervised:
                    command = [str(build / "holdfast"), "run", "--quiet", "--stall-min", "1h", "-d", scratch + "/run", "--", *command]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
                logs = sorted(pathlib.Path(scratch).glob("run/logs/*/*.out"))
                print(done.stdout if not supervised else "".join(log.read_text() for log in logs), end="")
                if done.returncode != 0:
                    print(f"ended with {done.returncode}: {done.stderr}", file=sys.stderr)
                    failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        measure()
    elif len(sys.argv) < 2:
        sys.exit(__doc__)
    else:
        sys.exit(main())
