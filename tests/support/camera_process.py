"""A good camera in a process of its own, which can be killed: `python -m tests.support.camera_process`.

Arguments: a clip, a port (0: any free one), pictures per second. Prints its port and plays until its standard
input closes, so that the death of whoever started it ends it too. What it records is thrown away each second: it may
run for days.
"""

from __future__ import annotations

import select
import sys

from tests.support.rtsp_camera import Camera, Stream, units_of

_FORGET_S = 1.0


def main(clip: str, port: int, rate: float) -> None:
    """Play until standard input closes."""
    with Camera(units_of(clip), Stream(rate=rate), port=port) as camera:
        print(camera.port, flush=True)
        while not select.select([sys.stdin], [], [], _FORGET_S)[0]:
            for record in (camera.sent, camera.requests, camera.reports, camera.answers):
                record.clear()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
