"""The tree as the lints see it, and how a lint is run.

A lint is a function from a Tree to complaints.  Each brings controls: small trees with one thing wrong, in which
the lint must find that thing, and one that is right, in which it must find nothing.  The controls run every time,
before the lint looks at the real tree, so that a lint that has gone blind fails.
"""

import argparse
import os
import subprocess
import sys
import tempfile

SKIPPED_DIRECTORIES = {"build", "holdfast-run", "__pycache__"}


class Tree:
    """The files of a tree that belong to it, by path relative to its root."""

    def __init__(self, root, options=None):
        self.root = os.path.abspath(root)
        self.options = options
        self.files = sorted(self._tracked() or self._walked())

    def _tracked(self):
        """What git tracks and the disk has; nothing where this is no checkout."""
        if not os.path.exists(os.path.join(self.root, ".git")):
            return []
        # The tree may belong to another user than the one who checks it.
        command = ["git", "-c", "safe.directory=*", "-C", self.root, "ls-files", "-z"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        paths = output.decode("utf-8", "surrogateescape").split("\0")
        return [p for p in paths if p and os.path.isfile(os.path.join(self.root, p))]

    def _walked(self):
        for directory, names, files in os.walk(self.root):
            names[:] = [n for n in names if n not in SKIPPED_DIRECTORIES and not n.startswith(".")]
            for name in files:
                yield os.path.relpath(os.path.join(directory, name), self.root)

    def path(self, relative):
        return os.path.join(self.root, relative)

    def sources(self, *endings):
        return [p for p in self.files if p.endswith(endings or (".c", ".h"))]

    def text(self, relative):
        with open(self.path(relative), encoding="utf-8", errors="replace") as file:
            return file.read()

    def lines(self, relative):
        """(number, line) pairs, from 1."""
        return enumerate(self.text(relative).splitlines(), 1)

    def interpreted(self, *programs):
        """Files whose first line names one of these interpreters."""
        for relative in self.files:
            with open(self.path(relative), "rb") as file:
                first = file.readline(200)
            if first.startswith(b"#!") and any(
                    word.rsplit("/", 1)[-1] in programs
                    for word in first[2:].decode("utf-8", "replace").split()):
                yield relative


class Control:
    """A tree that is wrong in one way.  expected: a part of the complaint; None: there must be none."""

    def __init__(self, name, files, expected):
        self.name = name
        self.files = files
        self.expected = expected

    def failure(self, lint, options):
        """Why the lint failed this control, or None."""
        with tempfile.TemporaryDirectory(prefix="holdfast-lint-") as root:
            for relative, text in self.files.items():
                path = os.path.join(root, relative)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            complaints = list(lint(Tree(root, options)))
        if self.expected is None:
            return f"complains of a sound tree: {complaints}" if complaints else None
        if not any(self.expected in c for c in complaints):
            return f"expected a complaint with '{self.expected}', got {complaints}"
        return None


def run(lint, controls, add_options=None):
    """Run a lint's controls, then the lint.  Exits with 0 when all is well, 1 when not, 70 when the lint is blind."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("root", help="the tree to look at")
    if add_options:
        add_options(parser)
    options = parser.parse_args()
    for control in controls:
        failure = control.failure(lint, options)
        if failure:
            print(f"the control '{control.name}' failed: {failure}")
            sys.exit(70)
    count = 0
    for complaint in lint(Tree(options.root, options)):
        print(complaint)
        count += 1
    print(f"{len(controls)} controls passed, {count} complaints")
    sys.exit(1 if count else 0)
