"""A program that trains nothing and prints as those do that train: one that nobody wrote for a supervisor.

    talker.py WHAT [--steps N] [--step-ms MS]
"""

import argparse
import os
import pathlib
import socket
import sys
import time

ATTEMPT = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) + 1
RANK = int(os.environ.get("RANK", "0"))


def pace(arguments):
    time.sleep(arguments.step_ms / 1000)


def nanogpt(arguments, bad=None):
    print("number of parameters: 10.65M")
    for step in range(0, arguments.steps, 10):
        if step % 50 == 0:
            print(f"step {step}: train loss {4 - step / 1000:.4f}, val loss 4.1000")
        loss = "nan" if step == bad and ATTEMPT == 1 else f"{4 - step / 1000:.4f}"
        print(f"iter {step}: loss {loss}, time {arguments.step_ms:.2f}ms, mfu 1.50%", flush=True)
        pace(arguments)


def keys(arguments, first=1, out=sys.stdout):
    for step in range(first, first + arguments.steps):
        print(f"step={step} loss={1 / step:.6f} grad_norm=1.5 lr=1e-3", file=out, flush=True)
        pace(arguments)


def ranks(arguments):
    """Rank 0 prints its steps; rank 1 does too, but only once they have begun."""
    if RANK == 1:
        time.sleep(0.5)
    keys(arguments)


def bar(arguments):
    """Standard output is closed, and a bar is drawn on standard error."""
    os.close(1)
    for step in range(arguments.steps + 1):
        os.write(2, f"\rEpoch 0: {step:3d}%|####      | {step}/{arguments.steps} [00:01<00:10, 9.1it/s, loss=0.5]".encode())
        pace(arguments)


def flood(arguments):
    """As much as a pipe takes: steps in a sea of lines, long ones, bytes of every kind, bars without end."""
    sea = b"".join(b"%08d the quick brown fox jumps over the lazy dog, with loss of generality %d%%| of it\n" % (i, i)
                   for i in range(400))
    sea += bytes(range(256)) * 40 + b"\n" + b"x" * 300000 + b"\n" + b"\r 5%|" * 3000 + b"\n" + b"\033[" * 500 + b"\n"
    end = time.monotonic() + arguments.seconds
    step = written = 0
    while time.monotonic() < end or step < 20:
        step += 1
        block = sea + b"step=%d loss=0.5\n" % step
        while block:
            block = block[os.write(1, block):]
        written += len(sea)
    os.write(2, b"wrote %d bytes in %d steps\n" % (written, step))


def appended(arguments):
    with open(arguments.file, "a", encoding="utf-8") as out:
        keys(arguments, out=out)
    # The last line is not behind anything that is waited for.


def held(arguments):
    """On the first attempt the next one's log is made a pipe that somebody else reads; on that, the last steps are
    printed when whoever reads them cannot get rid of what came before."""
    log = pathlib.Path(arguments.file, "attempt-002", "rank-0000.out")
    if ATTEMPT == 1:
        log.parent.mkdir(parents=True)
        os.mkfifo(log)
        while not log.with_name("ready").exists():
            time.sleep(0.01)
        sys.exit(1)
    keys(arguments)
    os.write(1, b"filler\n" * 15000)
    while not log.with_name("held").exists():
        time.sleep(0.01)
    keys(arguments, first=arguments.steps + 1)


def notify(arguments):
    path = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.connect(path)
        line.send(b"READY=1")
        for step in range(1, arguments.steps + 1):
            line.send(b"\xff\x00garbage=%d\n" % step)
            line.send(b"X" * 20000)
            line.send(b"")
            line.send(f"WATCHDOG=1\nSTATUS=step {step} loss {1 / step:.6f}\nMAINPID=1".encode())
            pace(arguments)


def hard(arguments):
    """Lines on which a bad pattern tries for ever, and steps between them."""
    for step in range(1, arguments.steps + 1):
        print("a" * 3000 + "!")
        if step % 20 == 0:
            print(f"step {step} loss 0.5", flush=True)
            pace(arguments)


def stuck(arguments):
    """Steps, and on the first attempt nothing more behind them."""
    keys(arguments)
    if ATTEMPT == 1:
        time.sleep(600)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--step-ms", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--file")
    parser.add_argument("--bad", type=int)
    arguments = parser.parse_args()
    if arguments.what == "nanogpt":
        nanogpt(arguments, arguments.bad)
    else:
        globals()[arguments.what](arguments)


if __name__ == "__main__":
    main()
