"""The keeper: every shape in which scripts write checkpoints, and what must not disturb it.

    test_keeper.py BUILD [TEST...]

Each shape comes with its control: the same, torn or unfinished, which is not kept.  That nothing is kept is seen by
what is kept next: ordinals count without a hole, and copies are taken in the order of the files.
"""

import json
import os
import pathlib
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import helpers as h  # noqa: E402
import rig  # noqa: E402


def read(path):
    return pathlib.Path(path).read_bytes()


class Shapes(h.Case):
    def test_in_place(self):
        keeper, path = self.keeper("ckpt.pt"), self.out / "ckpt.pt"
        raw = h.torch_bytes(1)
        h.write_over(path, raw, 7)
        kept = keeper.wait_kept(ordinal=1)
        began = [m for m in keeper.said if m.kind == h.WRITING and m.flags & h.BEGINS]
        self.assertEqual([m.writing for m in began], [kept.writing])
        self.assertEqual((kept.step, kept.flags, kept.size_bytes, kept.file_count), (None, 0, len(raw), 1))
        self.assertEqual(kept.kept, str(self.run_dir / "checkpoints/000001-step-none/ckpt.pt"))
        # Torn, then whole: only the whole one gets a number, and the first copy is not touched.
        h.write_over(path, h.torch_bytes(2)[:-30])
        keeper.wait(h.WRITING)
        time.sleep(0.5)  # longer than the quiet it waits for: were the check away, the torn one would be kept
        h.write_over(path, h.torch_bytes(3))
        second = keeper.wait_kept()
        self.assertEqual((second.ordinal, read(second.kept)), (2, h.torch_bytes(3)))
        self.assertEqual(read(kept.kept), raw)
        self.assertNotEqual(os.stat(second.kept).st_ino, os.stat(path).st_ino)
        self.assertNotEqual(second.digest, kept.digest)
        self.assertEqual(os.stat(second.kept).st_mtime_ns, os.stat(path).st_mtime_ns)

    def test_renamed(self):
        keeper, path = self.keeper("ckpt.pt"), self.out / "ckpt.pt"
        h.write_renamed(path, h.torch_bytes(1))
        kept = keeper.wait_kept()
        self.assertTrue(kept.flags & h.LINKED)
        self.assertEqual(os.stat(kept.kept).st_ino, os.stat(path).st_ino)
        h.write_renamed(path, h.torch_bytes(2))
        second = keeper.wait_kept()
        self.assertEqual((read(kept.kept), read(second.kept)), (h.torch_bytes(1), h.torch_bytes(2)))
        # Somebody writes into the linked file: its copy is worth nothing, and there are no more links.
        h.write_over(path, h.torch_bytes(3))
        self.assertEqual(keeper.wait(h.DROPPED).ordinal, 2)
        third = keeper.wait_kept()
        self.assertFalse(third.flags & h.LINKED)
        h.write_renamed(path, h.torch_bytes(4))
        self.assertFalse(keeper.wait_kept().flags & h.LINKED)
        self.assertEqual(read(third.kept), h.torch_bytes(3))
        self.assertEqual(keeper.stop(), 0)
        # The next keeper knows it too.
        again = self.keeper("ckpt.pt")
        h.write_renamed(path, h.torch_bytes(5))
        self.assertEqual(again.wait_kept(ordinal=5).flags, 0)

    def test_renamed_fast(self):
        """One that renames into place more often than files written in place need quiet is kept all the same."""
        keeper, path = self.keeper("ckpt.pt", keep=2), self.out / "ckpt.pt"
        end = threading.Event()

        def write():
            seed = 0
            while not end.wait(0.15):
                seed += 1
                h.write_renamed(path, h.torch_bytes(seed, 3000))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(4):
                self.assertTrue(h.whole_zip(read(keeper.wait_kept().kept)))
        finally:
            end.set()
            writer.join()

    def test_numbered(self):
        keeper = self.keeper("model_{step}.pt", keep=3)
        for step in (100, 200, 300):
            h.write_over(self.out / f"model_{step}.pt", h.torch_bytes(step), 3)
            kept = keeper.wait_kept()
            # The first is a copy: there is nothing yet to fall back on if the script writes into it again.
            self.assertEqual((kept.step, bool(kept.flags & h.LINKED)), (step, step != 100))
        (self.out / "model_best.pt").write_bytes(h.torch_bytes(9))
        (self.out / "model_400.pt.tmp").write_bytes(h.torch_bytes(9))
        (self.out / "model_18446744073709551616.pt").write_bytes(h.torch_bytes(9))
        h.write_over(self.out / "model_0500.pt", h.torch_bytes(5))
        self.assertEqual(keeper.wait_kept().step, 500)
        # An old one written again is noticed among the newer ones, and its link given up.
        h.write_over(self.out / "model_300.pt", h.torch_bytes(301))
        self.assertEqual(keeper.wait(h.DROPPED, error=116).step, 300)
        kept = keeper.wait_kept(step=300)
        self.assertEqual((read(kept.kept), kept.flags & h.LINKED), (h.torch_bytes(301), 0))

    def test_safetensors(self):
        keeper = self.keeper("m-{step}.safetensors")
        whole = h.safetensors_bytes([1.0, 2.0, 3.0])
        (self.out / "m-1.safetensors").write_bytes(whole[:-1])
        (self.out / "m-2.safetensors").write_bytes(whole + b"\0")
        (self.out / "m-3.safetensors").write_bytes(whole[:9])
        keeper.wait(h.WRITING)
        time.sleep(0.5)  # longer than the quiet
        (self.out / "m-4.safetensors").write_bytes(whole)
        kept = keeper.wait_kept()
        self.assertEqual((kept.step, kept.ordinal, kept.finite), (4, 1, 1))
        (self.out / "m-5.safetensors").write_bytes(h.safetensors_bytes([1.0, float("nan")]))
        self.assertEqual(keeper.wait_kept().finite, 0)

    def test_unchecked(self):
        """No format is known: closed and quiet is all there is, and it is said."""
        keeper, path = self.keeper("state.bin"), self.out / "state.bin"
        with open(path, "wb") as file:
            file.write(b"a" * 5000)
            file.flush()
            keeper.wait(h.WRITING)
            time.sleep(0.5)  # quiet, and not closed: were closing not asked for, this would be kept
            file.write(b"b" * 5000)
        kept = keeper.wait_kept()
        self.assertEqual((kept.ordinal, read(kept.kept)), (1, b"a" * 5000 + b"b" * 5000))
        self.assertTrue(kept.flags & h.UNCHECKED)

    def test_second_writer(self):
        """Closed by one, still open for writing in another."""
        keeper, path = self.keeper("state.bin"), self.out / "state.bin"
        path.write_bytes(b"")
        with open(path, "r+b") as other:
            path.write_bytes(b"x" * 1000)
            keeper.wait(h.WRITING)
            time.sleep(0.5)  # longer than the quiet: were /proc not asked, this would be kept
            other.seek(1000)
            other.write(b"y" * 1000)
        kept = keeper.wait_kept()
        self.assertEqual((kept.ordinal, kept.size_bytes), (1, 2000))

    def test_directory(self):
        keeper = self.keeper("checkpoint-{step}")

        def write(step, *names, apart=None):
            folder = self.out / (apart or f"checkpoint-{step}")
            folder.mkdir(exist_ok=True)
            for name in names:
                raw = {"trainer_state.json": b'{"global_step": 1}', "model.safetensors": h.safetensors_bytes([1.0, 2.0]),
                       "optimizer.pt": h.torch_bytes(step)}.get(name, b"text")
                (folder / name).write_bytes(raw)
            return folder

        write(10, "model.safetensors", "optimizer.pt")
        keeper.wait(h.WRITING, step=10)
        time.sleep(0.5)  # quiet: were the mark not asked for, it would be kept without its state
        write(10, "sub", "trainer_state.json")
        kept = keeper.wait_kept()
        self.assertEqual((kept.step, kept.ordinal, kept.file_count, kept.finite), (10, 1, 4, 1))
        self.assertEqual(kept.flags, h.DIRECTORY)
        self.assertEqual(sorted(os.listdir(kept.kept)), sorted(os.listdir(self.out / "checkpoint-10")))
        # Torn in it.
        folder = write(20, "trainer_state.json")
        (folder / "optimizer.pt").write_bytes(h.torch_bytes(1)[:-1])
        keeper.wait(h.WRITING, step=20)
        # Renamed into place: whole by that, with links; links in it stay links; what is no file is left out.
        folder = write(30, "weights.bin", apart="tmp-checkpoint-30")
        (folder / "deep").mkdir()
        (folder / "deep" / "a\nb\xff").write_bytes(b"1")
        (folder / "latest").symlink_to("weights.bin")
        os.mkfifo(folder / "fifo")
        os.rename(folder, self.out / "checkpoint-30")
        kept = keeper.wait_kept()
        self.assertEqual((kept.step, kept.ordinal, kept.file_count), (30, 2, 2))
        self.assertTrue(kept.flags & h.LINKED and kept.flags & h.UNCHECKED)
        self.assertEqual(os.readlink(pathlib.Path(kept.kept, "latest")), "weights.bin")
        self.assertFalse(pathlib.Path(kept.kept, "fifo").exists())
        # Without any mark: after a longer quiet, with everything.
        write(40, "a.bin")
        keeper.wait(h.WRITING, step=40)
        time.sleep(1)
        write(40, "b.bin")
        kept = keeper.wait_kept()
        self.assertEqual((kept.step, kept.ordinal, kept.file_count), (40, 3, 2))
        self.assertTrue(kept.flags & h.UNCHECKED)

    def test_step_in_directory(self):
        keeper = self.keeper("later/step_{step}/model.pt")
        (self.out / "later/step_7").mkdir(parents=True)
        h.write_over(self.out / "later/step_7/model.pt", h.torch_bytes(7))
        kept = keeper.wait_kept()
        self.assertEqual((kept.step, pathlib.Path(kept.kept).name), (7, "model.pt"))
        self.assertEqual(kept.original, str(self.out / "later/step_7/model.pt"))

    def test_comes_and_goes(self):
        """The directory does not exist yet, is removed, renamed, made again."""
        keeper, base = self.keeper("a/b/ckpt.pt"), self.out / "a/b"
        for seed in range(1, 5):
            base.mkdir(parents=True)
            h.write_over(base / "ckpt.pt", h.torch_bytes(seed))
            kept = keeper.wait_kept()
            self.assertEqual((kept.ordinal, read(kept.kept)), (seed, h.torch_bytes(seed)))
            if seed % 2 == 0:
                os.rename(base, self.out / f"old{seed}")
            else:
                (base / "ckpt.pt").unlink()
                base.rmdir()

    def test_at_start(self):
        for step in (1, 2, 3):
            h.write_over(self.out / f"c{step}.pt", h.torch_bytes(step))
        (self.out / "c4.pt").write_bytes(h.torch_bytes(4)[:100])
        keeper = self.keeper("c{step}.pt", keep=5)
        said = [keeper.wait_kept() for _ in range(3)]
        self.assertEqual([(m.step, m.ordinal, m.flags, m.writing) for m in said],
                         [(step, step, h.AT_START, 0) for step in (1, 2, 3)])
        self.assertEqual([m for m in keeper.said if m.kind == h.WRITING], [])
        keeper.kill()
        # Its successor says them again, under the same numbers, and removes what was half done.
        stage = self.run_dir / "checkpoints/.stage-1-000004"
        stage.mkdir()
        (stage / "c9.pt").write_bytes(b"half")
        (self.run_dir / "checkpoints/000002-step-2/.kept.json").unlink()
        again = self.keeper("c{step}.pt", keep=5)
        said = [again.wait_kept() for _ in range(3)]
        self.assertEqual([(m.step, m.ordinal, m.flags) for m in said],
                         [(1, 1, h.AGAIN), (3, 3, h.AGAIN), (2, 4, h.AT_START)])
        self.assertFalse(stage.exists())
        self.assertFalse((self.run_dir / "checkpoints/000002-step-2").exists())

    def test_in_place_mode(self):
        keeper = self.keeper("c{step}.pt", mode="inplace", keep=2)
        for step in (1, 2, 3):
            h.write_over(self.out / f"c{step}.pt", h.torch_bytes(step))
            kept = keeper.wait_kept()
            self.assertEqual((kept.kept, kept.flags), (kept.original, h.IN_PLACE))
        keeper.wait(h.DROPPED, ordinal=1)
        self.assertEqual(h.kept_copies(self.run_dir), [])
        self.assertEqual(len(list(self.out.iterdir())), 3)

    def test_same_again(self):
        """The same bytes written again: one copy, one number, and it is said who wrote them."""
        keeper, path = self.keeper("ckpt.pt"), self.out / "ckpt.pt"
        h.write_over(path, h.torch_bytes(1))
        keeper.wait_kept(ordinal=1)
        h.write_over(path, h.torch_bytes(1))
        self.assertEqual(keeper.wait_kept().flags, h.REWRITTEN)
        self.assertEqual(len(h.kept_copies(self.run_dir)), 1)


    def test_overwritten(self):
        """Written over, without being cut, while it is copied: no copy is a mixture."""
        keeper, path, rng = self.keeper("state.bin", keep=40), self.out / "state.bin", random.Random(5)
        path.write_bytes(bytes(40 << 20))
        keeper.wait_kept()
        for value in range(1, 13):
            # From before its quiet is over to after its copy is made.
            time.sleep(rng.uniform(0.15, 0.35))
            with open(path, "r+b") as file:
                for _ in range(40):
                    file.write(bytes([value]) * (1 << 20))
        last = keeper.wait_kept()
        while read(last.kept)[0] != 12:
            last = keeper.wait_kept()
        for copy in h.kept_copies(self.run_dir):
            raw = read(copy)
            self.assertEqual(raw, raw[:1] * (40 << 20), copy)


class Pruning(h.Case):
    def fill(self, keeper, first, last, size=20000):
        for step in range(first, last + 1):
            h.write_over(self.out / f"c{step}.pt", h.torch_bytes(step, size))
            keeper.wait_kept(step=step)

    def steps(self):
        return [int(p.parent.name.rsplit("-", 1)[1]) for p in h.kept_copies(self.run_dir)]

    def test_prune(self):
        keeper = self.keeper("c{step}.pt", keep=2, protect=False)
        self.fill(keeper, 1, 4)
        # Control: nothing goes before the agent has said what must stay.
        self.assertEqual(self.steps(), [1, 2, 3, 4])
        keeper.send(h.PROTECT, 2)
        keeper.wait(h.DROPPED, ordinal=1)
        self.assertEqual(self.steps(), [2, 3, 4])
        # The newest two stay beside what must; of that there may be two.
        keeper.send(h.PROTECT, 2, 3)
        self.fill(keeper, 5, 6)
        keeper.wait(h.DROPPED, ordinal=4)
        self.assertEqual(self.steps(), [2, 3, 5, 6])
        keeper.send(h.PROTECT, 2)
        keeper.wait(h.DROPPED, ordinal=3)
        keeper.send(h.DROP, 6)
        keeper.wait(h.DROPPED, ordinal=6)
        self.fill(keeper, 7, 7)
        self.assertEqual((self.steps(), keeper.said[-1].ordinal), ([2, 5, 7], 7))
        # Nobody's file was touched.
        self.assertEqual(sorted(os.listdir(self.out)), [f"c{step}.pt" for step in range(1, 8)])

    def test_ordinals_go_on(self):
        keeper = self.keeper("c{step}.pt", mode="copy")
        self.fill(keeper, 1, 1)
        keeper.send(h.DROP, 1)
        keeper.wait(h.DROPPED, ordinal=1)
        self.assertEqual(keeper.stop(), 0)
        (self.out / "c1.pt").unlink()
        keeper = self.keeper("c{step}.pt", mode="copy")
        h.write_over(self.out / "c2.pt", h.torch_bytes(2))
        self.assertEqual(keeper.wait_kept().ordinal, 2)

    def test_budget(self):
        keeper = self.keeper("c{step}.pt", keep=10, budget=65000, mode="copy")
        self.fill(keeper, 1, 4)
        self.assertEqual(self.steps(), [2, 3, 4])
        keeper.send(h.PROTECT, 2)
        self.fill(keeper, 5, 5, 60000)
        keeper.wait(h.DROPPED, ordinal=4)
        keeper.wait(h.TROUBLE, error=122)
        self.assertEqual(self.steps(), [2, 5])


class Trouble(h.Case):
    def test_overflow(self):
        """More notices than the kernel holds."""
        keeper = self.keeper("ckpt.pt")
        keeper.process.send_signal(signal.SIGSTOP)
        for at in range(int(read("/proc/sys/fs/inotify/max_queued_events")) // 2 + 100):
            os.close(os.open(self.out / f"other{at % 2}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
            (self.out / f"other{at % 2}").unlink()
        h.write_over(self.out / "ckpt.pt", h.torch_bytes(1))
        keeper.process.send_signal(signal.SIGCONT)
        # Sooner than the look that comes in any case.
        keeper.wait(h.KEPT, deadline_s=9)

    def test_polling(self):
        """No notices at all."""
        nothing = ["unshare", "--user", "--map-root-user", "sh", "-c",
                   'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"', "sh"]
        if subprocess.run([*nothing, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("no user namespaces here")
        keeper, path = self.keeper("ckpt.pt", prefix=nothing), self.out / "ckpt.pt"
        self.assertEqual(keeper.said[0].flags, h.POLLING)
        h.write_over(path, h.torch_bytes(1)[:-1])
        keeper.wait(h.WRITING)
        time.sleep(1.5)
        h.write_over(path, h.torch_bytes(1))
        self.assertEqual(keeper.wait_kept().ordinal, 1)

    def test_strange(self):
        """What is no checkpoint, and who never ends."""
        keeper = self.keeper("c{step}")
        os.mkfifo(self.out / "c1")
        (self.out / "c2").symlink_to(self.out / "c2")
        (self.out / "c3").symlink_to("/dev/zero")
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(str(self.out / "c4"))
        (self.out / "c5").mkdir()
        (self.out / "c6").write_bytes(b"")
        os.mknod(self.out / "c7", 0o600 | stat.S_IFIFO)
        (self.out / ("c" + "8" * 250)).write_bytes(b"x")
        end = threading.Event()

        def grow():
            with open(self.out / "c9", "wb", buffering=0) as file:
                while not end.wait(0.001):
                    file.write(b"x" * 5000)

        writer = threading.Thread(target=grow)
        writer.start()
        try:
            keeper.wait(h.WRITING, step=9)
            for step in (10, 11, 12):
                h.write_over(self.out / f"c{step}", h.torch_bytes(step))
                self.assertEqual(keeper.wait_kept().step, step)
            began = time.monotonic()
            keeper.wait(h.WRITING, step=9)
            keeper.wait(h.WRITING, step=9)
            self.assertGreater(time.monotonic() - began, 0.5)
            # A symbolic link is followed for its bytes, and never linked to.
            h.write_over(self.out / "target", h.torch_bytes(5))
            (self.out / "c13").symlink_to(self.out / "target")
            kept = keeper.wait_kept()
            self.assertEqual((kept.step, kept.flags & h.LINKED, read(kept.kept)), (13, 0, h.torch_bytes(5)))
            self.assertFalse(os.path.islink(kept.kept))
        finally:
            end.set()
            writer.join()
        self.assertEqual(keeper.wait_kept().step, 9)

    def test_full_disk(self):
        disk = self.scratch / "disk"
        disk.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "none", disk], capture_output=True,
                              text=True, check=False) if os.geteuid() == 0 else None
        if done is None or done.returncode != 0:
            self.skipTest("needs to mount a small file system")
        self.addCleanup(subprocess.run, ["umount", "--lazy", disk], check=True)
        keeper = self.keeper("c{step}.pt", run_dir=disk, keep=5)
        for step in (1, 2, 3):
            h.write_over(self.out / f"c{step}.pt", h.torch_bytes(step, 300000))
            keeper.wait_kept()
        # The oldest makes room for the newest.
        h.write_over(self.out / "c4.pt", h.torch_bytes(4, 300000))
        self.assertEqual(keeper.wait(h.TROUBLE).error, 28)
        self.assertEqual(keeper.wait(h.DROPPED).ordinal, 1)
        self.assertEqual(keeper.wait_kept().step, 4)
        # There is no room to be made: it says so, keeps what it has, and goes on.
        h.write_over(self.out / "c5.pt", h.torch_bytes(5, 2000000))
        keeper.wait(h.DROPPED)
        h.write_over(self.out / "c6.pt", h.torch_bytes(6, 200000))
        self.assertEqual(keeper.wait_kept().step, 6)
        for path in h.kept_copies(disk):
            self.assertTrue(h.whole_zip(read(path)), path)
        self.assertEqual([p.name for p in (disk / "checkpoints").glob(".stage-*")], [])

    def test_bad_words(self):
        for pattern in ("relative.pt", "/a/{step}/{step}", "/", "/a/.kept.json", "/a/..", "/" + "x" * 300,
                        "/" + "a/" * 3000 + "b"):
            words = [str(self.holdfast), "helper-keeper", "--run-dir", str(self.run_dir), "--mode", "auto", "--keep", "2",
                     "--budget-bytes", "0", "--pattern", pattern]
            self.assertEqual(subprocess.run(words, check=False).returncode, 64, pattern)

    def test_end_of_agent(self):
        keeper = self.keeper("ckpt.pt")
        keeper.socket.close()
        self.assertEqual(keeper.process.wait(rig.DEADLINE_S), 0)

    def test_one_at_a_time(self):
        first = self.keeper("ckpt.pt")
        waiting = subprocess.run([*first.arguments], stdin=subprocess.DEVNULL, timeout=rig.DEADLINE_S, check=False)
        # Without a socket it cannot say that it waits, and ends; with the first still there it never got in.
        self.assertEqual(waiting.returncode, 0)
        h.write_over(self.out / "ckpt.pt", h.torch_bytes(1))
        self.assertEqual(first.wait_kept().ordinal, 1)
        self.assertEqual(json.loads(read(self.run_dir / "checkpoints/000001-step-none/.kept.json"))["version"], 1)


if __name__ == "__main__":
    sys.exit(h.main(Shapes, Pruning, Trouble))
