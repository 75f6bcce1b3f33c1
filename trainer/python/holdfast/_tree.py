"""A state as a tree of plain values, and the blobs of bytes that its leaves stand for.

On its way into a snapshot a tree of dicts, lists, tuples and scalars becomes JSON, and every tensor and array in it a
number: that of its blob, whose bytes follow.  On its way back, every blob is a Leaf until place() gives it memory.
Nothing is ever unpickled: what a snapshot holds cannot name code.
"""

import base64
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import _blobs
from ._blobs import Leaf, Spec


class Unsupported(TypeError):
    """Something in a state has no form in a snapshot; the text says where."""


def encode(value: Any, blobs: List[Tuple[Spec, Any]], where: str) -> Any:
    """value as JSON can hold it; appends its tensors and arrays to blobs.  Unsupported for what has no form."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if isinstance(value, dict):
        items: List[Any] = []
        for key, item in value.items():
            items.append(encode(key, blobs, f"a key of {where}"))
            items.append(encode(item, blobs, f"{where}[{key!r}]"))
        return {"dict": items}
    if isinstance(value, (list, tuple)):
        nodes = [encode(item, blobs, f"{where}[{i}]") for i, item in enumerate(value)]
        return nodes if isinstance(value, list) else {"tuple": nodes}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": base64.b64encode(value).decode("ascii")}
    if _blobs.is_blob(value):
        try:
            blobs.append((_blobs.describe(value), value))
        except TypeError as error:
            raise Unsupported(f"{where}: {error}") from None
        return {"blob": len(blobs) - 1}
    if _blobs.is_numpy_scalar(value):
        return encode(value.item(), blobs, where)
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return plain(value)
    raise Unsupported(f"{where} is a {kind.__name__}: a snapshot holds tensors, arrays, numbers, text, bytes and "
                      "None, in dicts, lists and tuples")


def decode(node: Any, specs: List[Spec], leaves: List[Leaf]) -> Any:
    """The tree again, with a Leaf for each blob, which is also appended to leaves.  ValueError when it is damaged."""
    if isinstance(node, list):
        return [decode(item, specs, leaves) for item in node]
    if not isinstance(node, dict):
        return node
    if len(node) != 1:
        raise ValueError("a node of the tree has no one kind")
    ((kind, inner),) = node.items()
    if kind == "dict":
        items = [decode(item, specs, leaves) for item in inner]
        return dict(zip(items[::2], items[1::2]))
    if kind == "tuple":
        return tuple(decode(item, specs, leaves) for item in inner)
    if kind == "bytes":
        return base64.b64decode(inner, validate=True)
    # Blobs are read one after the other, in this order.
    if kind != "blob" or inner != len(leaves) or inner >= len(specs):
        raise ValueError(f"a node of the tree is a {kind} {inner}")
    leaves.append(Leaf(specs[inner]))
    return leaves[-1]


def place(tree: Any, here: Any, make: Optional[Callable[[Leaf], Any]] = None) -> Any:
    """The tree with memory for its leaves: that of the tensor at the same place of `here` where it fits, else new.

    make(leaf)  gives new memory; None: as the leaf was, on the processor's side
    """
    if isinstance(tree, Leaf):
        tree.target = here if _blobs.fits(tree.spec, here) else (make or _blobs.new)(tree)
        return tree.target
    if isinstance(tree, dict):
        known: Dict[Any, Any] = here if isinstance(here, dict) else {}
        return {key: place(item, known.get(key), make) for key, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        beside = here if isinstance(here, (list, tuple)) else ()
        items = [place(item, beside[i] if i < len(beside) else None, make) for i, item in enumerate(tree)]
        return items if isinstance(tree, list) else tuple(items)
    return tree
