#!/usr/bin/env python3
"""Functions and flags that the programs and the library do without.  The tests may use what they need."""

import re

import tree

FORBIDDEN = {
    "no bound": "sprintf vsprintf strcpy strcat stpcpy gets alloca scanf vscanf",
    "no way to tell that it failed": "atoi atol atoll atof",
    "state shared by the whole process": "strtok rand srand asctime ctime gmtime localtime",
    "a shell, with the environment it finds": "system popen",
    "a wait for a time instead of for an event": "sleep usleep",
    "a name that somebody else may take first": "tmpnam tempnam mktemp",
}
CALL = re.compile(r"(?<![\w.>])(" + "|".join(" ".join(FORBIDDEN.values()).split()) + r")\s*\(")
REASON = {name: reason for reason, names in FORBIDDEN.items() for name in names.split()}
# What is committed has to be on the disk, and a stray pointer must not reach it.
UNSAFE_LMDB = re.compile(r"\bMDB_(NOSYNC|NOMETASYNC|MAPASYNC|WRITEMAP)\b")
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"', re.DOTALL)


def code_of(text):
    """The text with comments and strings blanked, line by line as before."""
    return NOT_CODE.sub(lambda match: "\n" * match[0].count("\n"), text)


def lint(the_tree):
    for path in the_tree.sources():
        if path.startswith("tests/"):
            continue
        for number, line in enumerate(code_of(the_tree.text(path)).split("\n"), 1):
            match = CALL.search(line)
            if match:
                yield f"{path}:{number}: {match[1]}(): {REASON[match[1]]}"
            match = UNSAFE_LMDB.search(line)
            if match:
                yield f"{path}:{number}: {match[0]}: a commit would not be durable (H2)"


CONTROLS = [
    tree.Control("sound", {"journal/a.c": '/* no system() here\n * nor MDB_NOSYNC */\nint b = f("atoi(x)");\n'
                                          "int c = my_system(1) + p->system(2) + d.system(1);\n",
                           "tests/a.c": "int b = atoi(x);\n"}, None),
    tree.Control("unchecked number", {"supervisor/a.c": "/* a\n b */\nint b = atoi(x);\n"}, "supervisor/a.c:3: atoi()"),
    tree.Control("shell", {"trainer/a.c": "\tsystem (x);\n"}, "trainer/a.c:1: system()"),
    tree.Control("wait", {"trainer/a.c": "\tif (x) usleep(10);\n"}, "usleep()"),
    tree.Control("not durable", {"journal/a.c": "int f = MDB_NOSUBDIR | MDB_NOSYNC;\n"}, "MDB_NOSYNC"),
]

tree.run(lint, CONTROLS)
