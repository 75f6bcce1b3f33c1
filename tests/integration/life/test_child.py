"""What a rank is given is what the user's shell would have given it, plus what is named in holdfast-run(1) (H12).

    test_child.py BUILD [TEST...]

The same program is started by hand and by holdfast from the same odd surroundings, and what both say is compared.
"""

import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import life  # noqa: E402
import rig  # noqa: E402

NAMED = {
    "RANK", "LOCAL_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE", "GROUP_RANK",
    "GROUP_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT",
    "TORCHELASTIC_MAX_RESTARTS", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_ERROR_FILE",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING", "HOLDFAST_CHANNEL", "HOLDFAST_RUN_ID", "NOTIFY_SOCKET",
}  # fmt: skip


def odd_surroundings():
    """In a child before exec: what somebody's shell may have done."""
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2, signal.SIGWINCH, signal.SIGRTMIN + 3})
    for number in range(1, signal.SIGRTMAX + 1):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGQUIT, signal.SIGUSR1, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
    resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    os.umask(0o027)
    os.nice(3)


def plain_surroundings():
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


class Child(life.Life):
    def setUp(self):
        super().setUp()
        self.program = self.tools.build / "tests" / "integration" / "life" / "life-inherited"

    def start(self, command, surroundings, environment, pass_fds=()):
        with open("/dev/null", "rb") as null:
            done = subprocess.run(command, stdin=null, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  cwd=self.scratch, env=environment, pass_fds=pass_fds, preexec_fn=surroundings,
                                  timeout=rig.DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode(errors="surrogateescape")

    def both(self, surroundings, environment, ranks=1, pass_fds=()):
        """(what a plain start gives, what each rank was given), as lists of lines."""
        words = [self.program, "a b", "", "-n", "--", "$HOME", "é"]
        plain = self.start(words, surroundings, environment, pass_fds)
        run = self.scratch / "run"
        self.start([self.tools.holdfast, "run", "--quiet", "-n", str(ranks), "-d", run, "--", *words], surroundings,
                   environment, pass_fds)
        logs = run / "logs" / "attempt-001"
        texts = [(logs / f"rank-{rank:04}.out").read_bytes().decode(errors="surrogateescape") for rank in range(ranks)]
        return plain.splitlines(), [text.splitlines() for text in texts]

    def split(self, lines):
        """(everything but the environment, the environment)."""
        env = dict(line[4:].partition("=")[::2] for line in lines if line.startswith("env "))
        return [line for line in lines if not line.startswith("env ")], env

    def test_plain(self):
        plain, ranks = self.both(plain_surroundings, dict(os.environ))
        self.assertEqual(self.split(ranks[0])[0], self.split(plain)[0])

    def test_odd(self):
        """Mask, ignored signals, limits, umask, niceness and extra descriptors go through as they are."""
        with socket.socket() as extra, open("/dev/zero", "rb") as zero:
            high = os.dup2(zero.fileno(), 150)
            try:
                plain, ranks = self.both(odd_surroundings, dict(os.environ), 2, (extra.fileno(), high))
            finally:
                os.close(high)
            expected = self.split(plain)[0]
            # Control: the surroundings are seen by the program at all.
            for line in ("signal 12: blocked", "signal 10: ignored", "umask: 27", "limit 7: 200 300"):
                self.assertIn(line, expected)
            self.assertTrue(any(line.startswith("fd 150: /dev/zero") for line in expected), expected)
            for rank in ranks:
                self.assertEqual(self.split(rank)[0], expected)

    def test_environment(self):
        before = {"PATH": os.environ["PATH"], "ODD": "a=b c", "EMPTY": "", "RANK": "77", "MASTER_PORT": "1",
                  "HOLDFAST_CHANNEL": "/nowhere", "LATIN": os.fsdecode(b"\xe9")}
        plain, ranks = self.both(plain_surroundings, before, 2)
        self.assertEqual(self.split(plain)[1], before)
        for rank, lines in enumerate(ranks):
            names = [line[4:].partition("=")[0] for line in lines if line.startswith("env ")]
            self.assertEqual(sorted(names), sorted(set(names)), "a name that is there twice")
            env = self.split(lines)[1]
            added = {name: value for name, value in env.items() if name not in before or name in NAMED}
            self.assertEqual({n: v for n, v in env.items() if n not in added},
                             {n: v for n, v in before.items() if n not in NAMED})
            self.assertEqual(set(added), NAMED | {"OMP_NUM_THREADS", "PYTHONUNBUFFERED"})
            self.assertEqual((added["RANK"], added["LOCAL_RANK"], added["ROLE_RANK"]), (str(rank),) * 3)
            self.assertEqual((added["WORLD_SIZE"], added["LOCAL_WORLD_SIZE"], added["ROLE_WORLD_SIZE"]), ("2",) * 3)
            self.assertEqual((added["GROUP_RANK"], added["GROUP_WORLD_SIZE"]), ("0", "1"))
            self.assertEqual((added["TORCHELASTIC_USE_AGENT_STORE"], added["OMP_NUM_THREADS"]), ("False", "1"))
            self.assertEqual(added["TORCHELASTIC_RESTART_COUNT"], "0")
            self.assertTrue(1024 <= int(added["MASTER_PORT"]) <= 65535)
        ports = {self.split(lines)[1]["MASTER_PORT"] for lines in ranks}
        self.assertEqual(len(ports), 1)

    def test_threads_wish(self):
        """OMP_NUM_THREADS is left alone when it is set, and when there is one rank."""
        _, ranks = self.both(plain_surroundings, {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "9"}, 2)
        self.assertEqual([self.split(lines)[1]["OMP_NUM_THREADS"] for lines in ranks], ["9", "9"])

    def test_one_rank(self):
        _, ranks = self.both(plain_surroundings, {"PATH": os.environ["PATH"]})
        self.assertEqual(set(self.split(ranks[0])[1]), NAMED | {"PATH", "PYTHONUNBUFFERED"})

    def test_closed(self):
        """Started with standard descriptors closed, ours do not land there and leak."""
        words = 'exec "$0" "$@" <&- >&- 2>&-'
        run = self.scratch / "run"
        done = subprocess.run(["sh", "-c", words, self.tools.holdfast, "run", "--quiet", "-d", run, "--", self.program],
                              cwd=self.scratch, timeout=rig.DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 0)
        lines = (run / "logs" / "attempt-001" / "rank-0000.out").read_text().splitlines()
        self.assertEqual([line.split(",")[0] for line in lines if line.startswith("fd ")],
                         ["fd 0: /dev/null", "fd 1: pipe", "fd 2: pipe"])


if __name__ == "__main__":
    sys.exit(life.main(Child))
