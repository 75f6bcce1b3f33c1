#!/usr/bin/env python3
"""C files look as clang-format and the tree's .clang-format make them look."""

import os
import shutil
import subprocess

import tree

STYLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".clang-format")


def lint(the_tree):
    paths = the_tree.sources(".c", ".h", ".cc")
    if not paths:
        return
    result = subprocess.run(
        ["clang-format", "--dry-run", "-Werror", "--ferror-limit=1", f"--style=file:{STYLE}", *paths],
        cwd=the_tree.root, stderr=subprocess.PIPE, text=True, errors="replace")
    for line in result.stderr.splitlines():
        if ": error:" in line:
            yield line.replace("code should be clang-formatted", "run clang-format -i on it")
    if result.returncode not in (0, 1):
        yield f"clang-format ended with {result.returncode}: {result.stderr[-500:]}"


CONTROLS = [
    tree.Control("sound", {"a.c": "int a(void)\n{\n\treturn 1;\n}\n"}, None),
    tree.Control("spaces", {"a.c": "int a(void)\n{\n    return 1;\n}\n"}, "a.c:2"),
    tree.Control("brace", {"a.c": "int a(void) {\n\treturn 1;\n}\n"}, "a.c:1"),
]

if not shutil.which("clang-format"):
    raise SystemExit("clang-format is missing: install the package clang-format")
tree.run(lint, CONTROLS)
