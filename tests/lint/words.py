#!/usr/bin/env python3
"""What no file may hold: unfinished work, one machine's paths, a waiver without its reason, stray white space."""

import re

import tree

# Put together here, so that this file does not complain of itself.
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" "DO", "FIX" "ME", "X" "XX", "HA" "CK"]) + r")\b")
MACHINE = re.compile(r"(?<![\w.$}])(" + "|".join(["/wo" "rk/", "/ro" "ot/", "/fa" "rm/", "/tmp/bu" "ild-"]) + ")")
NOLINT = re.compile(r"NOLINT(?:NEXTLINE|BEGIN|END)?\b(.*)")
NOLINT_WITH_REASON = re.compile(r"\(([a-z][\w.-]*)(, ?[a-z][\w.-]*)*\): \w.{8,}")
UNFORMATTED = re.compile(r"clang-" r"format off")

# Texts that are not ours to change.
FOREIGN = ("LICENSE",)


def is_text(path, content):
    return "\0" not in content and path not in FOREIGN


def waiver_complaint(path, line, line_before):
    is_code = path.endswith((".c", ".h", ".cc"))
    match = NOLINT.search(line)
    if is_code and match and not NOLINT_WITH_REASON.match(match[1]):
        return "a waiver is NOLINT(check): and the reason, on one line"
    if is_code and UNFORMATTED.search(line) and "/*" not in line_before:
        return "the comment before this one has to say why this is not formatted"
    if line.lstrip().startswith("# shellcheck disable=") and not line_before.strip().startswith("#"):
        return "the comment line before has to say why this is waived"
    return None


def lint(the_tree):
    for path in the_tree.files:
        content = the_tree.text(path)
        if not is_text(path, content):
            continue
        before = ""
        for number, line in enumerate(content.split("\n"), 1):
            for pattern, what in ((UNFINISHED, "unfinished work"), (MACHINE, "a path of one machine")):
                match = pattern.search(line)
                if match:
                    yield f"{path}:{number}: {what}: {match[1]}"
            complaint = waiver_complaint(path, line, before)
            if complaint:
                yield f"{path}:{number}: {complaint}"
            if line != line.rstrip():
                yield f"{path}:{number}: white space at the end of the line"
            before = line
        if content and not content.endswith("\n"):
            yield f"{path}: the last line does not end"


CONTROLS = [
    tree.Control("sound", {"a.c": "int a; /* NOL" "INT(misc-x): the field is the kernel's name */\n",
                           "a.sh": "mktemp /tmp/a.XXXXXX\n"}, None),
    tree.Control("unfinished", {"a.c": "/* TO" "DO: more */\n"}, "a.c:1: unfinished"),
    tree.Control("unfinished page", {"man/a.1": "a\n.\\\" FIX" "ME\n"}, "man/a.1:2: unfinished"),
    tree.Control("machine", {"a.sh": "cd /ro" "ot/x\n"}, "a.sh:1: a path"),
    tree.Control("waiver of everything", {"a.c": "int a; /* NOL" "INT */\n"}, "a.c:1: a waiver"),
    tree.Control("waiver without reason", {"a.c": "int a; /* NOL" "INT(misc-x) */\n"}, "a.c:1: a waiver"),
    tree.Control("unformatted", {"a.c": "int a;\n/* clang-" "format off */\n"}, "a.c:2: the comment"),
    tree.Control("shell waiver", {"a.sh": "a=1\n# shell" "check disable=SC1\n"}, "a.sh:2: the comment"),
    tree.Control("white space", {"a.c": "int a; \n"}, "a.c:1: white"),
    tree.Control("torn end", {"a.c": "int a;"}, "does not end"),
]

tree.run(lint, CONTROLS)
