"""Memory that a GPU copies from and to at full speed, and the copies. Through CUDA's runtime library, by ctypes.

ONNX Runtime's own ways do not do: an input that is bound from host memory is copied when it is bound, not when
it is run (onnxruntime #5857, #29782), and its copies from Python hold the GIL.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np

from streamd.models.contract import Array
from streamd.models.libraries import LibraryError, cuda_runtime

# cudaHostAllocPortable, cudaStreamNonBlocking and cudaMemcpyKind of cuda's driver_types.h
_PORTABLE = 1
_NON_BLOCKING = 1
_HOST_TO_DEVICE, _DEVICE_TO_HOST, _ON_DEVICE = 1, 2, 3
_DEFAULT_STREAM = ctypes.c_void_p(None)
"""The legacy default stream, on which libav's hardware decoders queue their work."""


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """An array where a session computes; its memory is freed with the last reference to it."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fetch: Callable[[], Array] = field(repr=False)
    """A copy of it in host memory. Any thread may ask; blocks, GIL released."""

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Memory(Protocol):
    """The memory that a session computes in, and host memory beside it. One thread at a time."""

    kind: str
    """ONNX Runtime's name of where the addresses lie: `cuda`, `cpu`."""
    device: int

    def host(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Zeroed host memory, page-locked; freed with the last view of it."""
        ...

    def reserve(self, size: int) -> int:
        """The address of `size` bytes where the session computes; freed by `close`."""
        ...

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        """Memory of any content where the session computes. It may outlive `close`."""
        ...

    def upload(self, source: Array, address: int) -> None:
        """Queue a copy of `source`, contiguous, to the device."""
        ...

    def copy(self, source: DeviceArray, address: int) -> None:
        """Queue a copy from one place of the device to another."""
        ...

    def download(self, address: int, target: Array) -> None:
        """Queue a copy from the device into `target`, contiguous."""
        ...

    def finish(self) -> None:
        """Block until all that was queued is done; releases the GIL."""
        ...

    def await_decoders(self) -> None:
        """Block until all that hardware decoders have queued so far is done; releases the GIL."""
        ...

    def close(self) -> None:
        """Free what `reserve` gave. No session may run with it any more."""
        ...


class CudaMemory:
    """GPU memory, page-locked host memory, and a stream of our own for the copies.

    The stream does not wait for the default one, on which hardware decoders copy. ONNX Runtime's is another:
    so a run begins after `finish`, and what a run gave is read after it has returned.
    """

    kind = "cuda"

    def __init__(self, device: int) -> None:
        """Raises LibraryError when the CUDA runtime is not loaded or refuses."""
        self.device = device
        self._cuda = cuda_runtime()
        self._reserved: list[ctypes.c_void_p] = []
        self._stream = ctypes.c_void_p()
        self._check(self._cuda.cudaSetDevice(device), "there is no such GPU")
        created = self._cuda.cudaStreamCreateWithFlags(
            ctypes.byref(self._stream), ctypes.c_uint(_NON_BLOCKING)
        )
        self._check(created, "no stream for the copies")
        # Also for whoever only takes arrays, and is forgotten.
        self._destroy = weakref.finalize(self, self._cuda.cudaStreamDestroy, self._stream)
        self._destroy.atexit = False

    def host(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """See `Memory.host`. Raises LibraryError."""
        size = math.prod(shape) * dtype.itemsize
        address = ctypes.c_void_p()
        code = self._cuda.cudaHostAlloc(
            ctypes.byref(address), ctypes.c_size_t(max(size, 1)), ctypes.c_uint(_PORTABLE)
        )
        self._check(code, f"no {size} bytes of page-locked memory")
        assert address.value is not None
        buffer = (ctypes.c_char * max(size, 1)).from_address(address.value)
        # Not at exit: the driver may have gone by then.
        weakref.finalize(buffer, self._cuda.cudaFreeHost, address).atexit = False
        array: Array = np.frombuffer(memoryview(buffer), np.uint8)[:size].view(dtype).reshape(shape)
        array[...] = 0
        return array

    def reserve(self, size: int) -> int:
        """See `Memory.reserve`. Raises LibraryError."""
        address = ctypes.c_void_p()
        self._check(
            self._cuda.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(size)),
            f"no {size} bytes of GPU memory",
        )
        self._reserved.append(address)
        assert address.value is not None
        return address.value

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        """See `Memory.array`. Raises LibraryError; so does its `fetch`."""
        size = math.prod(shape) * dtype.itemsize
        memory = ctypes.c_void_p()
        code = self._cuda.cudaMalloc(ctypes.byref(memory), ctypes.c_size_t(size))
        self._check(code, f"no {size} bytes of GPU memory")
        assert memory.value is not None
        address, cuda, check = memory.value, self._cuda, self._check

        def fetch() -> Array:
            found = np.empty(shape, dtype)
            code = cuda.cudaMemcpy(
                ctypes.c_void_p(found.ctypes.data), memory, ctypes.c_size_t(size), _DEVICE_TO_HOST
            )
            check(code, "a copy from the GPU failed")
            return found

        made = DeviceArray(address, shape, dtype, fetch)
        weakref.finalize(made, cuda.cudaFree, memory).atexit = False  # the driver may have gone by then
        return made

    def upload(self, source: Array, address: int) -> None:
        """See `Memory.upload`. Raises LibraryError."""
        self._copy(address, source.ctypes.data, source.nbytes, _HOST_TO_DEVICE)

    def copy(self, source: DeviceArray, address: int) -> None:
        """See `Memory.copy`. Raises LibraryError."""
        self._copy(address, source.address, source.nbytes, _ON_DEVICE)

    def download(self, address: int, target: Array) -> None:
        """See `Memory.download`. Raises LibraryError."""
        self._copy(target.ctypes.data, address, target.nbytes, _DEVICE_TO_HOST)

    def finish(self) -> None:
        """See `Memory.finish`. Raises LibraryError."""
        self._check(self._cuda.cudaStreamSynchronize(self._stream), "a copy failed")

    def await_decoders(self) -> None:
        """See `Memory.await_decoders`. Raises LibraryError.

        The default stream belongs to the device's primary context, which the runtime and the decoders share. Neither
        our stream nor ONNX Runtime's waits for it: both are made not to.
        """
        self._check(self._cuda.cudaStreamSynchronize(_DEFAULT_STREAM), "a hardware decoder failed")

    def close(self) -> None:
        """See `Memory.close`."""
        for address in self._reserved:
            self._cuda.cudaFree(address)
        self._reserved.clear()
        self._destroy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _copy(self, target: int, source: int, size: int, kind: int) -> None:
        code = self._cuda.cudaMemcpyAsync(
            ctypes.c_void_p(target), ctypes.c_void_p(source), ctypes.c_size_t(size), kind, self._stream
        )
        self._check(code, "a copy could not be queued")

    @staticmethod
    def _check(code: int, problem: str) -> None:
        if code != 0:
            raise LibraryError(f"{problem} (CUDA error {code})")
