#!/usr/bin/env python3
"""Shell scripts pass shellcheck; Python files compile."""

import shutil
import subprocess

import tree


def shell_scripts(the_tree):
    found = set(the_tree.interpreted("sh", "bash"))
    for path in the_tree.files:
        # A file that is only sourced names its shell for shellcheck.
        if path.endswith(".sh") or the_tree.text(path).startswith("# shellcheck shell="):
            found.add(path)
    return sorted(found)


def python_files(the_tree):
    found = set(the_tree.interpreted("python3")) | set(the_tree.sources(".py"))
    return sorted(found)


def lint(the_tree):
    scripts = shell_scripts(the_tree)
    if scripts:
        result = subprocess.run(
            ["shellcheck", "--external-sources", "--format=gcc", *scripts],
            cwd=the_tree.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        yield from result.stdout.splitlines()
        if result.returncode and not result.stdout:
            yield f"shellcheck ended with {result.returncode}"
    for path in python_files(the_tree):
        try:
            compile(the_tree.text(path), path, "exec")
        except SyntaxError as error:
            yield f"{path}:{error.lineno}: {error.msg}"


CONTROLS = [
    tree.Control("sound", {"a": "#!/bin/bash\nset -eu\necho a\n", "b.py": "a = 1\n"}, None),
    tree.Control("shell", {"a": "#!/bin/bash\ncd $1\n"}, "a:2:"),
    tree.Control("sourced", {"a": "# shellcheck shell=bash\nrm -rf $a/b\n"}, "a:2:"),
    tree.Control("python", {"a.py": "def a(:\n"}, "a.py:1:"),
    tree.Control("python without ending", {"a": "#!/usr/bin/env python3\nreturn\n"}, "a:2:"),
]

if not shutil.which("shellcheck"):
    raise SystemExit("shellcheck is missing: install the package shellcheck")
tree.run(lint, CONTROLS)
