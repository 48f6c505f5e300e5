"""Writes the clips that `streamd doctor` tries decoders with into the package.

python tools/make_trial_clips.py
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from streamd.sources.libav.trial import PICTURES, grey

FOLDER = Path(__file__).parent.parent / "streamd" / "assets"
# NVDEC takes no smaller H.265 than 144 x 144.
WIDTH, HEIGHT = 320, 240
_QUIET = {"x265-params": "log-level=none"}


def main() -> None:
    for codec, name in (("libx264", "trial_h264.mp4"), ("libx265", "trial_h265.mp4")):
        with av.open(str(FOLDER / name), "w") as out:
            stream = out.add_stream(codec, rate=5, options=_QUIET if codec == "libx265" else {})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for number in range(PICTURES):
                frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
                for plane, value in zip(frame.planes, (grey(number), 128, 128), strict=True):
                    plane.update(np.full(plane.buffer_size, value, np.uint8))
                frame.pts = number
                out.mux(stream.encode(frame))
            out.mux(stream.encode())


if __name__ == "__main__":
    main()
