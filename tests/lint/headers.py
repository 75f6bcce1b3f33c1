#!/usr/bin/env python3
"""A header compiles by itself, is guarded by its path, says what it is for, and comments every function."""

import re
import shlex
import subprocess

import tree

# A declaration of a function at the left margin; the name stands before the first parenthesis.
PROTOTYPE = re.compile(
    r"^(?!typedef|static_assert|_Static_assert|struct [^()]*\{)[A-Za-z_][^;{}#=]*?\b(\w+)\([^{}]*\);", re.MULTILINE)


def uncommented(text):
    """(line, name) of prototypes in paragraphs that hold no comment."""
    line = 1
    for paragraph in re.split(r"(\n[ \t]*\n)", text):
        if "/*" not in paragraph:
            for match in PROTOTYPE.finditer(paragraph):
                yield line + paragraph.count("\n", 0, match.start()), match[1]
        line += paragraph.count("\n")


def compile_complaint(the_tree, path):
    """Whether an empty program that includes only this header compiles."""
    command = shlex.split(the_tree.options.compiler) + [
        "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I.", "-x", "c", "-"]
    result = subprocess.run(command, cwd=the_tree.root, input=f'#include "{path}"\n', text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
    if result.returncode:
        return f"{path}: does not compile by itself:\n{result.stdout.rstrip()}"
    return None


def lint(the_tree):
    for path in the_tree.sources(".h"):
        text = the_tree.text(path)
        if not text.lstrip().startswith("/*"):
            yield f"{path}:1: the header does not begin with what it is for"
        if not re.search(r"^#ifndef (\w+)\n#define \1$", text, re.MULTILINE):
            yield f"{path}: no include guard"
        for number, name in uncommented(text):
            yield f"{path}:{number}: {name}() has no comment"
        complaint = compile_complaint(the_tree, path)
        if complaint:
            yield complaint


def header(body, comment="/* A thing. */\n"):
    return f"{comment}#ifndef A_H\n#define A_H\n\n{body}\n\n#endif\n"


CONTROLS = [
    tree.Control("sound", {"a.h": header("/* Does a. */\nint a(int b);\nint c(\n    int d);")}, None),
    tree.Control("sound without functions", {"a.h": header("struct a {\n\tint (*b)(int);\n};")}, None),
    tree.Control("uncommented", {"a.h": header("/* Does a. */\nint a(int b);\n\nint c(\n    int d);")},
                 "a.h:8: c() has no comment"),
    tree.Control("no purpose", {"a.h": header("", "")}, "what it is for"),
    tree.Control("no guard", {"a.h": "/* A thing. */\nstruct a;\n"}, "no include guard"),
    tree.Control("not by itself", {"a.h": header("struct a {\n\tuint32_t b;\n};")}, "does not compile"),
]

tree.run(lint, CONTROLS,
         lambda parser: parser.add_argument("--compiler", default="cc", help="the C compiler, with flags"))
