"""A camera's description of itself (RFC 4566), for DESCRIBE."""

from __future__ import annotations

import base64

from tests.support.camera_options import Stream
from tests.support.rtp_packets import Units, nal_type


def described(units: Units, stream: Stream, url: str) -> str:
    """The SDP of a camera at this URL."""
    media = [_video(units, stream)]
    if stream.audio is not None:
        media.insert(1 if stream.audio == "after" else 0, ["m=audio 0 RTP/AVP 0", "a=rtpmap:0 PCMU/8000"])
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=camera", "c=IN IP4 0.0.0.0", "t=0 0"]
    whole = {"absolute": url, "query": url, "none": None}.get(stream.control, "*")
    lines += [f"a=control:{whole}"] if whole is not None else []
    for index, rows in enumerate(media):
        lines += rows
        lines += [f"a=control:{value}" for value in _control(stream, url, index)]
    return "\r\n".join(lines) + "\r\n"


def _control(stream: Stream, url: str, index: int) -> list[str]:
    track = f"trackID={index}"
    return {
        "relative": [track],
        "absolute": [f"{url}/{track}"],
        "star": ["*"],
        "query": [f"{url}/{track}?profile=main&token=a%20b"],
        "relative-query": [f"{track}?profile=main&token=a%20b"],
        "none": [],
    }[stream.control]


def _video(units: Units, stream: Stream) -> list[str]:
    sets = [(nal_type(units.codec, nal), base64.b64encode(nal).decode()) for nal in units.parameter_sets]
    parameters = []
    if units.codec == "h264":
        profile = next(nal for nal in units.parameter_sets if nal_type("h264", nal) == 7)[1:4].hex()
        parameters += ["packetization-mode=1", f"profile-level-id={profile}"]
        if stream.sprop:
            parameters.append("sprop-parameter-sets=" + ",".join(text for _, text in sets))
    elif stream.sprop:
        for kind, name in ((32, "vps"), (33, "sps"), (34, "pps")):
            parameters.append(f"sprop-{name}=" + ",".join(text for found, text in sets if found == kind))
    name = {"h264": "H264", "hevc": "H265"}[units.codec]
    lines = [
        "m=video 0 RTP/AVP 96",
        f"a=rtpmap:96 {name}/90000",
        f"a=framerate:{stream.rate or units.rate:g}",
    ]
    return lines + ([f"a=fmtp:96 {'; '.join(parameters)}"] if parameters else [])
