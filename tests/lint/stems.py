#!/usr/bin/env python3
"""A file's stem names its type, so that a stem means one thing in the whole tree."""

import os

import tree


def lint(the_tree):
    places = {}
    for path in the_tree.sources():
        stem = os.path.splitext(os.path.basename(path))[0]
        # A header and its source in one folder are one thing.  Programs each have their main.
        if stem != "main":
            places.setdefault(stem, set()).add(os.path.dirname(path))
    for stem, directories in sorted(places.items()):
        if len(directories) > 1:
            yield f"{stem}: the stem is used in {' and '.join(sorted(directories))}"


CONTROLS = [
    tree.Control("sound", {"journal/store.h": "", "journal/store.c": "", "trainer/main.c": "",
                           "supervisor/main.c": ""}, None),
    tree.Control("twice", {"journal/store.h": "", "supervisor/store.c": ""}, "store: the stem"),
]

tree.run(lint, CONTROLS)
