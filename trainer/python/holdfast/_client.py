"""Joining the supervisor, reporting steps and phases, and asking what it wants.

The supervisor is joined by the first call that needs it and not by the import: a tool that only imports this module
takes no rank's channel away.  One thread uses the module, the main thread, as libholdfast(3) says.
"""

import os
import sys
import threading
from math import isfinite
from struct import Struct
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, SupportsFloat, SupportsIndex, Type, Union

if TYPE_CHECKING:
    from ._library import Library

# enum holdfast_phase
_PHASES = {
    "init": 0,
    "step": 1,
    "train": 1,
    "eval": 2,
    "evaluation": 2,
    "checkpoint": 3,
    "save": 3,
    "restore": 4,
    "other": 5,
}
_SOURCES = ("scratch", "memory", "file")


class Resume(NamedTuple):
    """From where to continue."""

    source: str  # "scratch", "memory" (restore() gives the state) or "file" (load path)
    step: Optional[int]  # the last step that the state contains; None from scratch
    path: Optional[str]  # of the checkpoint for "file", else None
    attempt: int  # from 1; 0 when not supervised


def _nothing(*_: Any) -> None:
    """What _send is before the supervisor is joined."""


# None until joined, and for ever in a process that is not supervised.
_joined: Optional["Library"] = None
_settled = False  # whether joining has been tried
_phase = 0  # the one that libholdfast is in
_stepped = False
# For step(): the report, its address, and functions found beforehand.
_buffer: Any = None
_pack: Callable[..., None] = _nothing
_send: Callable[..., None] = _nothing
_handle: Any = None
_address: Any = None


def warn(text: str) -> None:
    """One line on standard error."""
    print("holdfast: " + text, file=sys.stderr, flush=True)


def _is_worker() -> bool:
    """Whether this is a process that a trainer keeps for its errands, as a data loader does: it is no rank."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and bool(process.current_process().daemon)


def _forget() -> None:
    """In a forked child, which is no rank: whatever it calls returns at once."""
    global _joined, _settled
    _joined, _settled = None, True


def joined() -> Optional["Library"]:
    """The library, joined to the supervisor now if it was not before; None when this process is not supervised."""
    global _joined, _settled
    if _joined is not None or _settled:
        return _joined
    if not os.environ.get("HOLDFAST_CHANNEL") or _is_worker():
        _settled = True
        return None
    if threading.get_native_id() != os.getpid():
        # Not settled: the main thread may still come, and has to be the one.
        return None
    _settled = True
    from . import _library

    try:
        _joined = _library.join()
    except OSError as error:
        warn(f"{error}; going on without supervision: install libholdfast where the loader finds it")
    if _joined is not None:
        os.register_at_fork(after_in_child=_forget)
        _prepare(_joined, _library.REPORT)
    return _joined


def _prepare(library: "Library", report: Struct) -> None:
    """Find beforehand what step() needs each time."""
    global _buffer, _pack, _send, _handle, _address
    import ctypes

    _buffer = ctypes.create_string_buffer(report.size)
    _pack, _send = report.pack_into, library.quick.holdfast_step
    _handle, _address = library.handle, ctypes.c_void_p(ctypes.addressof(_buffer))


def supervised() -> bool:
    """Whether this process is a rank that a supervisor watches."""
    return joined() is not None


def step(
    step: SupportsIndex,
    loss: Optional[SupportsFloat] = None,
    grad_norm: Optional[SupportsFloat] = None,
    learning_rate: Optional[SupportsFloat] = None,
    tokens: Optional[SupportsIndex] = None,
    data_cursor: Optional[SupportsIndex] = None,
    digest: Optional[SupportsIndex] = None,
    compute_ns: Optional[SupportsIndex] = None,
    **metrics: Optional[SupportsFloat],
) -> None:
    """Report a finished iteration: no system call, no wait.

    Across restarts the same step has the same number.  What is None was not measured.  A loss, a gradient norm or
    a metric that is not finite is a fault, and the supervisor goes back to the step before it.
    """
    global _stepped, _phase
    if _joined is None and joined() is None:
        return
    # enum holdfast_field; numbers, because a name would have to be looked up each time.
    fields = 0
    if loss is None:
        loss = 0.0
    else:
        fields = 1
    if grad_norm is None:
        grad_norm = 0.0
    else:
        fields |= 2
    if learning_rate is None:
        learning_rate = 0.0
    else:
        fields |= 4
    if tokens is None:
        tokens = 0
    else:
        fields |= 8
    if data_cursor is None:
        data_cursor = 0
    else:
        fields |= 16
    if digest is None:
        digest = 0
    else:
        fields |= 32
    if compute_ns is None:
        compute_ns = 0
    else:
        fields |= 64
    if metrics and not all(value is None or isfinite(value) for value in metrics.values()):
        fields |= 128
    _pack(_buffer, 0, step, fields, 0, loss, grad_norm, learning_rate, tokens, data_cursor, digest, compute_ns)
    _send(_handle, _address)
    if not _stepped:
        _stepped, _phase = True, 1


class _Phase:
    """Tells the supervisor what the program does, from its making on; at the end of a `with` it is what it was."""

    def __init__(self, number: int) -> None:
        self._before = _phase
        _enter(number)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        # A step that was reported inside ended the initialisation.
        _enter(1 if self._before == 0 and _stepped else self._before)


def _enter(number: int) -> None:
    global _phase
    library = joined()
    if library is not None:
        library.quick.holdfast_phase(library.handle, number)
        _phase = number


def phase(name: str) -> _Phase:
    """Say what the program does now, so that an evaluation is not taken for a stall.

    name is init, step (or train), eval (or evaluation), checkpoint (or save), restore or other.  For a part of the
    program, `with holdfast.phase("eval"):`; from here on, `holdfast.phase("eval")`.
    """
    number = _PHASES.get(name)
    if number is None:
        raise ValueError(f"phase {name!r}: use one of {', '.join(_PHASES)}")
    return _Phase(number)


def resume_from() -> Resume:
    """From where the supervisor wants the program to continue."""
    library = joined()
    if library is None:
        return Resume("scratch", None, None, 0)
    source, attempt, step, path = library.resume_from()
    return Resume(_SOURCES[source], step, None if path is None else os.fsdecode(path), attempt)


def checkpoint_saved(path: Union[str, "os.PathLike[str]"], step: SupportsIndex, shards: int = 1) -> None:
    """Announce a checkpoint that is complete, synced and in its final place and holds the state after `step`.

    shards is the number of files that make the whole; each is announced by the rank that wrote it.  OSError when it
    could not be announced: EAGAIN when the supervisor is far behind; announce it again later.
    """
    library = joined()
    if library is None:
        return
    error = library.quick.holdfast_checkpoint_saved(library.handle, step.__index__(), os.fsencode(path), shards)
    if error != 0:
        raise OSError(-error, os.strerror(-error), os.fspath(path))


def should_stop() -> bool:
    """Whether the supervisor asked the program to save what it needs and to end with status 0; ask after each step."""
    library = joined()
    return library is not None and library.quick.holdfast_should_stop(library.handle) != 0


def should_checkpoint() -> bool:
    """True once for each time that the supervisor asked for a checkpoint now; ask after each step."""
    library = joined()
    return library is not None and library.quick.holdfast_should_checkpoint(library.handle) != 0
