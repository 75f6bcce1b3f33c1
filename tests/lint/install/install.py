#!/usr/bin/env python3
"""What `cmake --install` puts down can be used, where it was put and after it was moved.

Installs the build into a directory of its own, then builds and runs a C and a C++ program against libholdfast, by
pkg-config (shared and static) and by find_package.  Then the installation is moved and all of it done again, so that
a path of the first place that was written into a file shows.  Controls: without the installation neither way may
find the library, or the test would be measuring a copy that the system has anyway.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile


class Failed(Exception):
    """A step did not do what it should; the text says which, and what it said."""


def run(command, environment=None, expect_failure=False):
    result = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=120)
    if (result.returncode != 0) != expect_failure:
        raise Failed(f"{' '.join(command)}\nended with {result.returncode}:\n{result.stdout}")
    return result.stdout


def find_one(prefix, name):
    for directory, _, files in os.walk(prefix):
        if name in files:
            return os.path.join(directory, name)
    raise Failed(f"{name} is not installed")


def plain_environment(**more):
    """The caller's, without what would change where things are looked for."""
    unwanted = ("PKG_CONFIG", "CMAKE_", "HOLDFAST_", "LD_LIBRARY_PATH", "DESTDIR", "CFLAGS", "CXXFLAGS", "LDFLAGS")
    return {k: v for k, v in os.environ.items() if not k.startswith(unwanted)} | more


def say_ok(command, environment):
    output = run(command, environment)
    if "consumer ok" not in output:
        raise Failed(f"{' '.join(command)} said: {output}")


class Consumers:
    """The programs that use an installation."""

    def __init__(self, options, scratch):
        self.options = options
        self.scratch = scratch
        self.flags = [f"-fsanitize={options.sanitize}"] if options.sanitize else []
        self.round = 0

    def source(self, name):
        return os.path.join(self.options.consumer, name)

    def by_pkg_config(self, prefix):
        directory = os.path.dirname(find_one(prefix, "holdfast.pc"))
        # Only there: a copy that the system has does not count.
        environment = plain_environment(PKG_CONFIG_LIBDIR=directory)
        version = run(["pkg-config", "--modversion", "holdfast"], environment).strip()
        if version != self.options.version:
            raise Failed(f"holdfast.pc says version {version}, the build is {self.options.version}")
        library = os.path.dirname(find_one(prefix, "libholdfast.so"))
        for compiler, name, standard in ((self.options.cc, "consumer.c", "-std=c11"),
                                         (self.options.cxx, "consumer.cc", "-std=c++11")):
            program = os.path.join(self.scratch, f"pkg-config-{self.round}-{name}")
            flags = run(["pkg-config", "--cflags", "--libs", "holdfast"], environment).split()
            run([compiler, standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", *self.flags, self.source(name),
                 "-o", program, *flags], environment)
            say_ok([program], plain_environment(LD_LIBRARY_PATH=library))
            static = run(["pkg-config", "--static", "--cflags", "--libs", "holdfast"], environment).split()
            run([compiler, standard, *self.flags, self.source(name), "-o", program + "-static",
                 *[f for f in static if f != "-lholdfast"], find_one(prefix, "libholdfast.a"),
                 *[f for f in static if f.startswith("-l") and f != "-lholdfast"]], environment)
            say_ok([program + "-static"], plain_environment())

    def configure(self, prefix, build, expect_failure=False):
        return run([self.options.cmake, "-S", self.options.consumer, "-B", build, "-G", "Ninja",
                    f"-DCMAKE_C_COMPILER={self.options.cc}", f"-DCMAKE_CXX_COMPILER={self.options.cxx}",
                    f"-DCMAKE_C_FLAGS={' '.join(self.flags)}", f"-DCMAKE_CXX_FLAGS={' '.join(self.flags)}",
                    f"-DCMAKE_PREFIX_PATH={prefix}", f"-DWANTED_VERSION={self.options.version}",
                    # Nothing is remembered in the user's package registry, nothing is taken from it.
                    "-DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF"],
                   plain_environment(), expect_failure)

    def by_cmake(self, prefix):
        build = os.path.join(self.scratch, f"cmake-{self.round}")
        self.configure(prefix, build)
        run([self.options.cmake, "--build", build], plain_environment())
        for name in ("c-holdfast", "c-holdfast_static", "cxx-holdfast", "cxx-holdfast_static"):
            say_ok([os.path.join(build, name)], plain_environment())

    def all(self, prefix):
        self.round += 1
        self.by_pkg_config(prefix)
        self.by_cmake(prefix)

    def controls(self):
        """With an empty prefix, neither way finds anything."""
        empty = os.path.join(self.scratch, "empty")
        os.mkdir(empty)
        run(["pkg-config", "--exists", "holdfast"], plain_environment(PKG_CONFIG_LIBDIR=empty), expect_failure=True)
        output = self.configure(empty, os.path.join(self.scratch, "cmake-empty"), expect_failure=True)
        if "holdfast" not in output:
            raise Failed(f"the configuration of the control failed for another reason: {output}")


def check_contents(prefix, options):
    for name in ("holdfast.h", "libholdfast.a", "libholdfast.so", "holdfast.pc"):
        find_one(prefix, name)
    for program in options.program:
        path = find_one(prefix, program)
        run([path, "--version"], plain_environment())
    headers = [f for _, _, files in os.walk(os.path.join(prefix, "include")) for f in files]
    if headers != ["holdfast.h"]:
        raise Failed(f"holdfast.h is the only header for others; installed are {headers}")


def check_library(prefix, options):
    """libholdfast needs nothing but libc, and shows nothing but its API, each symbol with its version."""
    library = find_one(prefix, "libholdfast.so")
    names = []
    for line in run(["nm", "--dynamic", "--defined-only", library], plain_environment()).splitlines():
        kind, name = line.split()[-2:]
        # The name of a version itself is listed too, as an absolute symbol.
        if kind not in "Aa":
            names.append(name)
    wrong = [n for n in names if not n.startswith("holdfast_") or "@@" not in n]
    if wrong or not names:
        raise Failed(f"libholdfast.so shows names that are not holdfast_NAME@@VERSION: {wrong or 'none at all'}")
    if not options.sanitize:
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run(["readelf", "-d", library], plain_environment()))
        if [n for n in needed if not n.startswith(("libc.so", "ld-linux"))]:
            raise Failed(f"libholdfast.so needs more than libc: {needed}")


def check_no_path(prefix, old):
    """No text file of the installation names the place where it was, or where it was built."""
    for directory, _, files in os.walk(prefix):
        for name in files:
            if name.endswith((".pc", ".cmake", ".h")):
                with open(os.path.join(directory, name), encoding="utf-8") as file:
                    text = file.read()
                for path in old:
                    if path in text:
                        raise Failed(f"{name} holds the path {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("cmake", "build", "consumer", "cc", "cxx", "version"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--sanitize", default="")
    parser.add_argument("--program", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-install-") as scratch:
        consumers = Consumers(options, scratch)
        consumers.controls()
        first, second = os.path.join(scratch, "first"), os.path.join(scratch, "elsewhere", "second")
        run([options.cmake, "--install", options.build, "--prefix", first], plain_environment())
        check_contents(first, options)
        check_library(first, options)
        check_no_path(first, [first, options.build])
        consumers.all(first)
        os.mkdir(os.path.dirname(second))
        shutil.move(first, second)
        consumers.all(second)
    print("installed, used by C and C++, moved, used again")


try:
    main()
except (Failed, subprocess.TimeoutExpired) as failure:
    print(failure)
    sys.exit(1)
