"""Snapshots of a training's state in memory that outlives the process, and their way back.

A snapshot's bytes: "HFSTATE1", the length of the header (8 bytes, little-endian), the header as JSON in ASCII, then the
bytes of its blobs, one after the other.  The header's members are "blobs", what describes each blob, and "tree", the
state (_tree.py).  libholdfast keeps them, digests them and verifies them before they are given back.
"""

import errno
import functools
import os
import sys
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Set, Tuple

from . import _client

if TYPE_CHECKING:
    from ._blobs import Leaf, Spec
    from ._library import Library

_MAGIC = b"HFSTATE1"
_SLOTS = 3  # snapshots that are kept of each rank


class SnapshotError(RuntimeError):
    """A snapshot cannot be given back to this program: it is another's, or cannot be read."""


class Restored(NamedTuple):
    """What restore() found besides the state of the model and of the optimizer."""

    step: int  # the last step that the state contains
    extra: Any  # as it was given to snapshot()


_warned: Set[int] = set()  # errors of snapshots that were said
_full = False  # there is no memory for snapshots: nothing more is tried


def _state_of(thing: Any) -> Any:
    return None if thing is None else thing.state_dict()


def snapshot(model: Any, optimizer: Any = None, *, step: int, extra: Any = None) -> bool:
    """Save the state after `step` into memory that outlives the process; call it right after step().

    model, optimizer  objects with state_dict() and load_state_dict(), or None.
    extra             what else the training depends on (position in the data, a scheduler's state): tensors, arrays,
                      numbers, text, bytes and None in dicts, lists and tuples.
    Also saved are the states of the random numbers of Python, and of numpy and torch where they are imported.

    Returns whether the snapshot was saved.  It is not without a supervisor, after a loss that is not finite, and
    where there is no memory for it, which is said once on standard error.  TypeError for a state of another kind.
    """
    library = _client.joined()
    if library is None or _full:
        return False
    import json

    from . import _randomness, _tree

    blobs: List[Tuple[Spec, Any]] = []
    state = {
        "step": step,
        "model": _state_of(model),
        "optimizer": _state_of(optimizer),
        "extra": extra,
        "random": _randomness.capture(),
    }
    tree = {name: _tree.encode(part, blobs, name) for name, part in state.items()}
    specs = [spec for spec, _ in blobs]
    header = json.dumps({"tree": tree, "blobs": specs}, separators=(",", ":")).encode("ascii")
    head = _MAGIC + len(header).to_bytes(8, "little") + header
    size = len(head) + sum(spec.size_bytes for spec in specs)
    error = _save(library, step, size, head, [blob for _, blob in blobs])
    if error != 0:
        _say(-error, step, size)
    return error == 0


def _save(library: "Library", step: int, size: int, head: bytes, blobs: List[Any]) -> int:
    """0 or a negative errno."""
    from . import _blobs

    calls, handle = library.slow, library.handle
    error: int = calls.holdfast_snapshot_begin(handle, step, size)
    if error != 0:
        return error

    def put(address: Any, size_bytes: int) -> None:
        # What fails shows at the commit: the pieces do not add up then.
        calls.holdfast_snapshot_write(handle, address, size_bytes)

    put(head, len(head))
    for blob in blobs:
        _blobs.write(blob, put)
    result: int = calls.holdfast_snapshot_commit(handle)
    return result


def _say(error: int, step: int, size: int) -> None:
    """Once, in one line, why there are no snapshots."""
    global _full
    _full = error == errno.ENOSPC
    # A loss that is not finite is the supervisor's business; a forked child has no snapshots.
    if error in (errno.EDOM, errno.ENOTCONN) or error in _warned:
        return
    _warned.add(error)
    if not _full:
        _client.warn(f"step {step} is in no snapshot: {os.strerror(error)}")
        return
    directory = os.path.dirname(os.environ["HOLDFAST_CHANNEL"])
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    _client.warn(
        f"no memory for snapshots: {directory} needs {_SLOTS} x {_readable(size)} for each of {ranks} ranks, "
        f"{_readable(_SLOTS * size * ranks)} in all, and has {_readable(_free_bytes(directory))} free: enlarge it, or "
        "name another with --shm-dir; going on with checkpoint files"
    )


def _free_bytes(directory: str) -> int:
    try:
        found = os.statvfs(directory)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def _readable(size: int) -> str:
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.4g} {unit}"
        amount /= 1024
    return f"{amount:.4g} TiB"


def restore(model: Any, optimizer: Any = None) -> Optional[Restored]:
    """Bring the model and the optimizer, in place, to the state of the snapshot from which the supervisor wants the
    program to continue, and the random numbers with them.  Call it when both are made, before the first step.

    None when there is no snapshot to continue from: resume_from() says whether a checkpoint is to be loaded.
    SnapshotError when the snapshot is not of such a model and optimizer, or cannot be read; let the program end then,
    and the supervisor chooses another.
    """
    resume = _client.resume_from()
    library = _client.joined()
    if library is None or resume.source != "memory" or resume.step is None:
        return None
    size = library.restore_begin(resume.step)
    if size < 0:
        raise SnapshotError(f"the snapshot of step {resume.step} cannot be read: {os.strerror(-size)}")
    try:
        state = _give_back(_Reader(library, size), model, optimizer)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise SnapshotError(f"the snapshot of step {resume.step} is not of this program: {error}") from error
    finally:
        library.quick.holdfast_restore_end(library.handle)
    return Restored(resume.step, state["extra"])


class _Reader:
    """The bytes of a snapshot, from the first to the last."""

    def __init__(self, library: "Library", size: int) -> None:
        self.library = library
        self.left = size

    def get(self, address: int, size_bytes: int) -> None:
        error = self.library.slow.holdfast_restore_read(self.library.handle, address, size_bytes)
        if error != 0:
            raise SnapshotError(f"the snapshot cannot be read: {os.strerror(-error)}")
        self.left -= size_bytes

    def bytes(self, count: int) -> bytes:
        import ctypes

        if count > self.left:
            raise ValueError("it ends too early")
        buffer = ctypes.create_string_buffer(count)
        self.get(ctypes.addressof(buffer), count)
        return buffer.raw


def _read_head(reader: _Reader) -> Tuple[Any, List["Leaf"]]:
    """The tree, and its leaves in the order in which their bytes follow."""
    import json

    from . import _tree
    from ._blobs import Leaf, Spec

    if reader.bytes(len(_MAGIC)) != _MAGIC:
        raise ValueError("it was made without this module, or with another version of it")
    header = json.loads(reader.bytes(int.from_bytes(reader.bytes(8), "little")))
    specs = [Spec(kind, dtype, tuple(shape), device, size) for kind, dtype, shape, device, size in header["blobs"]]
    if sum(spec.size_bytes for spec in specs) != reader.left:
        raise ValueError("its length is not that of its parts")
    leaves: List[Leaf] = []
    return {name: _tree.decode(node, specs, leaves) for name, node in header["tree"].items()}, leaves


def _give_back(reader: _Reader, model: Any, optimizer: Any) -> Dict[str, Any]:
    """Read a snapshot.  Nothing of the program is changed before it is clear that all of it fits."""
    from . import _blobs, _randomness, _tree

    tree, leaves = _read_head(reader)
    for name, thing in (("model", model), ("optimizer", optimizer)):
        if (tree[name] is None) != (thing is None):
            raise ValueError(f"it was made {'without' if thing is not None else 'with'} the {name}'s state")
    finish = []
    if model is not None:
        finish.append(_place_model(tree["model"], model))
    if optimizer is not None:
        finish.append(_place_optimizer(tree["optimizer"], optimizer))
    rest: Dict[str, Any] = {name: _tree.place(tree[name], None) for name in ("extra", "random")}
    for leaf in leaves:
        if leaf.target is None or _blobs.describe(leaf.target).size_bytes != leaf.spec.size_bytes:
            raise ValueError("the bytes of a tensor are not as many as its shape says")
    for leaf in leaves:
        _blobs.read(leaf, reader.get)
    for load in finish:
        load()
    _randomness.apply(rest["random"])
    return rest


def _place_model(saved: Dict[str, Any], model: Any) -> Any:
    """Where the values of a model go.  Returns what is to be called when they are there."""
    from . import _blobs, _tree

    here = model.state_dict()
    for name in sorted(set(saved) ^ set(here)):
        raise ValueError(f"{name} is only in the {'snapshot' if name in saved else 'model'}")
    for name, value in saved.items():
        if isinstance(value, _blobs.Leaf) and not _blobs.fits(value.spec, here[name]):
            raise ValueError(f"{name} is {value.spec.dtype} of shape {value.spec.shape} on {value.spec.device} there")
    placed = _tree.place(saved, here)
    # A model that makes its state for the asking, or has more than tensors in it, has to be told of the values.
    own = {_blobs.place_of(tensor) for what in ("parameters", "buffers") for tensor in getattr(model, what, list)()}
    if all(_blobs.is_blob(value) and _blobs.place_of(value) in own for value in placed.values()):
        return lambda: None
    return lambda: model.load_state_dict(placed)


def _place_optimizer(saved: Dict[str, Any], optimizer: Any) -> Any:
    """Where the values of an optimizer go.  Returns what is to be called when they are there.

    torch's own load_state_dict() copies what it is given and changes the type of some of it, so that it is used for
    what is not the state of a parameter only.
    """
    from . import _blobs, _tree

    torch = sys.modules.get("torch")
    plain = torch is not None and isinstance(optimizer, torch.optim.Optimizer)
    if torch is None or not plain or type(optimizer).load_state_dict is not torch.optim.Optimizer.load_state_dict:
        placed = _tree.place(saved, optimizer.state_dict())
        return lambda: optimizer.load_state_dict(placed)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    if len(numbers) != len(parameters):
        raise ValueError(f"its optimizer has {len(numbers)} parameters, this one has {len(parameters)}")
    groups = _tree.place(saved["param_groups"], None)
    states = {}
    for number, parameter in zip(numbers, parameters):
        if number in saved["state"]:
            states[parameter] = _tree.place(
                saved["state"].pop(number),
                optimizer.state.get(parameter),
                functools.partial(_blobs.new_like, parameter),
            )
    others = _tree.place(saved["state"], None)

    def load() -> None:
        optimizer.load_state_dict({"state": others, "param_groups": groups})
        optimizer.state.update(states)

    return load
