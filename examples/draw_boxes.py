"""Draw boxes into a daemon's live pictures: in a window, into a movie or into a folder of JPEGs.

Run:    python draw_boxes.py ENDPOINT                     (windows, one a stream; q or Ctrl-C ends)
        python draw_boxes.py ENDPOINT gate.mp4 --stream gate
        python draw_boxes.py ENDPOINT pictures/           (STREAM-EPOCH-SEQ.jpg)
        --limit N ends after N pictures
Prints: 100 pictures in gate.mp4 (to stderr, at the end)
Needs:  streamd, which brings OpenCV and PyAV. Its OpenCV is headless: for windows, on a machine with a screen,
        `pip uninstall opencv-python-headless && pip install opencv-python`.

ENDPOINT is the daemon's `publish.frames`, say tcp://127.0.0.1:5561; `frames_max_fps` there says how many pictures a
second come. The movie keeps their real times. A kill leaves all of it but its last second. Waits for a daemon that is
not there yet; ends with Ctrl-C.
"""

import argparse
import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from streamd import StreamdError, pictures

COLOURS = ((80, 220, 100), (60, 170, 255), (255, 160, 60), (200, 110, 255), (90, 230, 230))  # BGR
MICROSECOND = Fraction(1, 1_000_000)


def draw(image, objects):
    thickness = max(1, round(min(image.shape[:2]) / 360))
    for item in reversed(objects):  # the best on top
        colour = COLOURS[item.class_id % len(COLOURS)]
        x1, y1, x2, y2 = (round(edge) for edge in item.box)  # x2 and y2 are the first beyond the box
        cv2.rectangle(image, (x1, y1), (max(x1, x2 - 1), max(y1, y2 - 1)), colour, thickness)
        label = f"{item.class_name} {item.score:.2f}"
        place = (x1 + 2, y1 - 4 if y1 > 16 else y1 + 14)
        cv2.putText(image, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)


class Windows:
    def __init__(self):
        # Without a screen Qt would not raise an error but end the process.
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            sys.exit("draw_boxes: no screen here (DISPLAY is not set); name a movie or a folder to write to")
        try:
            cv2.namedWindow("streamd", cv2.WINDOW_NORMAL)
            cv2.destroyWindow("streamd")
        except (cv2.error, AttributeError):
            sys.exit(
                "draw_boxes: this OpenCV is headless and opens no window; name a movie or a folder to write to"
            )

    def show(self, result, image):
        cv2.imshow(result.stream, image)
        if cv2.waitKey(1) == ord("q"):
            raise KeyboardInterrupt

    def close(self):
        cv2.destroyAllWindows()


class Folder:
    def __init__(self, path):
        self.path = Path(path)
        self.path.mkdir(exist_ok=True)

    def show(self, result, image):
        _, jpeg = cv2.imencode(".jpg", image)
        (self.path / f"{result.stream}-{result.epoch}-{result.seq:08}.jpg").write_bytes(jpeg)

    def close(self):
        pass


class Movie:
    def __init__(self, path):
        open(path, "wb").close()  # libav would tell what is wrong with the place at the first picture only
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"}
        self.container = av.open(f"file:{path}", "w", format="mp4", options=options)
        self.stream = None

    def show(self, result, image):
        if self.stream is None:
            self.first_us, self.last = result.received_us, -1
            self.stream = self.container.add_stream("libx264", options={"preset": "veryfast"})
            self.stream.codec_context.time_base = MICROSECOND
            self.stream.codec_context.max_b_frames = 0
            # H.264 as players know it has even sizes.
            self.stream.height, self.stream.width = (side + side % 2 for side in image.shape[:2])
            self.stream.pix_fmt = "yuv420p"
        size = self.stream.width, self.stream.height
        if image.shape[1::-1] != size:  # odd, or the camera changed: a movie has one size
            image = cv2.resize(image, size)
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        self.last = max(self.last + 1, result.received_us - self.first_us)
        frame.pts, frame.time_base = self.last, MICROSECOND
        self.container.mux(self.stream.encode(frame))

    def close(self):
        if self.stream is not None:
            self.container.mux(self.stream.encode(None))
        self.container.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("endpoint")
    parser.add_argument("output", nargs="?", help="FILE.mp4 or a folder; without it a window")
    parser.add_argument("--stream")
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    movie = options.output is not None and options.output.endswith(".mp4")
    if movie and not options.stream:
        parser.error("a movie is of one stream; name it with --stream")
    shown = 0
    try:
        output = Movie(options.output) if movie else Folder(options.output) if options.output else Windows()
        try:
            with pictures(options.endpoint, stream=options.stream) as feed:
                for result, jpeg in feed:
                    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                    if image is None:
                        raise StreamdError(
                            f"{result.stream}: what came with result {result.seq} is no picture"
                        )
                    draw(image, result.objects)
                    output.show(result, image)
                    shown += 1
                    if shown == options.limit:
                        break
        finally:
            output.close()
    except KeyboardInterrupt:
        pass
    except (StreamdError, OSError) as error:
        sys.exit(f"draw_boxes: {error}")
    print(f"{shown} pictures in {options.output or 'windows'}", file=sys.stderr)


if __name__ == "__main__":
    main()
