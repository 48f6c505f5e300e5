"""A longer clip of a short one, for measuring: its packets again and again, nothing encoded anew.

python -m tests.support.looped CLIP.mp4 LONG.mp4 --frames 1000
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av


def loop(clip: Path, long: Path, frames: int) -> int:
    """Write whole rounds of `clip` until there are at least so many pictures; their number."""
    written, offset = 0, 0
    with av.open(str(long), "w") as out:
        target = None
        while written < frames:
            with av.open(str(clip)) as source:
                stream = source.streams.video[0]
                target = target or out.add_stream_from_template(stream)
                end = 0
                for packet in source.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue  # the end of the stream
                    end = max(end, packet.pts + (packet.duration or 0))
                    packet.pts += offset
                    packet.dts += offset
                    packet.stream = target
                    out.mux(packet)
                    written += 1
                offset += end
    return written


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("long", type=Path)
    parser.add_argument("--frames", type=int, default=1000)
    chosen = parser.parse_args()
    print(loop(chosen.clip, chosen.long, chosen.frames), "pictures")


if __name__ == "__main__":
    main()
