"""What a training program in Python says to its supervisor: holdfast-python(3).

Started by `holdfast run`, a program reports its steps, keeps snapshots of its state in memory that outlives it, and
goes on after a restart from the last of them.  Started by hand, every function returns at once and nothing is loaded.
"""

from ._client import (
    Resume,
    checkpoint_saved,
    phase,
    resume_from,
    should_checkpoint,
    should_stop,
    step,
    supervised,
)
from ._snapshot import Restored, SnapshotError, restore, snapshot

__all__ = [
    "Restored",
    "Resume",
    "SnapshotError",
    "checkpoint_saved",
    "phase",
    "restore",
    "resume_from",
    "should_checkpoint",
    "should_stop",
    "snapshot",
    "step",
    "supervised",
]
