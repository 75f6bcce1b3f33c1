#!/usr/bin/env python3
"""What is refused is refused in one line, with the right exit code, and nothing is changed by it.

Each refusal stands beside a control: the same with the trouble taken away must be accepted.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import cli  # noqa: E402

USAGE, AGAIN, CONFIG = 64, 75, 78
SUBCOMMANDS = ("run", "torchrun", "status", "log", "why", "stop")


class Words(cli.Scratch):
    """The command line."""

    def test_no_such_command(self):
        self.refused(self.holdfast("nonsense"), USAGE, "nonsense", "--help")
        self.refused(self.holdfast(), USAGE, "--help")

    def test_no_such_option(self):
        for subcommand in SUBCOMMANDS:
            for word in ("--nonsense", "--nonsense=1", "-Z"):
                with self.subTest(subcommand=subcommand, word=word):
                    self.refused(self.holdfast(subcommand, word), USAGE, word, f"holdfast {subcommand} --help")
            with self.subTest(subcommand=subcommand, word="--help"):
                code, out, error = self.holdfast(subcommand, "--help")
                self.assertEqual((code, error), (0, ""))
                self.assertIn(f"usage: holdfast {subcommand}", out)
        self.assertEqual(self.picture(), {})

    def test_missing_command(self):
        for words in (("run",), ("run", "--"), ("run", "-n", "2"), ("run", "-n", "2", "--")):
            with self.subTest(words):
                self.refused(self.holdfast(*words), USAGE, "command is missing")
        self.refused(self.holdfast("run", "-n"), USAGE, "-n", "needs a value")
        self.refused(self.holdfast("run", "--quiet=1", "true"), USAGE, "takes no value")
        self.assertEqual(self.picture(), {})

    def test_numbers(self):
        for option, values in {
            "--ranks": ("0", "-1", "16385", "99999999999999999999", "x", "2x", "", " 2", "1.5"),
            "--stall-min": ("0", "0s", "-1s", "x", "1x", "1ms2", "", " 1s", "nan", "inf", "0x1s", "1e99s", "400d"),
            "--stop-timeout": ("never", "0.0001ms"),
            "--tries": ("-3", "three"),
            "--first-tries": ("0", "-3"),
            "--stall-factor": ("0", "1.5"),
            "--total-steps": ("0", "many"),
        }.items():
            for value in values:
                with self.subTest(option=option, value=value):
                    self.refused(self.holdfast("run", option, value, "true"), USAGE, option, value)
        self.refused(self.holdfast("run", "--stall-min", "2m", "--stall-max", "1m", "true"), USAGE, "--stall-max")
        for words in (("log", "--steps", "x"), ("log", "--steps", "5..1"), ("log", "--steps", ".."),
                      ("log", "--last", "0"), ("why", "--incident", "0"), ("status", "--total-steps", "-1")):
            with self.subTest(words):
                self.refused(self.holdfast(*words), USAGE, words[1], words[2])
        self.assertEqual(self.picture(), {})

    def test_both_spellings(self):
        """Control of the refusals: well-formed words of every kind are taken."""
        self.assertEqual(self.holdfast(
            "run", "-n1", "--quiet", "-d", "a", "--stall_min", "250ms", "--stall-max=1.5h", "--stop_timeout=1m",
            "--tries", "5", "sh", "-c", "exit 0", "--nonsense")[:2], (0, ""))
        self.assertTrue((self.folder / "a" / "journal" / "data.mdb").exists())

    def test_one_directory(self):
        for subcommand in ("status", "log", "why", "stop"):
            self.refused(self.holdfast(subcommand, "a", "b"), USAGE, "b", "one directory")


class Directories(cli.Scratch):
    """The run directory."""

    def test_in_use(self):
        process = self.live("sleep", "60", options=("--stop-timeout", "2s"))
        journal = self.picture(self.folder / "run")
        for command in (("sleep", "60"), ("true",)):
            self.refused(self.holdfast("run", "-d", "run", "--", *command), AGAIN, "in use", f"pid {process.pid}")
        self.assertEqual(self.picture(self.folder / "run").keys(), journal.keys())
        self.assertIsNone(process.poll())
        self.assertEqual(self.holdfast("stop", "--wait", "run")[0], 0)
        process.wait(cli.DEADLINE_S)
        # Control: nobody holds it any more, and a run that was stopped goes on.
        again = self.live("sleep", "60", options=("--stop-timeout", "2s"))
        self.assertIsNone(again.poll())
        self.refused(self.holdfast("run", "-d", "run", "--", "true"), AGAIN, f"pid {again.pid}")

    def test_other_run(self):
        self.assertEqual(self.holdfast("run", "-n", "2", "-d", "run", "--quiet", "--", "sh", "-c", "exit 0")[0], 0)
        before = self.picture()
        other = self.folder / "other"
        for what, words, cwd in (
                ("command", ("-n", "2", "--", "sh", "-c", "exit 1"), None),
                ("command", ("-n", "2", "--", "sh", "-c"), None),
                ("command", ("-n", "2", "--", "sh", "-c", "exit 0", "more"), None),
                ("ranks", ("-n", "3", "--", "sh", "-c", "exit 0"), None),
                ("directory", ("-n", "2", "--", "sh", "-c", "exit 0"), other)):
            with self.subTest(words):
                other.mkdir(exist_ok=True)
                self.refused(self.holdfast("run", "-d", self.folder / "run", *words, cwd=cwd), CONFIG,
                             "different run", what, "--dir")
                other.rmdir()
                self.assertEqual(self.picture(), before)
        # Control: the same again is done already, and said in one line.
        code, out, error = self.holdfast("run", "-n", "2", "-d", "run", "--", "sh", "-c", "exit 0")
        self.assertEqual((code, error, out.count("\n")), (0, "", 1), out)
        self.assertIn("done already", out)

    def test_foreign(self):
        for name in ("precious", ".hidden"):
            folder = self.folder / f"of{name}"
            folder.mkdir()
            (folder / name).write_text("mine")
            before = self.picture()
            self.refused(self.holdfast("run", "-d", folder, "true"), CONFIG, name, "--dir")
            self.assertEqual(self.picture(), before)
            (folder / name).unlink()
            self.assertEqual(self.holdfast("run", "--quiet", "-d", folder, "true")[0], 0)

    def test_not_a_directory(self):
        (self.folder / "file").write_text("")
        before = self.picture()
        self.refused(self.holdfast("run", "-d", "file", "true"), CONFIG, "file")
        self.refused(self.holdfast("run", "-d", "no/such", "true"), CONFIG, "no/such")
        self.refused(self.holdfast("run", "-d", "x" * 300, "true"), CONFIG, "x" * 300)
        self.assertEqual(self.picture(), before)

    def test_no_run_here(self):
        for subcommand in ("status", "log", "why"):
            self.refused(self.holdfast(subcommand, "-d", "nowhere"), CONFIG, "nowhere", "--dir")
        self.refused(self.holdfast("stop", "-d", "nowhere"), AGAIN, "nowhere")
        self.holdfast("run", "--quiet", "-d", "run", "true")
        self.refused(self.holdfast("stop", "run"), AGAIN, "no live run")

    def test_private(self):
        """What is made is its owner's alone, whatever the umask."""
        old = os.umask(0)
        try:
            self.assertEqual(self.holdfast("run", "--quiet", "-d", "run", "true")[0], 0)
        finally:
            os.umask(old)
        for path, (mode, *_) in self.picture().items():
            self.assertEqual(mode & 0o077, 0, path)


class Journals(cli.Scratch):
    """A journal that is not as it must be."""

    def setUp(self):
        super().setUp()
        self.assertEqual(self.holdfast("run", "--quiet", "-d", "run", "true")[0], 0)
        self.data = self.folder / "run" / "journal" / "data.mdb"

    def everyone_refuses(self, *parts):
        before = self.picture()
        self.refused(self.holdfast("run", "-d", "run", "true"), CONFIG, *parts)
        for subcommand in ("status", "log", "why"):
            with self.subTest(subcommand):
                self.refused(self.holdfast(subcommand, "run"), CONFIG, *parts)
        self.assertEqual(self.picture(), before)

    def test_newer_schema(self):
        subprocess.run([cli.NEWER, self.data.parent, "2"], check=True)
        self.everyone_refuses("newer holdfast", "2")
        # Control: with its own number back, it is read again.
        subprocess.run([cli.NEWER, self.data.parent, "1"], check=True)
        self.assertEqual(self.holdfast("status", "run")[0], 0)

    def test_garbage(self):
        self.data.write_bytes(os.urandom(65536))
        self.everyone_refuses("journal")

    def test_cut_off(self):
        os.truncate(self.data, self.data.stat().st_size // 2)
        self.everyone_refuses("journal")

    def test_empty_file(self):
        self.data.write_bytes(b"")
        self.everyone_refuses("journal")

    def test_copy(self):
        """A journal without its run directory, read-only, is read."""
        copy = self.folder / "copy"
        copy.mkdir()
        shutil.copy(self.data, copy)
        (copy / "data.mdb").chmod(0o400)
        copy.chmod(0o500)
        for subcommand in ("status", "log", "why"):
            code, out, error = self.holdfast(subcommand, copy)
            self.assertEqual((code, error), (0, ""))
        self.assertEqual(os.listdir(copy), ["data.mdb"])


class Permissions(cli.Scratch):
    """What may not be written to."""

    def test_read_only_parent(self):
        before, program = self.as_nobody()
        self.folder.chmod(0o555)
        self.refused(self.holdfast("run", "-d", "run", "true", before=before, program=program), CONFIG, "run",
                     "Permission denied", "--dir")
        self.assertFalse((self.folder / "run").exists())
        self.folder.chmod(0o777)
        self.assertEqual(
            self.holdfast("run", "--quiet", "-d", "run", "true", before=before, program=program)[0], 0)

    def test_read_only_directory(self):
        before, program = self.as_nobody()
        self.folder.chmod(0o777)
        subprocess.run([*before, "mkdir", self.folder / "run"], check=True)
        (self.folder / "run").chmod(0o500)
        self.refused(self.holdfast("run", "-d", "run", "true", before=before, program=program), CONFIG, "run",
                     "Permission denied")
        self.assertEqual(os.listdir(self.folder / "run"), [])
        (self.folder / "run").chmod(0o700)
        self.assertEqual(
            self.holdfast("run", "--quiet", "-d", "run", "true", before=before, program=program)[0], 0)

    def test_shared_memory(self):
        before, program = self.as_nobody()
        self.folder.chmod(0o777)
        memory = self.folder / "memory"
        memory.mkdir()
        memory.chmod(0o555)

        def run(where):
            return self.holdfast("run", "--quiet", "-d", "run", "--shm-dir", where, "true", before=before,
                                 program=program)

        picture = self.picture()
        self.refused(run(memory), CONFIG, memory, "--shm-dir")
        self.refused(run(self.folder / "none"), CONFIG, "none", "--shm-dir")
        self.refused(run("relative"), USAGE, "relative", "absolute")
        self.assertEqual(self.picture(), picture)
        memory.chmod(0o777)
        self.assertEqual(run(memory)[0], 0)
        self.assertEqual(os.listdir(memory), [])


@unittest.skipIf(os.geteuid() != 0, "needs root, to mount a small file system")
class Mounts(cli.Scratch):
    """File systems that are full or read-only, mounted where only the test sees them."""

    def mounted(self, options, words):
        """holdfast with a file system on self.folder/disk; its answer, and what was left there."""
        disk = self.folder / "disk"
        disk.mkdir(exist_ok=True)
        script = ('mount -t tmpfs -o "$1" none "$2" || exit 99; shift; disk=$1; shift; "$@"; code=$?; '
                  'ls -A "$disk" >left; exit $code')
        answer = self.holdfast(*words, before=["unshare", "-m", "sh", "-c", script, "sh", options, disk])
        if answer[0] == 99 or "unshare" in answer[2]:
            self.skipTest("mounting is not allowed here: " + answer[2].strip())
        return answer, (self.folder / "left").read_text().split()

    def test_full_disk(self):
        words = ("run", "--quiet", "-d", "disk/run", "true")
        answer, left = self.mounted("size=512k,mode=0777", words)
        self.refused(answer, AGAIN, "disk/run", "No space left", "make room")
        self.assertEqual(left, [])
        answer, left = self.mounted("size=64m,mode=0777", words)
        self.assertEqual((answer[0], left), (0, ["run"]), answer)

    def test_read_only_mount(self):
        answer, left = self.mounted("size=64m,ro", ("run", "-d", "disk/run", "true"))
        self.refused(answer, CONFIG, "disk/run", "Read-only")
        self.assertEqual(left, [])

    def test_full_memory(self):
        words = ("run", "--quiet", "-d", "run", "--shm-dir", self.folder / "disk", "true")
        answer, left = self.mounted("size=16k", words)
        self.refused(answer, AGAIN, "disk", "--shm-dir")
        self.assertEqual(left, [])
        self.assertFalse((self.folder / "run").exists())

    def test_small_memory(self):
        """Room for a probe, and not for what the ranks need before they take a snapshot."""
        words = ("run", "--quiet", "-d", "run", "-n", "2", "--shm-dir", self.folder / "disk", "true")
        answer, left = self.mounted("size=1m", words)
        self.refused(answer, AGAIN, "2 ranks need", "--shm-dir")
        self.assertEqual(left, [])
        answer, _ = self.mounted("size=4m", words)
        self.assertEqual(answer[0], 0, answer)


if __name__ == "__main__":
    cli.main()
