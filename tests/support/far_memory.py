"""Stand-ins for a GPU's memory: no GPU is needed to prove what is copied, when, and from where."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from streamd.models.contract import Array
from streamd.models.memory import DeviceArray

_DEFAULT_STREAM = threading.Lock()


class FarMemory:
    """A second place in host memory: a session on the CPU computes there, as one on a GPU does in its own.

    Copies are done when `finish` is called, so that one that is not waited for is noticed. What a test has a decoder
    queue (`decoding`) is done when `await_decoders` is called.
    """

    kind = "cpu"
    device = 0

    def __init__(self) -> None:
        self._far: dict[int, Array] = {}
        self._queue: list[tuple[int, int, int]] = []
        self.decoding: list[Callable[[], None]] = []
        self.copied = 0
        self.delay_s = 0.0
        """How long all that was queued takes."""
        self.moved = 0
        """Bytes of the copies from one far place to another; they are not in `copied`."""
        self.closed = False

    def host(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return np.zeros(shape, dtype)

    def reserve(self, size: int) -> int:
        memory = np.full(size, 0xA5, np.uint8)
        self._far[memory.ctypes.data] = memory
        return memory.ctypes.data

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        memory = np.full(shape, 0xA5, dtype)
        return DeviceArray(memory.ctypes.data, shape, dtype, memory.copy)

    def upload(self, source: Array, address: int) -> None:
        assert source.flags.c_contiguous
        assert any(
            start <= address and address + source.nbytes <= start + far.nbytes
            for start, far in self._far.items()
        )
        self._queue.append((address, source.ctypes.data, source.nbytes))

    def copy(self, source: DeviceArray, address: int) -> None:
        assert any(
            start <= address and address + source.nbytes <= start + far.nbytes
            for start, far in self._far.items()
        )
        self._queue.append((address, source.address, source.nbytes))
        self.copied -= source.nbytes
        self.moved += source.nbytes

    def _holds(self, address: int, size: int) -> bool:
        return any(0 <= address - start <= far.nbytes - size for start, far in self._far.items())

    def download(self, address: int, target: Array) -> None:
        assert target.flags.c_contiguous
        assert target.nbytes <= self._far[address].nbytes
        self._queue.append((target.ctypes.data, address, target.nbytes))

    def finish(self) -> None:
        if self.delay_s:
            time.sleep(self.delay_s)
        for target, source, size in self._queue:
            ctypes.memmove(target, source, size)
            self.copied += size
        self._queue.clear()

    def await_decoders(self) -> None:
        # Whoever waits for the device's default stream waits for all that is queued there, also what another thread
        # is about to carry out.
        with _DEFAULT_STREAM:
            while self.decoding:
                self.decoding.pop(0)()

    def close(self) -> None:
        self._far.clear()
        self.closed = True


class Held:
    """ONNX Runtime's own session, whose runs in bound memory can be held up: a GPU that is busy.

    before: called at the start of each of them, with its number from 0. inside: how many go on now.
    """

    def __init__(self, session: Any, before: Callable[[int], object] = lambda number: None) -> None:
        self._session = session
        self.before = before
        self._lock = threading.Lock()  # guards the two below
        self.count = self.inside = self.most_inside = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, *given: Any) -> None:
        with self._lock:
            number, self.count = self.count, self.count + 1
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        try:
            self.before(number)
            self._session.run_with_iobinding(*given)
        finally:
            with self._lock:
                self.inside -= 1


class PretendedRuntime:
    """The functions of libcudart that streamd calls, over the C library's memory; each refuses what CUDA would."""

    def __init__(self) -> None:
        self._c = ctypes.CDLL(None)
        self._c.malloc.restype = ctypes.c_void_p
        self._c.malloc.argtypes = [ctypes.c_size_t]
        self.host: set[int] = set()
        self.device: set[int] = set()
        self.streams: set[int] = set()
        self.refuse: set[str] = set()
        self.default_awaited = 0

    def cudaSetDevice(self, device: int) -> int:  # noqa: N802
        return 0 if device == 0 else 101  # cudaErrorInvalidDevice

    def cudaStreamCreateWithFlags(self, stream: Any, flags: ctypes.c_uint) -> int:  # noqa: N802
        assert flags.value == 1
        stream._obj.value = 7
        self.streams.add(7)
        return 0

    def cudaStreamDestroy(self, stream: ctypes.c_void_p) -> int:  # noqa: N802
        self.streams.remove(stream.value or 0)
        return 0

    def cudaStreamSynchronize(self, stream: ctypes.c_void_p) -> int:  # noqa: N802
        if stream.value is None:  # the legacy default stream
            self.default_awaited += 1
            return 0
        return 0 if stream.value in self.streams else 400  # cudaErrorInvalidResourceHandle

    def cudaHostAlloc(self, address: Any, size: ctypes.c_size_t, flags: ctypes.c_uint) -> int:  # noqa: N802
        if "host" in self.refuse:
            return 2  # cudaErrorMemoryAllocation
        assert flags.value == 1
        address._obj.value = self._c.malloc(size)
        self.host.add(address._obj.value)
        return 0

    def cudaFreeHost(self, address: ctypes.c_void_p) -> int:  # noqa: N802
        self.host.remove(address.value or 0)
        self._c.free(address)
        return 0

    def cudaMalloc(self, address: Any, size: ctypes.c_size_t) -> int:  # noqa: N802
        if "device" in self.refuse:
            return 2
        address._obj.value = self._c.malloc(size)
        self.device.add(address._obj.value)
        return 0

    def cudaFree(self, address: ctypes.c_void_p) -> int:  # noqa: N802
        self.device.remove(address.value or 0)
        self._c.free(address)
        return 0

    def cudaMemcpy(  # noqa: N802
        self, target: ctypes.c_void_p, source: ctypes.c_void_p, size: ctypes.c_size_t, kind: int
    ) -> int:
        if kind != 2 or source.value not in self.device:
            return 1
        ctypes.memmove(target, source, size.value)
        return 0

    def cudaMemcpyAsync(  # noqa: N802
        self,
        target: ctypes.c_void_p,
        source: ctypes.c_void_p,
        size: ctypes.c_size_t,
        kind: int,
        stream: ctypes.c_void_p,
    ) -> int:
        far = {1: [target], 2: [source], 3: [target, source]}[kind]
        if any(one.value not in self.device for one in far) or stream.value not in self.streams:
            return 1  # cudaErrorInvalidValue
        ctypes.memmove(target, source, size.value)
        return 0
