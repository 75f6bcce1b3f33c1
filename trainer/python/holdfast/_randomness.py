"""The states of the random number generators that a program uses, as a tree."""

import importlib
import random
import sys
from typing import Any, Dict


def capture() -> Dict[str, Any]:
    """The state of each generator whose module the program has imported."""
    version, words, gauss = random.getstate()
    states: Dict[str, Any] = {"python": [version, b"".join(word.to_bytes(4, "little") for word in words), gauss]}
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and hasattr(numpy, "random"):
        states["numpy"] = numpy.random.get_state(legacy=False)
    if torch is not None:
        states["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def apply(states: Dict[str, Any]) -> None:
    """Go on with these numbers."""
    version, packed, gauss = states["python"]
    words = tuple(int.from_bytes(packed[i : i + 4], "little") for i in range(0, len(packed), 4))
    random.setstate((version, words, gauss))
    if "numpy" in states:
        importlib.import_module("numpy").random.set_state(states["numpy"])
    torch = sys.modules.get("torch")
    if torch is not None and "torch" in states:
        torch.set_rng_state(states["torch"])
        if "cuda" in states:
            torch.cuda.set_rng_state_all(states["cuda"])
