"""The worker thread: takes batches from the rings, runs the model, posts results."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from streamd.core.timing import now_ns
from streamd.models.detector import Detector
from streamd.pipeline.lane import Frame
from streamd.pipeline.ledger import Drop
from streamd.pipeline.outbox import Outbox, Result
from streamd.pipeline.ring import Rings

_WAKE_S = 1.0


class Worker:
    """Owns the detector (session and batch buffer) while `run` runs; `run` is the body of thread `infer`.

    With `fill` every batch is full but the last: an offline run's batches then do not depend on timing.
    """

    def __init__(
        self,
        detector: Detector,
        rings: Rings,
        outbox: Outbox[Any],
        *,
        fill: bool = False,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._detector = detector
        self._rings = rings
        self._outbox = outbox
        self._fill = fill
        self._on_batch = on_batch
        self._model = 0
        self._next: tuple[Detector, int, Callable[[], None]] | None = None
        self.beat_ns = now_ns()
        """When the loop last turned: at least each second, also when idle, unless the model hangs."""
        self.ended = threading.Event()

    def exchange(self, detector: Detector, model: int, adopted: Callable[[], None]) -> None:
        """Run this detector from the next batch on, for slots of this model's number. Never blocks.

        `adopted` is called in between, in the worker's thread: the former detector is nobody's then. Frames made for
        another number are dropped (`model_changed`); with the same number every frame stays good.
        """
        self._next = (detector, model, adopted)

    def run(self) -> None:
        """Serve until the rings are closed and empty."""
        try:
            while True:
                frames = self._rings.take(self._detector.limit, _WAKE_S, fill=self._fill)
                self.beat_ns = now_ns()
                if frames is None:
                    return
                if self._next is not None:
                    self._detector, self._model, adopted = self._next
                    self._next = None
                    adopted()
                batch = [frame for frame in frames if not self._dropped(frame, self.beat_ns)]
                # Of one number, a detector may have taken over whose batches are smaller.
                for first in range(0, len(batch), self._detector.limit):
                    self._infer(batch[first : first + self._detector.limit])
        finally:
            self.ended.set()

    def _infer(self, batch: list[Frame]) -> None:
        run_ns = now_ns()
        outputs = self._detector.run([frame.slot.pixels for frame in batch])
        inferred_ns = now_ns()
        self._on_batch(len(batch))
        for row, frame in enumerate(batch):
            frame.stamps.run, frame.stamps.inferred = run_ns, inferred_ns
            detections = self._detector.read(
                outputs, row, frame.placement, (frame.width, frame.height), frame.lane.rules
            )
            if not self._outbox.wait_for_room():
                frame.drop(Drop.SHUTDOWN)
                continue
            posted_ns = now_ns()
            if self._dropped(frame, posted_ns):
                continue
            frame.stamps.posted = posted_ns
            frame.slot.release()
            if frame.picture is not None and not frame.lane.keeping.take(frame.stamps.received):
                frame.picture = None
            self._outbox.post(
                Result(
                    frame=frame,
                    seq=frame.lane.ledger.published(),
                    detections=detections,
                    model=self._detector.name,
                    labels=self._detector.labels,
                    provider=self._detector.provider,
                )
            )

    def _dropped(self, frame: Frame, now: int) -> bool:
        if frame.lane.removed:
            reason = Drop.REMOVED
        elif frame.slot.model != self._model:
            reason = Drop.MODEL_CHANGED
        elif frame.stale(now):
            reason = Drop.STALE
        else:
            return False
        frame.drop(reason)
        return True
