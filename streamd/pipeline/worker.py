"""The worker: takes batches from the rings, runs the model, posts results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from streamd.core.timing import now_ns
from streamd.models.contract import Detections
from streamd.models.detector import Detector
from streamd.models.selection import Sight
from streamd.pipeline.lane import Frame
from streamd.pipeline.ledger import Drop
from streamd.pipeline.outbox import Outbox, Result
from streamd.pipeline.ring import Rings
from streamd.pipeline.turns import Turn, Turns

_WAKE_S = 1.0
_HELPED = 8
"""So many batches a decoder serves in the worker's place, then its own work has waited long enough."""


class _Batch(NamedTuple):
    turn: Turn
    frames: list[Frame]
    detector: Detector


class Worker:
    """Runs the model while its `threads` run; `run` is the body of each of them (`infer`, `infer/1`, ...).

    On a GPU one thread copies and reads while the other's batch runs. On the CPU several pictures run side by side,
    each on its own core, which serves more of them than all cores on one picture do. The results are posted in the
    order in which the frames were taken, by whichever thread is there; none waits for a slower run of another one.

    With `fill` every batch is full but the last: an offline run's batches then do not depend on timing. It is the
    number of frames to wait for when there are none.
    """

    def __init__(
        self,
        detector: Detector,
        rings: Rings,
        outbox: Outbox[Any],
        *,
        fill: int = 0,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        """on_batch: called with the size of each batch, by one thread at a time."""
        self._detector = detector
        self._rings = rings
        self._outbox = outbox
        self._fill = fill
        self._on_batch = on_batch
        self._model = 0
        self._next: tuple[Detector, int, Callable[[], None]] | None = None
        self._rest: list[Frame] = []
        """Taken already: of one number, a detector may take over whose batches are smaller."""
        self._taking = (
            threading.Lock()
        )  # one thread at a time waits for frames; guards the detector, its number, `_rest`
        self._turns = Turns()
        self.threads = detector.runs
        """How many threads are to run it; a detector that comes later may want more."""
        self._ending = threading.Lock()  # guards `_left`
        self._left = self.threads
        self.beat_ns = now_ns()
        """When frames were last asked for: at least each second, also when idle, unless the model hangs."""
        self._failure: BaseException | None = None
        """Of a decoder that served in its place."""
        rings.lend(self._help)

    def exchange(self, detector: Detector, model: int, adopted: Callable[[], None]) -> None:
        """Run this detector from the next batch on, for slots of this model's number. Never blocks.

        `adopted` is called in between, in a thread of the worker: the former detector is nobody's then. Frames made
        for another number are dropped (`model_changed`); with the same number every frame stays good. If it can run
        more pictures side by side than any before, `threads` has grown when this returns: start those missing.
        """
        with self._ending:
            more = max(0, detector.runs - self.threads)
            self.threads += more
            self._left += more
        self._next = (detector, model, adopted)

    def run(self) -> bool:
        """Serve until the rings are closed and empty. Whether this was the last thread to end."""
        try:
            while (batch := self._take()) is not None:
                self._serve(batch)
        except BaseException:
            # Its turn will never be over.
            self._turns.give_up()
            raise
        finally:
            with self._ending:
                self._left -= 1
                last = not self._left
        return last

    def _take(self) -> _Batch | None:
        with self._taking:
            while True:
                # No more at once than the detector can, also when another one had more threads.
                self._turns.wait_for_place(self._detector.runs)
                # An offline run's frames do not grow old: the sooner its next batch is ready the better.
                if not self._fill and (gate := self._detector.gate) is not None:
                    gate.wait_until_due()
                frames = self._rest or self._rings.take(self._detector.limit, _WAKE_S, fill=self._fill)
                self.beat_ns = now_ns()
                if self._failure is not None:
                    raise self._failure
                if frames is None:
                    return None
                if self._next is not None:
                    self._turns.wait_until_delivered()
                    self._detector, self._model, adopted = self._next
                    self._next = None
                    adopted()
                kept = [frame for frame in frames if self._kept(frame, self.beat_ns)]
                limit = self._detector.limit
                self._rest = kept[limit:]
                if kept:
                    batch = _Batch(self._turns.begin(), kept[:limit], self._detector)
                    if (gate := self._detector.gate) is not None:
                        gate.begin(batch.turn.place)
                    return batch

    def _help(self) -> bool:
        """Serve in the thread of a decoder, while the worker's sleep; False: they are to be woken.

        Only a model that takes less than that waking would cost. The worker's threads hold nothing then.
        """
        for _ in range(_HELPED):
            detector = self._detector
            if not detector.light or self._next is not None or not self._outbox.has_room():
                return False
            self.beat_ns = now_ns()
            kept = [
                frame for frame in self._rings.take_waiting(detector.limit) if self._kept(frame, self.beat_ns)
            ]
            if kept:
                try:
                    self._serve(_Batch(self._turns.begin(), kept, detector))
                except BaseException as error:  # noqa: BLE001 - raised by the worker's thread, as if it had served
                    self._failure = error
                    return False
            if self._rings.wait_again():
                return True
        return False

    def _serve(self, batch: _Batch) -> None:
        turn, frames, detector = batch
        run_ns = now_ns()
        outputs = detector.run([frame.slot.picture for frame in frames], turn.place)
        inferred_ns = now_ns()
        for frame in frames:
            frame.stamps.run, frame.stamps.inferred = run_ns, inferred_ns
        found = detector.read_batch(
            outputs,
            [Sight(frame.placement, frame.width, frame.height, frame.lane.rules) for frame in frames],
        )
        for frame in frames:
            frame.slot.release()
        self._turns.leave(turn)
        self._turns.finish(turn, partial(self._post, batch, found))

    def _post(self, batch: _Batch, found: Sequence[Detections], in_order: bool) -> None:
        """Called in the order in which the batches were taken, unless the worker has failed."""
        self._on_batch(len(batch.frames))
        serving = in_order and self._outbox.wait_for_room()
        posted_ns = now_ns()
        results = []
        for frame, detections in zip(batch.frames, found, strict=True):
            reason = self._reason_to_drop(frame, posted_ns) if serving else Drop.SHUTDOWN
            if reason is None:
                results.append(_result(frame, detections, batch.detector, posted_ns))
            else:
                frame.lane.ledger.dropped(reason)
        self._outbox.post(*results)

    def _kept(self, frame: Frame, now: int) -> bool:
        """Whether the frame is to be run; it ends here if not."""
        reason = self._reason_to_drop(frame, now)
        if reason is not None:
            frame.drop(reason)
        return reason is None

    def _reason_to_drop(self, frame: Frame, now: int) -> Drop | None:
        if frame.lane.removed:
            return Drop.REMOVED
        if frame.slot.model != self._model:
            return Drop.MODEL_CHANGED
        return Drop.STALE if frame.stale(now) else None


def _result(frame: Frame, detections: Detections, detector: Detector, posted_ns: int) -> Result:
    frame.stamps.posted = posted_ns
    if frame.picture is not None and not frame.lane.keeping.take(frame.stamps.received):
        frame.picture = None
    return Result(
        frame=frame,
        seq=frame.lane.ledger.published(),
        detections=detections,
        model=detector.name,
        labels=detector.labels,
        provider=detector.provider,
    )
