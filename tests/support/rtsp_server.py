"""A real RTSP server for tests: GStreamer's gst-rtsp-server, in a child process of the system's Python.

    with serve([Mount("gate"), Mount("yard", codec="h265", rate=25)]) as server:
        server.url("gate")  # rtsp://127.0.0.1:PORT/gate

Debian's bindings (gi) belong to the system's Python, so this file is its own child: it is run by
/usr/bin/python3 as a script, prints its port, and serves until its standard input closes. Nothing of the
project and no third-party module may be imported at its top.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

PYTHON = "/usr/bin/python3"
PACKAGES = (
    "apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base"
    " gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav"
)
_START_S = 20


@dataclass(frozen=True)
class Mount:
    """One stream, encoded as it is sent: test pictures, or the pictures of a clip over and over.

    codec: "h264" or "h265". gop: pictures between keyframes. slices: of each picture (H.264 only: x265 crashes
    in Debian's GStreamer with several). pattern: of videotestsrc. clip: path of a short video of this size, whose
    pictures are sent at `rate`; all of it is held in memory unpacked.
    """

    name: str
    codec: str = "h264"
    width: int = 320
    height: int = 240
    rate: int = 25
    gop: int = 25
    b_frames: int = 0
    slices: int = 1
    pattern: str = "ball"
    clip: str | None = None


@dataclass(frozen=True)
class Access:
    """Who may read, how that is asked ("basic" or "digest"), and over what ("tcp+udp", "tcp" or "udp")."""

    username: str | None = None
    password: str | None = None
    scheme: str = "basic"
    transports: str = "tcp+udp"


class Server:
    """A running server; `kill` ends it at once, as a camera that loses its power."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self.port = port

    def url(self, name: str) -> str:
        """The address of a mount, without credentials."""
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def kill(self) -> None:
        """End the process without a word to its clients."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Halt the process: its connections stay open and nothing comes any more."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        self._process.send_signal(signal.SIGCONT)


def missing() -> str | None:
    """Why no server can be started here, with the command that mends it; None when one can."""
    check = (
        "import gi; gi.require_version('Gst','1.0'); gi.require_version('GstRtspServer','1.0');"
        "from gi.repository import Gst, GstRtspServer; Gst.init(None);"
        "assert all(Gst.ElementFactory.find(n) for n in"
        " ('x264enc','x265enc','rtph264pay','rtph265pay','rawvideoparse'))"
    )
    try:
        done = subprocess.run([PYTHON, "-c", check], capture_output=True, timeout=_START_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        done = None
    return None if done is not None and done.returncode == 0 else f"no gst-rtsp-server here: {PACKAGES}"


@contextlib.contextmanager
def serve(mounts: list[Mount], access: Access | None = None, port: int = 0) -> Iterator[Server]:
    """Serve the mounts on 127.0.0.1 while the context lasts. Port 0: any free one, see `Server.port`."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [asdict(mount) for mount in mounts]
        for index, row in enumerate(rows):
            if row["clip"]:
                row["clip"] = _unpacked(row, os.path.join(folder, f"{index}.yuv"))
        request = json.dumps({"mounts": rows, "access": asdict(access or Access()), "port": port})
        with subprocess.Popen(
            [PYTHON, __file__, request], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield Server(process, _port_of(process))
            finally:
                process.kill()


def _unpacked(mount: dict[str, Any], path: str) -> str:
    import av

    with av.open(mount["clip"]) as clip, open(path, "wb") as out:
        for frame in clip.decode(video=0):
            assert (frame.width, frame.height) == (mount["width"], mount["height"])
            out.write(frame.to_ndarray(format="yuv420p").tobytes())
    return path


def _port_of(process: subprocess.Popen[str]) -> int:
    watch = threading.Timer(_START_S, process.kill)
    watch.start()
    assert process.stdout is not None
    line = process.stdout.readline()
    watch.cancel()
    if not line.strip().isdigit():
        raise RuntimeError("the RTSP server did not start; run this file by hand to see why")
    return int(line)


# -- the child ------------------------------------------------------------------------------------------


def _pipeline(mount: dict[str, Any]) -> str:
    codec, size = mount["codec"], f"width={mount['width']},height={mount['height']}"
    if mount["clip"]:
        pictures = (
            f"multifilesrc location={mount['clip']} loop=true ! rawvideoparse format=i420"
            f" width={mount['width']} height={mount['height']} framerate={mount['rate']}/1"
        )
    else:
        pictures = f"videotestsrc is-live=true pattern={mount['pattern']}"
    speed = f"speed-preset=ultrafast bitrate=1000 key-int-max={mount['gop']}"
    if not mount["b_frames"]:
        speed += " tune=zerolatency"
    encoder = {
        "h264": (
            f"x264enc {speed} threads=1 sliced-threads=false bframes={mount['b_frames']}"
            f" option-string=slices={mount['slices']}"
        ),
        "h265": (f"x265enc {speed} option-string=pools=none:frame-threads=1:bframes={mount['b_frames']}"),
    }[str(codec)]
    # With several slices this payloader repeats the parameter sets before each, where libav's parser begins a
    # picture anew: they are in the description as well.
    interval = -1 if mount["slices"] == 1 else 0
    return (
        f"( {pictures} ! video/x-raw,format=I420,{size},framerate={mount['rate']}/1 !"
        f" {encoder} ! rtp{codec}pay name=pay0 pt=96 config-interval={interval} )"
    )


def _serve_forever(request: dict[str, Any]) -> None:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtsp", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

    Gst.init(None)
    loop = GLib.MainLoop()
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(request["port"]))
    access = request["access"]
    transports = {
        "tcp": GstRtsp.RTSPLowerTrans.TCP,
        "udp": GstRtsp.RTSPLowerTrans.UDP,
        "tcp+udp": GstRtsp.RTSPLowerTrans.TCP | GstRtsp.RTSPLowerTrans.UDP,
    }[access["transports"]]
    mounts = server.get_mount_points()
    for mount in request["mounts"]:
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(_pipeline(mount))
        factory.set_shared(True)
        factory.set_protocols(transports)
        if access["username"] is not None:
            permissions = GstRtspServer.RTSPPermissions()
            permissions.add_permission_for_role("viewer", "media.factory.access", True)
            permissions.add_permission_for_role("viewer", "media.factory.construct", True)
            factory.set_permissions(permissions)
        mounts.add_factory("/" + mount["name"], factory)
    if access["username"] is not None:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        if access["scheme"] == "digest":
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(access["username"], access["password"], token)
        else:
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
            basic = GstRtspServer.RTSPAuth.make_basic(access["username"], access["password"])
            auth.add_basic(basic, token)
        server.set_auth(auth)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    # The parent's death closes this end: no server is left behind.
    GLib.io_add_watch(
        GLib.IOChannel.unix_new(0), GLib.PRIORITY_DEFAULT, GLib.IOCondition.HUP, lambda *_: loop.quit()
    )
    loop.run()


if __name__ == "__main__":
    _serve_forever(json.loads(sys.argv[1]))
