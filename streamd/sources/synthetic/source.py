"""Pictures made on the spot, at the pace and with the faults of a plan."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np

from streamd.core.errors import Reason, SourceError
from streamd.core.picture import Layout, Matrix, Picture, Pixels
from streamd.sources.source import Closing, SourceRequest
from streamd.sources.synthetic.plan import Fault, Plan, plan_of
from streamd.sources.thinning import Thinning

_CELLS = 16
_WHITE, _BLACK = 235, 16
_SLICE_S = 0.2


def open_test(request: SourceRequest, stop: threading.Event) -> SyntheticSource:
    """Never blocks. Raises SourceError (error) when the address cannot be understood."""
    return SyntheticSource(plan_of(request.url), request.url, stop)


class SyntheticSource(Closing):
    """Pictures by a plan; see `streamd.sources.source.Source` for what it offers."""

    live = True
    clock: Literal["arrival", "file"] = "arrival"
    codec = "test"
    profile = None
    duration_s = None
    frames = None
    notes: tuple[str, ...] = ()
    skipped = 0
    damaged = 0
    lost_packets = 0
    undecoded: Mapping[str, int] = MappingProxyType({})

    def __init__(self, plan: Plan, url: str, stop: threading.Event) -> None:
        self._plan = plan
        self.thinning = Thinning()  # nothing is decoded here, so nothing is saved
        self._url = url
        self._stop = stop
        self._faults = deque(plan.faults)
        self._canvas = _Canvas(*plan.size)
        self._number = 0
        self._jump_s = 0.0
        self._damaged = 0
        self._untrusted = False
        self._burst = 0
        self._turns = 0
        self._stalled_s = 0.0
        self._started = time.monotonic()
        self.width, self.height = plan.size
        self.rate = plan.rate

    def pictures(self) -> Iterator[Picture]:
        while not self._stop.is_set():
            if self._plan.frames is not None and self._number >= self._plan.frames:
                raise SourceError(Reason.EOF, f"{self._url}: the source ended after {self._number} pictures")
            while self._faults and self._faults[0].at_s <= self._due_s + 1e-6:
                self._happen(self._faults.popleft())
            if self._burst:
                self._burst -= 1
            elif not self._wait():
                return
            self._turns += 1
            yield self._picture()

    def close(self) -> None:
        self._stop = threading.Event()
        self._stop.set()

    @property
    def _due_s(self) -> float:
        """When the next picture is due, since the opening."""
        return self._turns / self._plan.rate + self._stalled_s

    def _wait(self, longer_s: float = 0.0) -> bool:
        """Until the next picture is due, or longer; False when stopped meanwhile."""
        while self._plan.pace == "real":
            left_s = self._started + self._due_s + longer_s - time.monotonic()
            if left_s <= 0:
                break
            if self._stop.wait(min(left_s, _SLICE_S)):
                return False
        return not self._stop.is_set()

    def _happen(self, fault: Fault) -> None:
        match fault.name:
            case "stall":
                self._stalled_s += fault.seconds
            case "drop":
                self._number += fault.number
            case "burst":
                self._wait(fault.number / self._plan.rate)  # all are due when the last one is
                self._burst = fault.number
            case "corrupt":
                self._damaged = fault.number
            case "resize":
                self._canvas = _Canvas(*fault.size)
            case "clockjump":
                self._jump_s += fault.seconds
            case _:
                what = "ends" if fault.name == "end" else f"fails with {fault.reason}"
                raise SourceError(fault.reason, f"{self._url}: the source {what}, as asked")

    def _picture(self) -> Picture:
        number, self._number = self._number, self._number + 1
        keyframe = number % self._plan.gop == 0
        damaged, self._damaged = self._damaged > 0, max(self._damaged - 1, 0)
        self._untrusted = damaged or (self._untrusted and not keyframe)
        planes = self._canvas.drawn(number, damaged)
        return Picture(
            planes=planes,
            layout=Layout.YUV,
            matrix=Matrix.BT601,
            full_range=False,
            rotation=0,
            width=self._canvas.width,
            height=self._canvas.height,
            sar=None,
            pts=round(number / self._plan.rate + self._jump_s, 6),
            received_ns=time.monotonic_ns(),
            received_us=time.time_ns() // 1000,
            captured_us=None,
            keyframe=keyframe and not damaged,
            corrupt=self._untrusted,
            owner=planes,
        )


class _Canvas:
    """Draws numbers at one size. What never changes is drawn once."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._bit_of_column = _CELLS - 1 - np.arange(width) * _CELLS // width
        self._ramp = (np.arange(2 * width) * 219 // (2 * width) + _BLACK).astype(np.uint8)
        self._rows = (height * 7 // 16, height * 14 // 16)
        across = np.linspace(64, 192, width // 2).astype(np.uint8)
        self._blue = np.broadcast_to(across, (height // 2, width // 2)).copy()
        self._red = np.ascontiguousarray(self._blue[:, ::-1])
        grey = self._rows[1] // 2
        self._blue[:grey], self._red[:grey] = 128, 128
        for plane in (self._blue, self._red):
            plane.flags.writeable = False

    def drawn(self, number: int, damaged: bool) -> tuple[Pixels, Pixels, Pixels]:
        """Luma [H, W] and chroma [H / 2, W / 2] twice; the luma is its own memory. damaged: a smear over it."""
        luma = np.empty((self.height, self.width), np.uint8)
        lit = number >> self._bit_of_column & 1
        first, second = self._rows
        luma[:first] = np.where(lit, _WHITE, _BLACK)
        luma[first:second] = np.where(lit, _BLACK, _WHITE)
        start = 4 * number % self.width
        luma[second:] = self._ramp[start : start + self.width]
        if damaged:
            luma[self.height // 4 :] = 128
        luma.flags.writeable = False
        return luma, self._blue, self._red
