"""The bytes of tensors and arrays: what describes them, and how they go into and out of a snapshot.

A tensor in the processor's memory that lies there in one piece is copied straight from there to there.  Others (on a
device, with strides) pass through a buffer of at most CHUNK_BYTES, so that no state is ever held twice.
torch and numpy are used when the program has imported them, and are never imported for its sake.
"""

import importlib
import sys
from typing import Any, Callable, Iterator, NamedTuple, Tuple

CHUNK_BYTES = 8 << 20

# put or get(address, size_bytes): what moves bytes into or out of the snapshot.
Mover = Callable[[int, int], None]


class Spec(NamedTuple):
    """What is known of a blob besides its bytes."""

    kind: str  # "torch" or "numpy"
    dtype: str
    shape: Tuple[int, ...]
    device: str  # kind of the device where it was
    size_bytes: int


class Leaf:
    """A blob of a snapshot on its way back.  target is the tensor or array that gets its bytes."""

    __slots__ = ("spec", "target")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.target: Any = None


def _torch() -> Any:
    return sys.modules.get("torch")


def _numpy() -> Any:
    return sys.modules.get("numpy")


def _is_tensor(value: Any) -> bool:
    torch = _torch()
    return torch is not None and isinstance(value, torch.Tensor)


def _is_array(value: Any) -> bool:
    numpy = _numpy()
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_blob(value: Any) -> bool:
    """Whether value is a tensor or an array of numbers."""
    return _is_tensor(value) or (_is_array(value) and value.dtype.kind in "biufc")


def is_numpy_scalar(value: Any) -> bool:
    """Whether value is one number of numpy's own."""
    numpy = _numpy()
    return numpy is not None and isinstance(value, numpy.generic)


def local(value: Any) -> Any:
    """The part of a distributed tensor that this rank holds; anything else as it is."""
    return value.to_local() if _is_tensor(value) and hasattr(value, "to_local") else value


def place_of(value: Any) -> int:
    """Where the bytes of a tensor or an array lie."""
    value = local(value)
    return int(value.data_ptr() if _is_tensor(value) else value.ctypes.data)


def describe(value: Any) -> Spec:
    """TypeError for a tensor that has no bytes of its own: sparse, quantized, on no device."""
    value = local(value)
    if not _is_tensor(value):
        return Spec("numpy", value.dtype.str, value.shape, "cpu", value.nbytes)
    if value.layout is not _torch().strided or value.is_quantized or value.device.type == "meta":
        raise TypeError(f"a tensor of layout {value.layout}, {value.dtype}, on {value.device} cannot be saved")
    dtype = str(value.dtype).rsplit(".", 1)[-1]
    return Spec("torch", dtype, tuple(value.shape), value.device.type, value.numel() * value.element_size())


def fits(spec: Spec, value: Any) -> bool:
    """Whether the bytes of such a blob can be put into value."""
    if not is_blob(value):
        return False
    own = describe(value)
    return (own.kind, own.dtype, own.shape) == (spec.kind, spec.dtype, spec.shape)


def _dtype(spec: Spec) -> Any:
    dtype = getattr(_torch(), spec.dtype, None)
    if _torch() is None or not isinstance(dtype, _torch().dtype):
        raise ValueError(f"a tensor of type {spec.dtype}, which this torch does not have")
    return dtype


def new(leaf: Leaf) -> Any:
    """New memory for a blob, on the processor's side."""
    spec = leaf.spec
    if spec.kind == "torch":
        return _torch().empty(spec.shape, dtype=_dtype(spec))
    numpy = importlib.import_module("numpy")
    return numpy.empty(spec.shape, dtype=numpy.dtype(spec.dtype))


def new_like(parameter: Any, leaf: Leaf) -> Any:
    """New memory for a value that an optimizer keeps for a parameter: where and how the parameter lies."""
    spec = leaf.spec
    device = "cpu" if spec.device == "cpu" else parameter.device
    if spec.kind == "torch" and spec.shape == tuple(local(parameter).shape):
        return _torch().empty_like(local(parameter).detach(), dtype=_dtype(spec), device=device)
    return new(leaf) if spec.kind != "torch" else _torch().empty(spec.shape, dtype=_dtype(spec), device=device)


def _in_one_piece(tensor: Any) -> bool:
    return bool(tensor.device.type == "cpu" and tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg())


def _pieces(tensor: Any) -> Iterator[Any]:
    """Views that make up a tensor, in order: each lies in one piece, or is small enough for the buffer."""
    size = tensor.numel() * tensor.element_size()
    if size <= CHUNK_BYTES or tensor.dim() == 0 or _in_one_piece(tensor):
        yield tensor
        return
    rows = tensor.shape[0]
    at_once = CHUNK_BYTES // (size // rows)
    if at_once == 0:
        for row in tensor.unbind(0):
            yield from _pieces(row)
        return
    for first in range(0, rows, at_once):
        yield tensor.narrow(0, first, min(at_once, rows - first))


def _address(tensor: Any) -> Tuple[int, int]:
    return tensor.data_ptr(), tensor.numel() * tensor.element_size()


def write(value: Any, put: Mover) -> None:
    """Put the bytes of a tensor or an array into the snapshot."""
    if not _is_tensor(value):
        value = _numpy().ascontiguousarray(value)
        put(value.ctypes.data, value.nbytes)
        return
    for piece in _pieces(local(value).detach()):
        if not _in_one_piece(piece):
            piece = piece.resolve_conj().resolve_neg().to("cpu").contiguous()
        put(*_address(piece))


def read(leaf: Leaf, get: Mover) -> None:
    """Get the bytes of a leaf out of the snapshot into its target."""
    target = local(leaf.target)
    if leaf.spec.kind == "numpy":
        get(target.ctypes.data, target.nbytes)
        return
    torch = _torch()
    for piece in _pieces(target.detach()):
        if _in_one_piece(piece):
            get(*_address(piece))
            continue
        staged = torch.empty(piece.shape, dtype=piece.dtype)
        get(*_address(staged))
        piece.copy_(staged)
