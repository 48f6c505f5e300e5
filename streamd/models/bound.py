"""A session's inputs and outputs bound to fixed memory: nothing is allocated for a run, and each copy is ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from streamd.models.contract import Array, Graph
from streamd.models.gate import Gate
from streamd.models.memory import DeviceArray, Memory
from streamd.models.shapes import shape_of


class FeedsError(Exception):
    """What a run was fed does not fit the memory that is bound; the message says what was wanted."""


@dataclass(frozen=True, slots=True)
class Output:
    """An output whose first dimension is the batch and whose others are known."""

    name: str
    dtype: np.dtype[Any]
    picture: tuple[int, ...]
    """Its shape for one picture."""


NOTHING: Mapping[int, DeviceArray] = MappingProxyType({})


class Bound(Protocol):
    """Runs a session in fixed memory. One thread at a time; several of one session may run side by side."""

    staging: Array | None
    """Memory of the picture input, [rows, ...], that runs read without a copy on the host; None: any will do."""
    device: int | None
    """The number of the GPU from whose memory it takes pictures; None: from none."""

    def run(self, feeds: Mapping[str, Array], there: Mapping[int, DeviceArray] = NOTHING) -> list[Array]:
        """The outputs in the graph's order, valid until the next run. Blocks, GIL released.

        feeds: every input by name, contiguous. there: the rows of the picture input that lie on the device, written
        to their end; what `feeds` holds in their place is not read. Raises FeedsError, LibraryError, and what ONNX
        Runtime raises.
        """
        ...

    def close(self) -> None:
        """Free the memory; what `run` returned may still be read."""
        ...


def fixed_outputs(graph: Graph) -> list[Output] | None:
    """The outputs with their shapes; None when one has a size that only a run tells.

    A first dimension of another name than the batch's may count objects, so it is not taken for the batch.
    """
    batch = next(tensor.shape[0] for tensor in graph.inputs if tensor.name == graph.input.name)
    found = []
    for tensor in graph.outputs:
        if not tensor.shape or batch is None or tensor.shape[0] != batch:
            return None
        picture = tuple(size for size in tensor.shape[1:] if isinstance(size, int) and size > 0)
        if len(picture) != len(tensor.shape) - 1:
            return None
        try:
            dtype = np.dtype(tensor.dtype)
        except TypeError:
            return None
        found.append(Output(tensor.name, dtype, picture))
    return found


class HostBound:
    """On the CPU: outputs lie in fixed memory, pictures are read where they lie."""

    def __init__(self, session: Any, graph: Graph, outputs: Sequence[Output], rows: int) -> None:
        self.staging: Array | None = None
        self.device: int | None = None
        self._session = session
        self._picture = graph.input.name
        self._outputs = outputs
        self._arrays = [np.zeros((rows, *output.picture), output.dtype) for output in outputs]
        self._bindings: dict[int, Any] = {}

    def run(self, feeds: Mapping[str, Array], there: Mapping[int, DeviceArray] = NOTHING) -> list[Array]:
        """See `Bound.run`."""
        if there:
            raise FeedsError("pictures on a GPU, and a model that is on none")
        if self._picture not in feeds:
            raise FeedsError(f"no picture: the input {self._picture!r} is not fed")
        rows = len(feeds[self._picture])
        binding = self._bindings.get(rows)
        if binding is None:
            binding = self._bindings[rows] = self._bind(rows)
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        self._session.run_with_iobinding(binding)
        return [array[:rows] for array in self._arrays]

    def close(self) -> None:
        """See `Bound.close`."""
        self._bindings.clear()
        self._session = None

    def _bind(self, rows: int) -> Any:
        binding = self._session.io_binding()
        for output, array in zip(self._outputs, self._arrays, strict=True):
            if rows > len(array):
                raise FeedsError(f"a batch of {rows}, where {len(array)} is the most")
            shape = [rows, *output.picture]
            binding.bind_output(output.name, "cpu", 0, output.dtype, shape, array.ctypes.data)
        return binding


class DeviceBound:
    """On a GPU: inputs and outputs at fixed addresses there, and page-locked memory here to copy from and to.

    What is bound from host memory would be copied once, when it is bound, and be stale from the second run on;
    so only device memory is bound. Fixed addresses are also what a captured CUDA graph needs.
    """

    def __init__(
        self,
        session: Any,
        graph: Graph,
        outputs: Sequence[Output],
        memory: Memory,
        buckets: Mapping[int, Any],
        gate: Gate | None = None,
        place: int = 0,
    ) -> None:
        """buckets: the sizes of batches that will be run, each with ONNX Runtime's options for its runs, or None.

        gate: that of all runs of this session, where this is the one at `place`; None: it is the only one.
        Raises LibraryError when there is not enough memory.
        """
        self._session = session
        self._picture = graph.input.name
        self._memory = memory
        self._buckets = buckets
        self._gate = gate or Gate()
        self._place = place
        self._names = [output.name for output in outputs]
        rows = max(buckets)
        shapes = {tensor.name: shape_of(tensor, graph, rows) for tensor in graph.inputs}
        types = {tensor.name: np.dtype(tensor.dtype) for tensor in graph.inputs}
        shapes |= {output.name: (rows, *output.picture) for output in outputs}
        types |= {output.name: output.dtype for output in outputs}
        self._host = {name: memory.host(shape, types[name]) for name, shape in shapes.items()}
        self._addresses = {
            name: memory.reserve(math.prod(shape) * types[name].itemsize) for name, shape in shapes.items()
        }
        self._inputs = [tensor.name for tensor in graph.inputs]
        self._bindings = {bucket: self._bind(bucket) for bucket in buckets}
        self.staging: Array | None = self._host[self._picture]
        self.device: int | None = memory.device

    def run(self, feeds: Mapping[str, Array], there: Mapping[int, DeviceArray] = NOTHING) -> list[Array]:
        """See `Bound.run`."""
        try:
            rows = self._checked(feeds)
            for name in self._inputs:
                if there and name == self._picture:
                    self._gather(feeds[name], there)
                else:
                    self._memory.upload(self._staged(name, feeds[name]), self._addresses[name])
            self._memory.finish()
            self._gate.run(self._place, rows, partial(self._run, rows))
            outputs = [self._host[name][:rows] for name in self._names]
            for name, output in zip(self._names, outputs, strict=True):
                self._memory.download(self._addresses[name], output)
            self._memory.finish()
            return outputs
        finally:
            self._gate.forget(self._place)

    def close(self) -> None:
        """See `Bound.close`."""
        self._bindings.clear()
        self._session = None
        self._memory.close()

    def _checked(self, feeds: Mapping[str, Array]) -> int:
        """The number of rows."""
        if feeds.keys() != set(self._inputs):
            raise FeedsError(f"fed are {', '.join(feeds) or 'no inputs'}, wanted {', '.join(self._inputs)}")
        rows = len(feeds[self._picture])
        if rows not in self._bindings:
            raise FeedsError(f"a batch of {rows}, where only {', '.join(map(str, self._bindings))} are bound")
        return rows

    def _run(self, rows: int) -> None:
        self._session.run_with_iobinding(self._bindings[rows], self._buckets[rows])

    def _gather(self, pictures: Array, there: Mapping[int, DeviceArray]) -> None:
        """Queue copies of a batch whose rows lie here and there; of rows side by side here, one."""
        batch, start = self._staged(self._picture, pictures), self._addresses[self._picture]
        size = batch[0].nbytes
        begun = 0
        for row in [*sorted(there), len(batch)]:
            if row > begun:
                self._memory.upload(batch[begun:row], start + begun * size)
            begun = row + 1
        for row, picture in there.items():
            if (picture.shape, picture.dtype) != (batch.shape[1:], batch.dtype):
                got = f"{picture.dtype} {list(picture.shape)}"
                raise FeedsError(
                    f"a picture on the GPU is {got}, wanted {batch.dtype} {list(batch.shape[1:])}"
                )
            self._memory.copy(picture, start + row * size)

    def _staged(self, name: str, array: Array) -> Array:
        """The page-locked memory of an input with what `array` holds; a copy unless it lies there already."""
        host: Array = self._host[name][: len(array)]
        if array.shape != host.shape or array.dtype != host.dtype:
            got, wanted = (f"{one.dtype} {list(one.shape)}" for one in (array, host))
            raise FeedsError(f"the input {name!r} is fed {got}, wanted {wanted}")
        if array.ctypes.data != host.ctypes.data:
            np.copyto(host, array)
        return host

    def _bind(self, rows: int) -> Any:
        binding = self._session.io_binding()
        for name, host in self._host.items():
            bind = binding.bind_input if name in self._inputs else binding.bind_output
            shape = [rows, *host.shape[1:]]
            bind(name, self._memory.kind, self._memory.device, host.dtype, shape, self._addresses[name])
        return binding
