"""The module as it is installed: by CMake, where it lies and after it was moved, and by pip from the tree, without a
network.  Each time a script under `holdfast run` reports through the copy that was installed.

    test_install.py BUILD [TEST...]
"""

import os
import shutil
import subprocess
import sys

import pymodule

SCRIPT = """
    import holdfast, os, sys
    place = os.path.realpath(os.path.dirname(holdfast.__file__))
    assert place == os.path.realpath(sys.argv[1]), (place, sys.argv)
    holdfast.step(1, loss=0.5)
    used = {line.split()[-1] for line in open("/proc/self/maps") if "libholdfast" in line}
    assert used == {os.path.realpath(sys.argv[2])}, used
"""


class Install(pymodule.Scripts):
    def quiet(self, *command):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "DESTDIR", "PYTHONPATH"))}
        done = subprocess.run(list(map(str, command)), env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def works(self, package, library, name):
        run = self.run_of(self.write(SCRIPT), package, library, name=name,
                          environment={"PYTHONPATH": str(package.parent)}).start()
        self.ends(run)
        self.assertEqual(list(run.rows()), [1])

    def environment(self, **more):
        return more

    def test_cmake(self):
        prefix = self.scratch / "prefix"
        # Only this folder's part and the library's: the rest is another test's.
        self.quiet("cmake", "--install", self.build / "trainer", "--prefix", prefix)
        for place in (prefix, self.scratch / "moved"):
            if place != prefix:
                shutil.move(prefix, place)
            (package,) = place.glob("**/site-packages/holdfast")
            (library,) = place.glob("**/libholdfast.so.1.*")
            self.works(package, library, place.name + "-run")
            self.assertTrue((package / "py.typed").exists())
        self.assertNotIn(str(self.scratch), os.readlink(package / "libholdfast.so.1"))

    def test_pip(self):
        if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
            self.skipTest(f"{sys.executable} has no pip")
        if self.sanitized():
            self.skipTest("a library for a sanitizer's build is none that pip builds")
        target = self.scratch / "target"
        tree = pymodule.HERE.parent.parent
        before = sorted(tree.glob("trainer/python/*"))
        self.quiet(sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps",
                   "--no-cache-dir", "--disable-pip-version-check", "--root-user-action=ignore", "--target", target,
                   tree / "trainer" / "python")
        self.works(target / "holdfast", target / "holdfast" / "libholdfast.so.1", "pip-run")
        installed = {p.name for p in (target / "holdfast").iterdir()} - {"__pycache__"}
        staged = {p.name for p in (self.build / "python" / "holdfast").iterdir()} - {"__pycache__"}
        self.assertEqual(installed, staged)
        self.assertEqual(sorted(tree.glob("trainer/python/*")), before, "the tree was changed")
        (info,) = target.glob("holdfast-*.dist-info")
        version = self.quiet(self.build / "holdfast", "--version").split()[-1]
        self.assertEqual(info.name, f"holdfast-{version}.dist-info")

    def sanitized(self):
        with open(self.build / "CMakeCache.txt", encoding="utf-8") as cache:
            return any(line.startswith("HOLDFAST_SANITIZE:") and line.strip().split("=", 1)[1] for line in cache)


if __name__ == "__main__":
    sys.exit(pymodule.main(Install))
