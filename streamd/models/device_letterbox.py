"""The letterbox for pictures that a GPU has decoded: they are written into model inputs that lie there as well.

Written against the documentation of ONNX Runtime, CUDA and FFmpeg; no GPU has run it yet. So it trusts itself to
nothing: now and then a picture is written by the letterbox on the processor too, and what differs ends it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamd.core.picture import DevicePlanes, Picture
from streamd.models.contract import Array, InputContract, InputShape, Placement
from streamd.models.creation import ORT_ERRORS, NotHereError, words
from streamd.models.device import Device
from streamd.models.letterbox_graph import CHROMA, LUMA, PIXELS, Form, letterbox_graph
from streamd.models.libraries import LibraryError
from streamd.models.memory import DeviceArray, Memory
from streamd.models.preprocess import Letterbox

MOST_DIFFERENCE = 1.5
"""Steps of 255 by which the pixels may differ on average from those that the processor writes. Those of real cameras
differ by 0.9 at most; of another picture, in another range, without colour or some pixels away, mostly by 3 to 30."""

_CHECKED = (0, 100)
_CHECKED_EACH = 10_000
"""Which pictures are checked: the first, one when all is under way, and some later ones: a picture that is read
before it is whole need not show at once."""


class DifferenceError(Exception):
    """A picture came out otherwise than on the processor; the message says by how much."""


class DeviceLetterbox:
    """Writes pictures on a GPU into inputs of one model there. One per stream and thread.

    After the first failure it writes no more, and the decoder is told: nothing is lost but the way it takes.
    """

    def __init__(self, contract: InputContract, shape: InputShape, device: Device) -> None:
        self._contract = contract
        self._shape = shape
        self._device = device
        self._memory: Memory | None = None
        self._letterbox = Letterbox(contract, shape)
        self._form: tuple[Form, Placement] | None = None
        self._session: Any = None
        self._binding: Any = None
        self._written = 0
        self._failed = False

    def write(self, picture: Picture, there: DeviceArray | None) -> tuple[DeviceArray, Placement] | None:
        """Write a picture with `device` planes into an input on that GPU, and say where it lies in it.

        there: the memory to write, which an earlier call returned; None: new memory. Returns None when the picture
        has to be written on the processor. Blocks until all of it is written; releases the GIL, but for the pictures
        that are checked.
        """
        planes = picture.device
        if self._failed or planes is None or planes.device != self._device.number:
            return None
        try:
            return self._write(picture, planes, there)
        except (*ORT_ERRORS, LibraryError, NotHereError, DifferenceError) as error:
            self._failed = True
            planes.refuse(words(error))
            return None

    def _write(
        self, picture: Picture, planes: DevicePlanes, there: DeviceArray | None
    ) -> tuple[DeviceArray, Placement]:
        memory = self._memory
        if memory is None:
            memory = self._memory = self._device.memory()
        if there is None:
            there = memory.array(self._shape.picture, self._shape.dtype)
        placement = self._letterbox.place(picture.width, picture.height, picture.sar)
        form = Form(
            planes.width,
            planes.height,
            planes.luma_pitch,
            planes.chroma_pitch,
            picture.matrix,
            picture.full_range,
            picture.rotation,
        )
        if self._form != (form, placement):
            self._open(form, placement)
        place = (memory.kind, memory.device)
        self._binding.bind_input(LUMA, *place, np.uint8, form.luma, planes.luma)
        self._binding.bind_input(CHROMA, *place, np.uint8, form.chroma, planes.chroma)
        self._binding.bind_output(PIXELS, *place, self._shape.dtype, [1, *self._shape.picture], there.address)
        memory.await_decoders()
        # Waits until the stream that it ran in is done: so the slot is whole, and the planes may go.
        self._session.run_with_iobinding(self._binding)
        if self._written in _CHECKED or self._written % _CHECKED_EACH == 0:
            self._check(picture, there, placement)
        self._written += 1
        return there, placement

    def _open(self, form: Form, placement: Placement) -> None:
        graph = letterbox_graph(form, placement, self._contract, self._shape)
        self._session = self._device.session(graph)
        self._binding = self._session.io_binding()
        self._form = (form, placement)

    def _check(self, picture: Picture, there: DeviceArray, placement: Placement) -> None:
        """Raise DifferenceError when the picture is not what the processor makes of it."""
        wanted = np.zeros(self._shape.picture, self._shape.dtype)
        self._letterbox.write(picture, wanted, None)
        off = float(np.abs(self._steps(there.fetch(), placement) - self._steps(wanted, placement)).mean())
        if not off <= MOST_DIFFERENCE:  # what is no number is no picture either
            raise DifferenceError(
                f"picture {self._written} differs from the processor's by {off:.2f} of 255 on average"
            )

    def _steps(self, pixels: Array, placement: Placement) -> Array:
        """The picture without its border, in the pixels' own steps: float32 [3, h, w]."""
        channels = pixels if self._shape.channels_first else np.moveaxis(pixels, -1, 0)
        left, top = int(placement.offset_x), int(placement.offset_y)
        inner = channels[:, top : top + placement.height, left : left + placement.width]
        gain, _ = self._contract.gain_and_shift()
        steps: Array = inner.astype(np.float32) / gain.reshape(3, 1, 1)
        return steps
