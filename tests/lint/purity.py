#!/usr/bin/env python3
"""The compiled policy calls nothing but arithmetic and memory: no file, clock, thread or source of chance (H5).

lint.layers sees what the policy includes; this sees what it calls, also through a header that includes another.
"""

import os
import re
import shlex
import subprocess

import tree

# malloc's family is for policy_new() and policy_free().
ALLOWED = re.compile(
    r"^(policy_\w+|malloc|calloc|free|aligned_alloc|mem(cpy|move|set|cmp|chr)|str(len|cmp|ncmp|nlen)|qsort|"
    r"fabsf?|sqrtf?|fm(ax|in)f?|floor|ceil|isnanf?|__isnan|__isinf|__finite|"
    r"XXH\w+|"
    # What the compiler itself calls: asserts, hardening, position-independent code.
    r"__assert_fail|__stack_chk_fail|__(mem(cpy|move|set)|str\w+)_chk|_GLOBAL_OFFSET_TABLE_)$")


def undefined(path):
    """(object, symbol) pairs that an object or an archive leaves to others; its own are not counted."""
    output = subprocess.run(["nm", "--format=posix", "-A", path], check=True, stdout=subprocess.PIPE, text=True).stdout
    defined, wanted = set(), []
    for line in output.splitlines():
        place, symbol, kind = line.split()[:3]
        if kind in "Uw":
            wanted.append((place.rstrip(":").rsplit("/", 1)[-1], symbol))
        else:
            defined.add(symbol)
    return [(place, symbol) for place, symbol in wanted if symbol not in defined]


def lint(the_tree):
    path = the_tree.options.library
    if os.path.exists(the_tree.path("control.c")):
        path = the_tree.path("control.o")
        subprocess.run([*shlex.split(the_tree.options.compiler), "-c", "-O1", the_tree.path("control.c"), "-o", path],
                       check=True)
    for place, symbol in undefined(path):
        if not ALLOWED.match(symbol):
            yield f"{place}: calls {symbol}"


def add_options(parser):
    parser.add_argument("--library", required=True, help="the policy's static library")
    parser.add_argument("--compiler", default="cc", help="the C compiler, for the controls")


def control(name, body, expected):
    text = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <time.h>\n" + body
    return tree.Control(name, {"control.c": text}, expected)


CONTROLS = [
    control("sound", "void *a(void *b)\n{\n\treturn memcpy(malloc(100000), b, 100000);\n}\n", None),
    control("clock", "long a(void)\n{\n\tstruct timespec t;\n\tclock_gettime(CLOCK_MONOTONIC, &t);\n"
                     "\treturn t.tv_sec;\n}\n", "calls clock_gettime"),
    control("chance", "int a(void)\n{\n\treturn rand();\n}\n", "calls rand"),
    control("output", "void a(void)\n{\n\tputs(\"a\");\n}\n", "calls puts"),
    control("environment", "char *a(void)\n{\n\treturn getenv(\"A\");\n}\n", "calls getenv"),
]

tree.run(lint, CONTROLS, add_options)
