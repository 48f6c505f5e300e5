"""Writes the README's picture: a frame of what `streamd demo` writes, as it is.

python -m tools.make_pictures
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import av
import cv2

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "demo.jpg"
_SECOND = 4.0


def main() -> None:
    """Run the demo in a folder of its own and keep one frame."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "streamd", "demo"], cwd=folder, check=True)
        with av.open(str(Path(folder) / "demo.mp4")) as container:
            frame = next(one for one in container.decode(video=0) if (one.time or 0) >= _SECOND)
            picture = frame.to_ndarray(format="bgr24")
    PICTURE.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(PICTURE), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
