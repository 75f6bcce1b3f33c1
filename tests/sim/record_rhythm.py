"""Record the rhythm of a trainer, for tests/unit/policy_rhythm.c: what can be seen of it from outside.

    record_rhythm.py [--ranks N] [--seconds S] [--folder DIR] OUT -- COMMAND [ARG...]

OUT gets a line of comment, "ranks N", and a line for each interval in which a rank did anything:

    MS RANK OUTPUT CPU_MS FILES STEPS

the end of the interval since the start, bytes of output, CPU time of all processes of the rank, bytes by which files
below DIR grew or that were written anew (of rank 0 only), and lines of output that look like a step's.
"""

import argparse
import os
import pathlib
import re
import selectors
import socket
import subprocess
import sys
import time

INTERVAL_S = 0.2
STEP = re.compile(rb"(?:\biter(?:ation)?\s*:?\s*\d+|\bstep[\"=:\s]+\d+|it/s\b|\{'loss')")
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def processes():
    """pid: (parent, CPU time in ms, of waited-for children too)"""
    table = {}
    for name in os.listdir("/proc"):
        try:
            stat = pathlib.Path("/proc", name, "stat").read_bytes() if name.isdigit() else b""
        except OSError:
            continue
        if stat:
            fields = stat[stat.rindex(b")") + 2 :].split()
            table[int(name)] = int(fields[1]), sum(map(int, fields[11:15])) * TICK_MS
    return table


def cpu_ms(table, root):
    family, total = {root}, 0.0
    for pid in sorted(table):
        if pid == root or table[pid][0] in family:
            family.add(pid)
            total += table[pid][1]
    return total


def written(folder, before):
    """Bytes that were written below the folder since the last call."""
    total = 0
    for path in pathlib.Path(folder).rglob("*"):
        try:
            st = path.stat()
        except OSError:
            continue
        old = before.get(path, (0, 0))
        if path.is_file() and (st.st_size, st.st_mtime_ns) != old:
            total += st.st_size - old[0] if st.st_size > old[0] else st.st_size
            before[path] = st.st_size, st.st_mtime_ns
    return total


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(command, ranks, folder):
    port = str(free_port())
    for rank in range(ranks):
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks,
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONUNBUFFERED": 1}
        environment = dict(os.environ, **{name: str(value) for name, value in names.items()})
        yield subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, bufsize=0,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class Recorder:
    def __init__(self, trainers, folder):
        self.trainers, self.folder, self.files = trainers, folder, {}
        self.output = [0] * len(trainers)
        self.steps = [0] * len(trainers)
        self.cpu = [0.0] * len(trainers)
        self.selector = selectors.DefaultSelector()
        for rank, trainer in enumerate(trainers):
            self.selector.register(trainer.stdout, selectors.EVENT_READ, rank)

    def read_until(self, end):
        """Take output until then; False when there will be no more."""
        while self.selector.get_map():
            left = end - time.monotonic()
            if left <= 0:
                return True
            for key, _ in self.selector.select(left):
                got = os.read(key.fd, 65536)
                if not got:
                    self.selector.unregister(key.fileobj)
                self.output[key.data] += len(got)
                self.steps[key.data] += len(STEP.findall(got))
        return False

    def take(self, at_ms):
        table = processes()
        grown = written(self.folder, self.files)
        for rank, trainer in enumerate(self.trainers):
            cpu = cpu_ms(table, trainer.pid)
            used = round(cpu - self.cpu[rank]) if trainer.poll() is None else 0
            values = self.output[rank], max(used, 0), grown if rank == 0 else 0, self.steps[rank]
            if any(values):
                yield " ".join(map(str, (at_ms, rank, *values)))
            self.cpu[rank] = max(cpu, self.cpu[rank])
            self.output[rank] = self.steps[rank] = 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--folder", default=".")
    parser.add_argument("out")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    trainers = list(start(arguments.command, arguments.ranks, arguments.folder))
    recorder = Recorder(trainers, arguments.folder)
    begin = time.monotonic()
    names = " ".join(os.path.basename(word) for word in arguments.command)
    lines = [f"# {names}", f"ranks {arguments.ranks}"]
    for count in range(1, int(arguments.seconds / INTERVAL_S) + 1):
        goes_on = recorder.read_until(begin + count * INTERVAL_S)
        lines += recorder.take(round((time.monotonic() - begin) * 1000))
        if not goes_on:
            break
    for trainer in trainers:
        trainer.kill()
        trainer.wait()
        trainer.stdout.close()
    pathlib.Path(arguments.out).write_text("\n".join(lines) + "\n", encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
