#!/usr/bin/env python3
"""The folders are layers and arrows point down only; the policy is pure; a library is used where it belongs."""

import re

import tree

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')

# Who may include what of the tree: the longest prefix that fits the including file counts.
# A file may always include what lies in its own prefix.
LAYERS = {
    "journal/": (),
    # Only what is header-only: libholdfast links nothing of the journal.
    "trainer/": ("journal/record.h", "journal/status.h"),
    # Of the trainer only the layouts of the memory that both sides share, and the ring's producing end, which a
    # helper is for what it reads in a trainer's output.
    "supervisor/": ("journal/", "trainer/channel.h", "trainer/producer.h", "trainer/snapshot.h"),
    "supervisor/progress/": ("journal/record.h", "journal/status.h"),
    "supervisor/policy/": ("journal/record.h", "journal/status.h"),
    "tests/": ("journal/", "trainer/", "supervisor/"),
}

# A pure function knows no file, no clock, no thread and no process.
POLICY_SYSTEM_HEADERS = {
    "assert.h", "float.h", "inttypes.h", "limits.h", "math.h", "stdalign.h", "stdbool.h", "stddef.h", "stdint.h",
    "stdlib.h", "string.h", "xxhash.h",
}

# Where each library may be seen.  The tests may use all of them.
LIBRARIES = {
    # env is what the writer and the reader share.
    "lmdb.h": ("journal/store.c", "journal/reader.c", "journal/env."),
    "libunwind": ("supervisor/evidence/",),
    "event2/": ("supervisor/",),
    "cblas": ("trainer/reference/",),
    "curses": ("supervisor/cli/",),
    "ncurses": ("supervisor/cli/",),
    "cyaml/": ("supervisor/",),
    "jansson.h": ("journal/", "supervisor/"),
    "openssl/": ("journal/", "supervisor/"),
    "pcre2.h": ("supervisor/progress/regex.c",),
    "zstd": ("journal/", "supervisor/"),
}


def layer_of(path):
    fitting = [prefix for prefix in LAYERS if path.startswith(prefix)]
    return max(fitting, key=len) if fitting else None


def complaint_own(files, layer, name):
    """About an include of the tree's own headers."""
    if name not in files:
        return f'"{name}" is not in the tree: includes of the tree are written from its root'
    if name.startswith(layer) or any(
            name.startswith(p) if p.endswith("/") else name == p for p in LAYERS[layer]):
        return None
    return f'"{name}" is above {layer} or not for it'


def complaint_system(path, layer, name):
    """About an include of a header from outside the tree."""
    if layer == "supervisor/policy/" and name not in POLICY_SYSTEM_HEADERS:
        return f"<{name}> does not belong into the pure policy"
    if layer == "tests/":
        return None
    for library, places in LIBRARIES.items():
        if name.startswith(library) and not path.startswith(places):
            return f"<{name}> belongs into {', '.join(places)} only"
    return None


def lint(the_tree):
    files = set(the_tree.files)
    for path in the_tree.sources(".c", ".h", ".cc", ".S"):
        layer = layer_of(path)
        if layer is None:
            yield f"{path}: is in none of the folders that are layers"
            continue
        for number, line in the_tree.lines(path):
            match = INCLUDE.match(line)
            if not match:
                continue
            if match[1] == '"':
                complaint = complaint_own(files, layer, match[2])
            else:
                complaint = complaint_system(path, layer, match[2])
            if complaint:
                yield f"{path}:{number}: {complaint}"


def control(name, path, include, expected):
    files = {"journal/record.h": "\n", "journal/store.h": "\n", "trainer/holdfast.h": "\n",
             "trainer/channel.h": "\n", "supervisor/turn.h": "\n", "supervisor/policy/policy.h": "\n"}
    files[path] = f"#include {include}\n"
    return tree.Control(name, files, expected)


CONTROLS = [
    control("sound", "supervisor/a.c", '"journal/store.h"', None),
    control("sound policy", "supervisor/policy/a.c", '"supervisor/policy/policy.h"', None),
    control("journal to supervisor", "journal/a.c", '"supervisor/turn.h"', "above journal/"),
    control("journal to trainer", "journal/a.h", '"trainer/channel.h"', "above journal/"),
    control("trainer to journal code", "trainer/a.c", '"journal/store.h"', "not for it"),
    control("trainer to supervisor", "trainer/a.c", '"supervisor/turn.h"', "above trainer/"),
    control("supervisor to the public API", "supervisor/a.c", '"trainer/holdfast.h"', "not for it"),
    control("policy to turn", "supervisor/policy/a.c", '"supervisor/turn.h"', "not for it"),
    control("policy to store", "supervisor/policy/a.c", '"journal/store.h"', "not for it"),
    control("policy with a clock", "supervisor/policy/a.c", "<time.h>", "pure policy"),
    control("policy with a process", "supervisor/policy/a.c", "<sys/wait.h>", "pure policy"),
    control("policy with events", "supervisor/policy/a.c", "<event2/event.h>", "pure policy"),
    control("progress to the agent", "supervisor/progress/a.c", '"supervisor/turn.h"', "not for it"),
    control("patterns outside", "supervisor/a.c", "<pcre2.h>", "regex.c"),
    control("LMDB outside", "supervisor/a.c", "<lmdb.h>", "journal/store.c"),
    control("unwinding outside", "supervisor/a.c", "<libunwind-ptrace.h>", "evidence"),
    control("library in the client", "trainer/a.c", "<event2/event.h>", "supervisor/ only"),
    control("not from the root", "journal/a.c", '"record.h"', "from its root"),
    control("spaced", "journal/a.c", '  "supervisor/turn.h"', "above journal/"),
    control("no layer", "extra/a.c", "<stdio.h>", "none of the folders"),
]

tree.run(lint, CONTROLS)
