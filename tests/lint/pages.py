#!/usr/bin/env python3
"""Manual pages are clean mdoc, have the sections of their kind, and name the options that --help names."""

import re
import shlex
import shutil
import subprocess

import tree

PAGE = re.compile(r"^man/([a-z][a-z0-9-]*)\.([1-9])$")
SECTIONS = {
    "1": ("NAME", "SYNOPSIS", "DESCRIPTION", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"),
    "3": ("NAME", "SYNOPSIS", "DESCRIPTION", "RETURN VALUES", "EXAMPLES", "SEE ALSO"),
    "5": ("NAME", "DESCRIPTION", "SEE ALSO"),
    "7": ("NAME", "DESCRIPTION", "SEE ALSO"),
}
# An option stands at the beginning of a line of --help, or after the comma that follows its short form.
HELP_LINE = re.compile(r"^\s+(-.*)$", re.MULTILINE)
HELP_OPTION = re.compile(r"(?:^|, )(--?[A-Za-z0-9][\w-]*)")


def page_options(text):
    """Options that have an entry of their own: .It Fl n Ar N , Fl -ranks Ar N"""
    found = set()
    for line in re.findall(r"^\.It (.*)$", text, re.MULTILINE):
        words = line.split()
        for word, following in zip(words, words[1:]):
            if word == "Fl":
                found.add("-" + following.replace("\\-", "-").strip(",="))
    return found


def help_options(text):
    found = set()
    for line in HELP_LINE.findall(text):
        # The description is set off by two spaces or more.
        found.update(HELP_OPTION.findall(re.split(r"\s{2,}", line)[0]))
    return found


def help_of(name, programs):
    """(what was asked, exit status, answer) for the page of that name, or None while there is no such program."""
    if name in programs:
        program, arguments = name, ["--help"]
    elif name.split("-", 1)[0] in programs:
        program, subcommand = name.split("-", 1)
        arguments = [subcommand, "--help"]
    else:
        return None
    result = subprocess.run([*shlex.split(programs[program]), *arguments], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, text=True, errors="replace")
    return " ".join([program, *arguments]), result.returncode, result.stdout


def complaints_of_options(path, text, name, programs):
    answer = help_of(name, programs)
    if answer is None:
        print(f"{path}: options not compared: there is no program for this page")
        return
    shown, status, output = answer
    if status != 0:
        yield f"{path}: '{shown}' ended with {status}: {output.strip()[:200]}"
        return
    in_page, in_help = page_options(text), help_options(output)
    # Every program has these, and holdfast(1) describes them once.
    in_help -= {"-h", "--help", "--version"}
    in_page -= {"-h", "--help", "--version"}
    for option in sorted(in_help - in_page):
        yield f"{path}: {option} is in '{shown}' and not in the page"
    for option in sorted(in_page - in_help):
        yield f"{path}: {option} is in the page and not in '{shown}'"


def complaints_of_subcommands(the_tree, programs):
    """Each subcommand that `holdfast --help` lists has a page."""
    if "holdfast" not in programs:
        return
    output = help_of("holdfast", programs)[2]
    for subcommand in re.findall(r"^  ([a-z][a-z-]*) +\S", output, re.MULTILINE):
        if f"man/holdfast-{subcommand}.1" not in the_tree.files:
            yield f"man/holdfast-{subcommand}.1: the subcommand has no page"


def lint(the_tree):
    # A control brings its own.
    programs = getattr(the_tree, "programs", None)
    if programs is None:
        programs = dict(pair.split("=", 1) for pair in the_tree.options.program)
    for path in the_tree.files:
        match = PAGE.match(path)
        if not match:
            if path.startswith("man/") and not path.endswith("CMakeLists.txt"):
                yield f"{path}: a manual page is man/NAME.SECTION"
            continue
        text = the_tree.text(path)
        result = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", path], cwd=the_tree.root, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
        yield from result.stdout.splitlines()
        if result.returncode and not result.stdout:
            yield f"{path}: mandoc ended with {result.returncode}"
        sections = re.findall(r'^\.Sh "?(.*?)"?$', text, re.MULTILINE)
        for section in SECTIONS.get(match[2], ()):
            if section not in sections:
                yield f"{path}: there is no section {section}"
        if match[2] in ("1", "8"):
            yield from complaints_of_options(path, text, match[1], programs)
    if any(PAGE.match(path) for path in the_tree.files):
        yield from complaints_of_subcommands(the_tree, programs)


def add_options(parser):
    parser.add_argument("--program", action="append", default=[], metavar="NAME=PATH",
                        help="a program whose --help is compared with its pages")


def page(name="a", sections=SECTIONS["1"], body=".Bl -tag -width Ds\n.It Fl n Ar N , Fl -number Ar N\nHow many.\n.El"):
    text = f".Dd January 1, 2026\n.Dt {name.upper()} 1\n.Os\n"
    for section in sections:
        inside = {"NAME": f".Nm {name}\n.Nd a thing", "SYNOPSIS": f".Nm {name}\n.Op Fl n Ar N", "DESCRIPTION": body,
                  "SEE ALSO": ".Xr cat 1"}.get(section, "Words.")
        text += f".Sh {section}\n{inside}\n"
    return text


class PageControl(tree.Control):
    """A page beside a program that prints a help text whatever it is asked."""

    def __init__(self, name, text, help_text, expected):
        script = f"cat <<'E'\n{help_text}\nE\n"
        super().__init__(name, {"man/a.1": text, "program": script}, expected)

    def failure(self, lint, options):
        def with_program(the_tree):
            the_tree.programs = {"a": "sh " + shlex.quote(the_tree.path("program"))}
            return lint(the_tree)
        return super().failure(with_program, options)


USAGE = "usage: a [-n N]\n\n  -n, --number N   how many, not --none"
CONTROLS = [
    PageControl("sound", page(), USAGE, None),
    PageControl("only in help", page(), USAGE + "\n      --more       more", "--more is in"),
    PageControl("only in page", page(), "usage: a\n\n  -n N   how many", "--number is in the page"),
    PageControl("no section", page(sections=SECTIONS["1"][:-2] + ("SEE ALSO",)), USAGE, "no section EXAMPLES"),
    PageControl("bad mdoc", page(body=".It loose"), USAGE, "man/a.1:"),
]

if not shutil.which("mandoc"):
    raise SystemExit("mandoc is missing: install the package mandoc")
tree.run(lint, CONTROLS, add_options)
