#!/usr/bin/env python3
"""The example of libholdfast(3), as it stands on the page: it compiles without a warning, and runs.

usage: example.py PAGE INCLUDE_DIRECTORY LIBRARY COMPILER [OPTION...]
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile


def program_of(page):
    """The displays of the page that include the header, as a reader sees them."""
    blocks = re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed$", page, re.M | re.S)
    found = [block for block in blocks if "#include <holdfast.h>" in block]
    if len(found) != 1:
        sys.exit(f"{len(found)} examples on the page")
    return found[0].replace("\\e", "\\").replace("\\-", "-").replace("\\&", "")


def main():
    page, include, library, *compiler = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="holdfast-unit-example-") as folder:
        source = pathlib.Path(folder, "train.c")
        program = pathlib.Path(folder, "train")
        source.write_text(program_of(pathlib.Path(page).read_text()))
        command = [*compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{include}"]
        subprocess.run([*command, str(source), "-o", str(program), library, "-pthread"], check=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
        run = subprocess.run([program], check=True, capture_output=True, text=True, env=environment, timeout=30)
    weight = 1.0
    for _ in range(1000):
        weight *= 0.999
    if run.stderr or float(run.stdout) != weight:
        sys.exit(f"said {run.stderr!r}, printed {run.stdout!r}, not {weight!r}")


if __name__ == "__main__":
    main()
