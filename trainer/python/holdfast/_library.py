"""libholdfast as ctypes sees it: loaded once, when a supervised program makes its first call."""

import ctypes
import os
import struct
from typing import Any, NamedTuple, Optional, Tuple

NAME = "libholdfast.so.1"
STEP_NONE = 2**64 - 1

# struct holdfast_step: step, fields, reserved, loss, grad_norm, learning_rate, tokens, data_cursor, digest, compute_ns
REPORT = struct.Struct("=QIIdddQQQQ")


class _Resume(ctypes.Structure):
    """struct holdfast_resume"""

    _fields_ = [
        ("source", ctypes.c_uint32),
        ("attempt", ctypes.c_uint32),
        ("step", ctypes.c_uint64),
        ("path", ctypes.c_char_p),
    ]


class Library(NamedTuple):
    """The two views of libholdfast, and the handle of this process, which every call takes."""

    quick: Any  # calls that return at once: the interpreter's lock is kept
    slow: Any  # calls that copy: other threads may go on
    handle: ctypes.c_void_p

    def resume_from(self) -> Tuple[int, int, Optional[int], Optional[bytes]]:
        """Source, attempt, step and path of struct holdfast_resume."""
        out = _Resume()
        self.quick.holdfast_resume_from(self.handle, ctypes.byref(out))
        return out.source, out.attempt, None if out.step == STEP_NONE else out.step, out.path

    def restore_begin(self, step: int) -> int:
        """The size of the snapshot, or a negative errno."""
        size = ctypes.c_uint64()
        error = self.slow.holdfast_restore_begin(self.handle, step, ctypes.byref(size))
        return error if error != 0 else size.value


def _load(kind: Any) -> Any:
    """The library that was installed with this package, else the one that the system's loader finds."""
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), NAME)
    return kind(beside if os.path.exists(beside) else NAME)


def _declare(library: Any) -> None:
    u32, u64, pointer, size = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t
    for name, result, arguments in (
        ("open", pointer, []),
        ("resume_from", None, [pointer, pointer]),
        ("phase", None, [pointer, ctypes.c_int]),
        ("should_stop", ctypes.c_int, [pointer]),
        ("should_checkpoint", ctypes.c_int, [pointer]),
        ("checkpoint_saved", ctypes.c_int, [pointer, u64, ctypes.c_char_p, u32]),
        ("snapshot_begin", ctypes.c_int, [pointer, u64, u64]),
        ("snapshot_write", ctypes.c_int, [pointer, pointer, size]),
        ("snapshot_commit", ctypes.c_int, [pointer]),
        ("restore_begin", ctypes.c_int, [pointer, u64, pointer]),
        ("restore_read", ctypes.c_int, [pointer, pointer, size]),
        ("restore_end", ctypes.c_int, [pointer]),
    ):
        function = getattr(library, "holdfast_" + name)
        function.restype = result
        function.argtypes = arguments
    # Without argtypes: what step() gives is converted beforehand, once.
    library.holdfast_step.restype = None


def join() -> Optional[Library]:
    """Load libholdfast and join the supervisor.  None when the channel is not for this process; OSError without
    the library."""
    quick, slow = _load(ctypes.PyDLL), _load(ctypes.CDLL)
    for view in (quick, slow):
        _declare(view)
    handle = quick.holdfast_open()
    return Library(quick, slow, ctypes.c_void_p(handle)) if handle else None
