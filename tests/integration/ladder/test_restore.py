"""The restore: what is put back, what is moved aside, and what is left alone.

    test_restore.py BUILD [TEST...]
"""

import errno
import io
import os
import pathlib
import random
import signal
import subprocess
import sys
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import helpers as h  # noqa: E402
import rig  # noqa: E402

KILLS = 30


def read(path):
    return pathlib.Path(path).read_bytes()


def tree(path):
    """Everything under a path, by name: bytes, or None for a directory."""
    path = pathlib.Path(path)
    if not path.is_dir():
        return {"": read(path)}
    return {str(p.relative_to(path)): None if p.is_dir() else read(p) for p in path.rglob("*")}


class Restore(h.Case):
    def kept(self, pattern, *names, write=h.write_over, **words):
        """Keep these names, in this order; the keeper is gone afterwards."""
        keeper = self.keeper(pattern, **words)
        said = []
        for seed, name in enumerate(names, 1):
            write(self.out / name, h.torch_bytes(seed))
            said.append(keeper.wait_kept())
        self.assertEqual(keeper.stop(), 0)
        return said

    def test_torn(self):
        first, second = self.kept("ckpt.pt", "ckpt.pt", "ckpt.pt")
        path = self.out / "ckpt.pt"
        for at, kept in enumerate((second, first), 1):
            h.write_over(path, h.torch_bytes(3)[:-1])
            error, flags, moved, _, aside = self.restore("ckpt.pt", kept.kept, path)
            self.assertEqual((error, flags, moved), (0, h.PUT, 1))
            self.assertEqual((read(path), read(f"{aside}/ckpt.pt")), (read(kept.kept), h.torch_bytes(3)[:-1]))
            self.assertEqual(aside, str(self.run_dir / f"checkpoints/aside/{at:04}"))
            self.assertNotEqual(os.stat(path).st_ino, os.stat(kept.kept).st_ino)
        self.assertEqual(os.listdir(self.out), ["ckpt.pt"])

    def test_already(self):
        """The file is what was kept: it is not touched."""
        (kept,) = self.kept("ckpt.pt", "ckpt.pt")
        before = os.stat(self.out / "ckpt.pt")
        self.assertEqual(self.restore("ckpt.pt", kept.kept, kept.original)[:3], (0, h.ALREADY, 0))
        after = os.stat(self.out / "ckpt.pt")
        self.assertEqual((before.st_ino, before.st_mtime_ns), (after.st_ino, after.st_mtime_ns))

    def test_keeper_knows(self):
        """A keeper that looks on takes what was put back for what it is."""
        keeper, path = self.keeper("ckpt.pt"), self.out / "ckpt.pt"
        h.write_over(path, h.torch_bytes(1))
        kept = keeper.wait_kept()
        h.write_over(path, h.torch_bytes(2))
        keeper.wait_kept(ordinal=2)
        self.assertEqual(self.restore("ckpt.pt", kept.kept, path)[0], 0)
        again = keeper.wait_kept()
        self.assertEqual((again.ordinal, again.flags), (1, h.AGAIN))

    def test_missing(self):
        """The script, or its rotation, removed it, and the directory as well."""
        (kept,) = self.kept("a/{step}/model.pt", "a/5/model.pt", write=lambda path, raw: (
            path.parent.mkdir(parents=True), h.write_over(path, raw)))
        (self.out / "a/5/model.pt").unlink()
        (self.out / "a/5").rmdir()
        (self.out / "a").rmdir()
        self.assertEqual(self.restore("a/{step}/model.pt", kept.kept, kept.original)[:3], (0, h.PUT, 0))
        self.assertEqual(read(kept.original), read(kept.kept))

    def test_later_ones(self):
        """Whatever a script would take for newer goes aside, good or torn; the older ones stay."""
        said = self.kept("c_{step}.pt", "c_1.pt", "c_2.pt", "c_3.pt", "c_4.pt", keep=9)
        (self.out / "c_10.pt").write_bytes(b"torn")
        (self.out / "c_best.pt").write_bytes(b"mine")
        error, flags, moved, _, aside = self.restore("c_{step}.pt", said[1].kept, said[1].original)
        self.assertEqual((error, moved), (0, 3))
        self.assertEqual(sorted(os.listdir(self.out)), ["c_1.pt", "c_2.pt", "c_best.pt"])
        self.assertEqual(sorted(os.listdir(aside)), ["c_10.pt", "c_3.pt", "c_4.pt"])
        self.assertEqual(read(f"{aside}/c_4.pt"), h.torch_bytes(4))
        # That of step 2 was linked, and a numbered file may be written in place again: no longer is it shared.
        self.assertTrue(said[1].flags & h.LINKED)
        self.assertEqual((flags, read(said[1].original)), (h.PUT, h.torch_bytes(2)))
        h.write_over(said[1].original, b"again")
        self.assertEqual(read(said[1].kept), h.torch_bytes(2))

    def test_linked(self):
        """Renamed into place: the kept file itself is put back, and found there the next time."""
        first, _ = self.kept("ckpt.pt", "ckpt.pt", "ckpt.pt", write=h.write_renamed)
        self.assertEqual(self.restore("ckpt.pt", first.kept, first.original)[:3], (0, h.PUT, 1))
        self.assertEqual(os.stat(first.kept).st_ino, os.stat(first.original).st_ino)
        self.assertEqual(self.restore("ckpt.pt", first.kept, first.original)[:3], (0, h.ALREADY, 0))

    def test_directory(self):
        folder = self.out / "checkpoint-5"

        def write(path, raw):
            path.mkdir(exist_ok=True)
            (path / "sub").mkdir(exist_ok=True)
            (path / "sub" / "model.pt").write_bytes(raw)
            (path / "trainer_state.json").write_bytes(b"{}")

        (kept,) = self.kept("checkpoint-{step}", "checkpoint-5", write=write)
        whole = tree(folder)
        (folder / "trainer_state.json").unlink()
        (folder / "more").write_bytes(b"1")
        torn = tree(folder)
        (self.out / "checkpoint-6").mkdir()
        error, flags, moved, _, aside = self.restore("checkpoint-{step}", kept.kept, kept.original)
        self.assertEqual((error, flags, moved), (0, h.PUT, 2))
        self.assertEqual((tree(folder), tree(f"{aside}/checkpoint-5")), (whole, torn))
        self.assertEqual(os.listdir(self.out), ["checkpoint-5"])

    def test_damaged_copy(self):
        """A kept copy that is not what was kept is never put anywhere."""
        kept, _ = self.kept("ckpt.pt", "ckpt.pt", "ckpt.pt")
        with open(kept.kept, "r+b") as file:
            file.seek(1000)
            file.write(b"\0\1\2")
        before = tree(self.out)
        error, flags, moved, subject, _ = self.restore("ckpt.pt", kept.kept, kept.original)
        self.assertEqual((error, flags, moved, subject), (errno.EBADMSG, 0, 0, kept.kept))
        self.assertEqual(tree(self.out), before)
        os.unlink(kept.kept)
        self.assertEqual(self.restore("ckpt.pt", kept.kept, kept.original)[0], errno.ENOENT)
        self.assertEqual(tree(self.out), before)

    def test_none(self):
        """Nothing was chosen: only what is torn goes."""
        (self.out / "c1.pt").write_bytes(h.torch_bytes(1))
        (self.out / "c2.pt").write_bytes(h.torch_bytes(2)[:-1])
        (self.out / "c3.pt").write_bytes(b"no format")
        (self.out / "c4.pt").write_bytes(b"")
        error, flags, moved, _, aside = self.restore("c{step}.pt")
        self.assertEqual((error, flags, moved), (0, 0, 2))
        self.assertEqual((sorted(os.listdir(self.out)), sorted(os.listdir(aside))), (["c1.pt", "c3.pt"], ["c2.pt", "c4.pt"]))
        self.assertEqual(self.restore("c{step}.pt"), (0, 0, 0, "", ""))
        self.assertEqual(self.restore("absent/c.pt"), (0, 0, 0, "", ""))

    def test_formats(self):
        """Cut anywhere, each format is seen to be torn; whole, also in its rarer forms, it is not."""
        rng = random.Random(3)
        many = io.BytesIO()
        with zipfile.ZipFile(many, "w") as archive:  # more entries than the 32-bit end record can count
            for at in range(66000):
                archive.writestr(zipfile.ZipInfo(str(at)), b"")
        wide = io.BytesIO()
        with zipfile.ZipFile(wide, "w") as archive:
            with archive.open("a", "w", force_zip64=True) as entry:
                entry.write(b"1" * 1000)
            archive.comment = b"PK\5\6 said in a comment"
        wholes = {"zip": h.torch_bytes(1), "many": many.getvalue(), "wide": wide.getvalue(),
                  "safetensors": h.safetensors_bytes([1.0] * 50)}
        self.assertIn(b"PK\6\6", wholes["many"])
        for name, whole in wholes.items():
            ending = ".safetensors" if name == "safetensors" else ".pt"
            folder = self.out / name
            folder.mkdir()
            cuts = {*range(1, 12), *range(len(whole) - 100, len(whole)), *(rng.randrange(len(whole)) for _ in range(60))}
            cuts = sorted(cuts)[:: 12 if name == "many" else 1]
            for at, cut in enumerate(cuts, 1):
                (folder / f"c{at}{ending}").write_bytes(whole[:cut])
            (folder / f"c0{ending}").write_bytes(whole)
            # Longer than it says it is: something of another file behind it.
            (folder / f"c{len(cuts) + 1}{ending}").write_bytes(whole + b"more")
            # As long as it should be, with a hole where an entry begins, or where a header does.
            hole = whole.rindex(b"PK\3\4") if name != "safetensors" else 8
            (folder / f"c{len(cuts) + 2}{ending}").write_bytes(whole[:hole] + bytes(8) + whole[hole + 8 :])
            error, _, moved, _, _ = self.restore(f"{name}/c{{step}}{ending}")
            # The only entry of this one is its first: then nothing tells what it is.
            left = [f"c0{ending}"] + ([f"c{len(cuts) + 2}{ending}"] if name == "wide" else [])
            self.assertEqual((error, moved, sorted(os.listdir(folder))),
                             (0, len(cuts) + 3 - len(left), left), name)

    def test_symbolic_link(self):
        """A link that stands there is moved aside; where it leads to stays as it is."""
        (kept,) = self.kept("ckpt.pt", "ckpt.pt")
        (self.out / "target").write_bytes(b"other")
        (self.out / "ckpt.pt").unlink()
        (self.out / "ckpt.pt").symlink_to("target")
        self.assertEqual(self.restore("ckpt.pt", kept.kept, kept.original)[:3], (0, h.PUT, 1))
        self.assertEqual((read(self.out / "target"), read(self.out / "ckpt.pt")), (b"other", h.torch_bytes(1)))
        self.assertFalse(os.path.islink(self.out / "ckpt.pt"))

    def test_other_file_system(self):
        """The run directory is on another disk: what is moved aside stays on its own, hidden, without a copy."""
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", self.run_dir],
                                               check=False, capture_output=True).returncode != 0:
            self.skipTest("needs to mount a small file system")
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.run_dir], check=True)
        first, second = self.kept("ckpt.pt", "ckpt.pt", "ckpt.pt", write=h.write_renamed)
        self.assertFalse(second.flags & h.LINKED)
        h.write_over(self.out / "ckpt.pt", b"torn")
        inode = os.stat(self.out / "ckpt.pt").st_ino
        error, flags, moved, _, aside = self.restore("ckpt.pt", first.kept, first.original)
        self.assertEqual((error, flags, moved, aside), (0, h.PUT, 1, str(self.out / ".holdfast-aside/0001")))
        self.assertEqual(read(self.out / "ckpt.pt"), h.torch_bytes(1))
        self.assertEqual(os.stat(f"{aside}/ckpt.pt").st_ino, inode)

    def killed(self, pattern, kept, torn, looks):
        """Restore, killed at random; what stands there is always the one or the other, and nothing is lost."""
        rng = random.Random(7)
        words = [str(self.holdfast), "helper-restore", "--run-dir", str(self.run_dir), "--pattern",
                 str(self.out / pattern), "--kept", kept.kept, "--original", kept.original]
        ends = set()
        for _ in range(KILLS):
            torn()
            before = looks()
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
            try:
                process.wait(rng.uniform(0, 0.025))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            ends.add(process.wait())
            self.assertIn(looks(), (before, self.whole))
            self.assertEqual(self.restore(pattern, kept.kept, kept.original)[0], 0)
            self.assertEqual(looks(), self.whole)
            # Whatever it had not finished is gone or aside, and the suspect is somewhere.
            self.assertEqual(os.listdir(self.out), [os.path.basename(kept.original)])
            aside = [tree(p) for d in (self.run_dir / "checkpoints/aside").iterdir() for p in d.iterdir()]
            self.assertIn(before, aside)
        print(f"seed 7: ends of {KILLS} restores: {sorted(ends)}")

    def test_killed_file(self):
        keeper, path = self.keeper("ckpt.pt"), self.out / "ckpt.pt"
        h.write_over(path, h.torch_bytes(1, 8000000))
        kept = keeper.wait_kept()
        self.assertEqual(keeper.stop(), 0)
        self.whole = tree(path)
        seeds = iter(range(10, 10 + KILLS))
        self.killed("ckpt.pt", kept, lambda: h.write_over(path, h.torch_bytes(next(seeds))[:-1]), lambda: tree(path))

    def test_killed_directory(self):
        keeper, folder = self.keeper("c-{step}"), self.out / "c-5"
        folder.mkdir()
        for at in range(4):
            (folder / f"{at}.pt").write_bytes(h.torch_bytes(at, 1000000))
        (folder / "trainer_state.json").write_bytes(b"{}")
        kept = keeper.wait_kept()
        self.assertEqual(keeper.stop(), 0)
        self.whole = tree(folder)
        seeds = iter(range(10, 10 + KILLS))

        def torn():
            (folder / "0.pt").write_bytes(h.torch_bytes(next(seeds))[:-1])
            (folder / "trainer_state.json").unlink()

        self.killed("c-{step}", kept, torn, lambda: tree(folder))

    def test_bad_words(self):
        for words in ([], ["--none"], ["--run-dir", "/x", "--pattern", "y", "--none"],
                      ["--run-dir", "/x", "--pattern", "/y", "--kept", "/z"],
                      ["--run-dir", "/x", "--pattern", "/y", "--kept", "/z", "--original", "/y", "--none"]):
            done = subprocess.run([str(self.holdfast), "helper-restore", *words], check=False, timeout=rig.DEADLINE_S)
            self.assertEqual(done.returncode, 64, words)


if __name__ == "__main__":
    sys.exit(h.main(Restore))
