"""A model ready to run: its session, its head, and the buffer in which pictures become a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamd.models.contract import Array, BatchHead, Detections, Placement
from streamd.models.description import Description
from streamd.models.memory import DeviceArray
from streamd.models.running import Session
from streamd.models.selection import Rules, Sight, select, select_each
from streamd.models.shapes import feeds


class Detector:
    """Runs pictures through a session and reads objects from its outputs. `runs` threads at a time.

    `limit` is the largest batch: at most what the model fixes, or what the session has proven.
    """

    def __init__(self, description: Description, session: Session, limit: int) -> None:
        self.description = description
        self.labels = description.labels
        self.name = description.name
        self.limit = limit
        self.input = session.graph.input
        """The input that pictures are prepared for: the model's own, or a uint8 one that was joined to it."""
        joined = self.input.dtype != description.graph.input.dtype
        self.contract = description.contract.of_bytes() if joined else description.contract
        """What that input wants."""
        self.gate = session.gate
        """What tells when the next batch is due; None where runs do not wait for each other."""
        self._session = session
        head = description.head
        self._batch_head = head if isinstance(head, BatchHead) and not head.nms else None
        # A model with a fixed batch gets it whole, whatever is in its last rows.
        self._in_place = session.staging() is None
        self._buffers: list[Array] = []
        for place in range(session.runs):
            staging = session.staging(place)
            if staging is None:
                staging = np.zeros((session.rows(limit), *self.input.picture), self.input.dtype)
            self._buffers.append(staging)

    @property
    def runs(self) -> int:
        """How many `run` may go on side by side."""
        return self._session.runs

    @property
    def light(self) -> bool:
        """Whether a whole batch takes less than to have another thread run it."""
        return self._session.light

    @property
    def at_once(self) -> int:
        """The most pictures that can be in the model at a time."""
        return self.limit * self.runs

    @property
    def provider(self) -> str:
        """What really runs: ONNX Runtime's name of the provider."""
        return self._session.provider

    @property
    def device(self) -> int | None:
        """The number of the GPU whose memory pictures are best prepared in; None: in host memory."""
        return self._session.device

    def takes_pictures_of(self, other: Detector) -> bool:
        """Whether what was prepared for the other one is good for this one: another session of the same model."""
        return (self.input, self.contract) == (other.input, other.contract)

    def close(self) -> None:
        """Free the model and its memory. Not while another thread runs it."""
        self._session.close()

    def try_out(self) -> None:
        """Read what a black picture comes to, whatever its scores: a head that does not fit shows before a camera.

        Raises ModelError. Blocks for one inference.
        """
        outputs = self.run([np.zeros(self.input.picture, self.input.dtype)])
        self.description.head.decode(outputs, 0, np.zeros(len(self.labels), np.float32))

    def run(self, pictures: Sequence[Array | DeviceArray], place: int = 0) -> list[Array]:
        """The session's outputs for 1 to `limit` prepared pictures. Blocks for one inference, GIL released.

        They are valid until the next run at this place, one of `runs` places; one thread at a time at each. On the
        CPU a single picture runs where it lies; else pictures are copied into the batch, whose rows beyond them keep
        what they held. Those in a GPU's memory are copied there.
        """
        rows = self._session.rows(len(pictures))
        first = pictures[0]
        if rows == 1 and self._in_place and not isinstance(first, DeviceArray):
            return self._session.run(feeds(self._session.graph, first[np.newaxis]), place)
        batch = self._buffers[place][:rows]
        there = {}
        for row, picture in enumerate(pictures):
            if isinstance(picture, DeviceArray):
                there[row] = picture
            else:
                batch[row] = picture
        return self._session.run(feeds(self._session.graph, batch), place, there)

    def read(
        self, outputs: Sequence[Array], row: int, placement: Placement, size: tuple[int, int], rules: Rules
    ) -> Detections:
        """The objects of picture `row` of a batch, in stored pixels of its source of `size` (width, height)."""
        return self._one(outputs, row, Sight(placement, *size, rules))

    def read_batch(self, outputs: Sequence[Array], sights: Sequence[Sight]) -> list[Detections]:
        """As `read`, of as many pictures as there are sights, from the first row on.

        Those that are looked at alike, as all of one stream are, are read in one go if the head can.
        """
        head, first = self._batch_head, sights[0]
        if head is not None and all(map(first.__eq__, sights)):
            found = head.decode_batch(outputs, len(sights), first.rules.floors)
            assert found.pictures is not None
            return select_each(found, found.pictures, len(sights), first)
        return [self._one(outputs, row, sight) for row, sight in enumerate(sights)]

    def _one(self, outputs: Sequence[Array], row: int, sight: Sight) -> Detections:
        head = self.description.head
        return select(head.decode(outputs, row, sight.rules.floors), *sight, head.nms)
