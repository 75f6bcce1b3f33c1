#!/usr/bin/env python3
"""The program in libholdfast(3) compiles without a warning and does by hand what it says.

Also: every public function of the header is in the page and in the library's list of symbols, and the shared library
needs nothing but libc.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile

FUNCTION = re.compile(r"\b(holdfast_[a-z_]+)\(")


def page_program(page):
    """The first literal display of the EXAMPLES section, as a reader sees it."""
    examples = page.split(".Sh EXAMPLES\n", 1)[1]
    text = re.search(r"^\.Bd -literal\n(.*?)^\.Ed$", examples, re.MULTILINE | re.DOTALL)[1]
    return text.replace("\\e", "\\")


def run(command, **more):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, timeout=60, **more)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with {result.returncode}:\n{result.stdout}")
    return result.stdout


def declared(header):
    """The functions that the header declares; its comments name others."""
    return set(FUNCTION.findall(re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)))


def different(what, got, wanted):
    if got != wanted:
        raise SystemExit(f"{what}: missing {sorted(wanted - got)}, too many {sorted(got - wanted)}")


def check_names(page, header, symbols):
    wanted = declared(header)
    if len(wanted) < 10:
        raise SystemExit(f"the header declares only {sorted(wanted)}: it was not understood")
    different("libholdfast.map", set(re.findall(r"\bholdfast_[a-z_]+(?=;)", symbols)), wanted)
    different("NAME of the page", set(re.findall(r"^\.Nm (\S+)", page, re.MULTILINE)), wanted)
    synopsis = page.split(".Sh SYNOPSIS\n", 1)[1].split("\n.Sh ", 1)[0]
    different("SYNOPSIS of the page", set(re.findall(r"^\.F[no] (\S+)", synopsis, re.MULTILINE)), wanted)


def check_needed(library):
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run(["readelf", "-d", library]))
    if not needed or [n for n in needed if not n.startswith(("libc.so", "ld-linux"))]:
        raise SystemExit(f"{library} needs {needed}, and should need libc only")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("root", "cc", "library", "static"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--sanitize", default="")
    options = parser.parse_args()

    def text(path):
        with open(os.path.join(options.root, path), encoding="utf-8") as file:
            return file.read()

    page = text("man/libholdfast.3")
    check_names(page, text("trainer/holdfast.h"), text("trainer/libholdfast.map"))
    if not options.sanitize:
        check_needed(options.library)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
    with tempfile.TemporaryDirectory(prefix="holdfast-manual-") as scratch:
        source, program = os.path.join(scratch, "train.c"), os.path.join(scratch, "train")
        with open(source, "w", encoding="utf-8") as file:
            file.write(page_program(page))
        flags = [f"-fsanitize={options.sanitize}"] if options.sanitize else []
        run([options.cc, "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", *flags,
             "-I", os.path.join(options.root, "trainer"), source, "-o", program, options.static, "-pthread"])
        weight, wanted = float(run([program], env=environment)), 0.999 ** 1000
        if abs(weight - wanted) > 1e-12:
            raise SystemExit(f"the program printed {weight}, and {wanted} is what it computes")


sys.exit(main())
