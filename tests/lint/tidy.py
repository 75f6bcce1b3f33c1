#!/usr/bin/env python3
"""clang-tidy finds nothing, with the checks of the tree's .clang-tidy.

Looking at a file takes seconds, so that a file found clean is remembered in the build directory, under a digest of
everything the answer depends on: the file, the headers of the tree that it reaches, the command that compiles it,
the checks, and clang-tidy's version.
"""

import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile

import tree

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKS = [os.path.join(HERE, "..", "..", ".clang-tidy"), os.path.join(HERE, "..", ".clang-tidy")]
PLAIN = ["cc", "-std=c11", "-D_GNU_SOURCE", '-DHOLDFAST_VERSION="0"', "-I.", "-Itrainer", "-c"]
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
FINDING = re.compile(r"(^|\n)[^\n]*: (error|warning): ")


def reached(the_tree, path, seen):
    """The file and every header of the tree that it includes, directly or not."""
    if path in seen or path not in the_tree.file_set:
        return seen
    seen.add(path)
    for name in INCLUDE.findall(the_tree.text(path)):
        reached(the_tree, name, seen)
    return seen


def digest_of(the_tree, path, command, common):
    digest = hashlib.sha256(common)
    digest.update("\0".join(command).encode())
    for name in sorted(reached(the_tree, path, set())):
        digest.update(name.encode() + b"\0" + the_tree.text(name).encode() + b"\0")
    return digest.hexdigest()


def is_real(the_tree):
    """The tree is not that of a control."""
    return the_tree.root == os.path.abspath(the_tree.options.root)


def commands(the_tree):
    """How each C file is compiled, by path; the last way counts where there are several."""
    found = {}
    if is_real(the_tree) and the_tree.options.build:
        with open(os.path.join(the_tree.options.build, "compile_commands.json"), encoding="utf-8") as file:
            for entry in json.load(file):
                path = os.path.relpath(os.path.join(entry["directory"], entry["file"]), the_tree.root)
                found[path] = entry.get("arguments") or shlex.split(entry["command"])
    return found


def tidied(the_tree, path, command, database_directory):
    """What clang-tidy says of one file; an empty string when nothing."""
    # In the real tree clang-tidy finds the nearest configuration by itself; a control lies outside.
    configuration = [] if is_real(the_tree) else [f"--config-file={CHECKS[0]}"]
    result = subprocess.run(
        ["clang-tidy", "--quiet", *configuration, "-p", database_directory,
         "--extra-arg=-Wno-unknown-warning-option", "--extra-arg=-Wno-error", the_tree.path(path)],
        cwd=the_tree.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    if FINDING.search(result.stdout):
        return result.stdout.replace(the_tree.root + "/", "").strip()
    if result.returncode:
        return f"{path}: clang-tidy ended with {result.returncode}: {(result.stdout + result.stderr)[-2000:]}"
    return ""


def lint(the_tree):
    the_tree.file_set = set(the_tree.files)
    known = commands(the_tree)
    version = subprocess.run(["clang-tidy", "--version"], check=True, stdout=subprocess.PIPE).stdout
    common = version
    for path in CHECKS:
        with open(path, "rb") as file:
            common += file.read()
    remembers = is_real(the_tree) and the_tree.options.build
    cache = os.path.join(the_tree.options.build, "lint-tidy") if remembers else None
    if cache:
        os.makedirs(cache, exist_ok=True)
    kept, todo = set(), []
    for path in the_tree.sources(".c"):
        # A file that is part of no target is compiled by nobody; the plain flags have to do.
        command = known.get(path, [*PLAIN, path])
        name = digest_of(the_tree, path, command, common)
        kept.add(name)
        if not cache or not os.path.exists(os.path.join(cache, name)):
            todo.append((path, command, name))
    with tempfile.TemporaryDirectory(prefix="holdfast-tidy-") as database_directory:
        with open(os.path.join(database_directory, "compile_commands.json"), "w", encoding="utf-8") as file:
            json.dump([{"directory": the_tree.root, "file": the_tree.path(path), "arguments": command}
                       for path, command, _ in todo], file)
        with concurrent.futures.ThreadPoolExecutor(the_tree.options.jobs) as pool:
            jobs = [(name, pool.submit(tidied, the_tree, path, command, database_directory))
                    for path, command, name in todo]
            for name, job in jobs:
                if job.result():
                    yield job.result()
                elif cache:
                    with open(os.path.join(cache, name), "w", encoding="utf-8"):
                        pass
    if cache:
        for name in set(os.listdir(cache)) - kept:
            os.unlink(os.path.join(cache, name))


def add_options(parser):
    parser.add_argument("--build", help="build directory with compile_commands.json; remembers clean files")
    parser.add_argument("--jobs", type=int, default=2)


LONG = "int a(int b)\n{\n" + "\tb++;\n" * 80 + "\treturn b;\n}\n"
CONTROLS = [
    tree.Control("sound", {"a.c": "int a(int b);\nint a(int b)\n{\n\treturn b;\n}\n"}, None),
    tree.Control("null", {"a.c": "int a(void)\n{\n\tint *b = 0;\n\treturn *b;\n}\n"}, "core.NullDereference"),
    tree.Control("long", {"a.c": LONG}, "function-size"),
    tree.Control("semicolon", {"a.c": "int a(int b)\n{\n\tif (b);\n\t\tb++;\n\treturn b;\n}\n"},
                 "bugprone-suspicious-semicolon"),
]

if not shutil.which("clang-tidy"):
    raise SystemExit("clang-tidy is missing: install the package clang-tidy")
tree.run(lint, CONTROLS, add_options)
