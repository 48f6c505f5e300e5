"""What is read before the first packet: addresses, descriptions, challenges."""

from __future__ import annotations

import hashlib
import re

import pytest

from streamd.core.errors import SourceError
from streamd.sources.rtsp.authentication import Authenticator, LoginError
from streamd.sources.rtsp.description import read
from streamd.sources.rtsp.target import joined, target_of
from streamd.sources.source import SourceRequest


@pytest.mark.parametrize(
    ("url", "host", "port", "asked"),
    [
        ("rtsp://10.0.0.5", "10.0.0.5", 554, "rtsp://10.0.0.5/"),
        ("RTSP://Cam.local:8554/a/b?c=d&e", "Cam.local", 8554, "rtsp://Cam.local:8554/a/b?c=d&e"),
        ("rtsps://cam/s1#part", "cam", 322, "rtsps://cam/s1"),
        ("rtsp://[fe80::1]:554/a b", "fe80::1", 554, "rtsp://[fe80::1]:554/a%20b"),
        ("rtsp://cam?channel=1", "cam", 554, "rtsp://cam/?channel=1"),
        ("rtsp://cam:/a", "cam", 554, "rtsp://cam/a"),
    ],
)
def test_addresses(url: str, host: str, port: int, asked: str) -> None:
    target = target_of(SourceRequest(url))
    assert (target.host, target.port, target.url) == (host, port, asked)
    assert target.secure == url.lower().startswith("rtsps")


@pytest.mark.parametrize(
    "url", ["rtsp://", "rtsp:///path", "rtsp://cam:0/a", "rtsp://cam:70000/a", "rtsp://a:b:c/d"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(SourceError):
        target_of(SourceRequest(url))


@pytest.mark.parametrize(
    ("base", "control", "url"),
    [
        ("rtsp://h/a/", "trackID=1", "rtsp://h/a/trackID=1"),
        ("rtsp://h/a", "trackID=1", "rtsp://h/a/trackID=1"),
        ("rtsp://h/a?x=1", "trackID=1", "rtsp://h/a?x=1/trackID=1"),
        ("rtsp://h/a/", "*", "rtsp://h/a/"),
        ("rtsp://h/a/", "", "rtsp://h/a/"),
        ("rtsp://h/a/", "RTSP://other:5/b", "RTSP://other:5/b"),
        ("rtsp://h:5/a/b", "/c", "rtsp://h:5/c"),
    ],
)
def test_control_addresses(base: str, control: str, url: str) -> None:
    assert joined(base, control) == url


AXIS = b"""v=0
o=- 1 1 IN IP4 10.0.0.5
s=Session
a=control:rtsp://10.0.0.5/axis-media/media.amp?videocodec=h264
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1; profile-level-id=640029; sprop-parameter-sets=Z2QAKa0AxSAeAIn5cFuAgICB,aO48sA==
a=control:rtsp://10.0.0.5/axis-media/media.amp/stream=0
a=framerate:25.000000
m=audio 0 RTP/AVP 97
a=rtpmap:97 mpeg4-generic/16000/1
"""


def test_a_description() -> None:
    found = read(AXIS.replace(b"\n", b"\r\n"))
    assert found.control.endswith("videocodec=h264")
    assert [track.kind for track in found.tracks] == ["video", "audio"]
    video = found.videos[0]
    assert (video.codec, video.payload_type, video.clock_rate, video.rate) == ("H264", 96, 90000, 25)
    assert video.control.endswith("/stream=0")
    assert [unit[0] & 31 for unit in video.parameter_sets] == [7, 8]


@pytest.mark.parametrize(
    ("body", "codec"),
    [
        (b"m=video 0 RTP/AVP 96\na=rtpmap:96 hevc/90000", "H265"),
        (b"m=video 0 RTP/AVP 26", "JPEG"),
        (b"m=video 0 RTP/AVP 96", ""),
        (b"m=video 0 RTP/AVP 96 97\na=rtpmap:97 H264/90000\na=rtpmap:96 H265/90000", "H265"),
        (b"m=video\na=rtpmap:96 H264/90000", "H264"),
        (b"m=video 0 RTP/AVP 96\na=rtpmap:96 H264/0\na=fmtp:96\na=framerate:x", "H264"),
        (b"m=video 0 RTP/AVP 96\na=rtpmap:96 H264\na=fmtp:96 sprop-parameter-sets=%%%,=,A", "H264"),
        (b"a=rtpmap:96 H264/90000\n\xff\xfe\0m=video", None),
        (b"", None),
    ],
)
def test_odd_descriptions(body: bytes, codec: str | None) -> None:
    videos = read(body).videos
    assert [track.codec for track in videos] == ([] if codec is None else [codec])
    for track in videos:
        assert track.clock_rate == 90000
        assert track.parameter_sets == [] or codec == "H264"


def parameters(header: str | None) -> dict[str, str]:
    assert header is not None
    return {
        name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', header)
    }


def test_the_example_of_rfc_2617() -> None:
    login = Authenticator("Mufasa", "Circle Of Life")
    assert login.header("GET", "/dir/index.html") is None
    challenge = (
        'Digest realm="testrealm@host.com", qop="auth,auth-int", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    assert login.challenged([challenge])
    given = parameters(login.header("GET", "/dir/index.html"))
    secret = "939e7578ed9e3c518a452acee763bce9"  # MD5 of Mufasa:testrealm@host.com:Circle Of Life
    asked = "39aff3a2bab6126f332b942af96d3366"  # MD5 of GET:/dir/index.html
    middle = f"{given['nonce']}:00000001:{given['cnonce']}:auth"
    assert given["response"] == hashlib.md5(f"{secret}:{middle}:{asked}".encode()).hexdigest()
    assert given["opaque"] == "5ccc069c403ebaf9f0171e9517f40e41"
    assert parameters(login.header("GET", "/dir/index.html"))["nc"] == "00000002"


def test_the_strongest_way_is_taken_wherever_it_stands() -> None:
    login = Authenticator("u", "p")
    offers = [
        'Basic realm="a, Digest nonce=x"',
        'Digest realm="r", nonce="n1", Digest realm="r", nonce="n2", algorithm=SHA-256',
    ]
    assert login.challenged(offers)
    given = parameters(login.header("DESCRIBE", "rtsp://h/a"))
    assert (given["nonce"], given["algorithm"], len(given["response"])) == ("n2", "SHA-256", 64)


def test_a_refusal_ends_and_a_stale_nonce_does_not() -> None:
    login = Authenticator("u", "p")
    assert login.challenged(['Digest realm="r", nonce="1"'])
    assert login.challenged(['Digest realm="r", nonce="2", stale=TRUE'])
    assert not login.challenged(['Digest realm="r", nonce="3"'])
    assert not Authenticator(None, None).challenged(['Basic realm="r"'])


def test_ways_that_are_not_known() -> None:
    for user, offers, word in [("u", ["Negotiate"], "basic and digest"), ("a:b", ["Basic realm=x"], "colon")]:
        with pytest.raises(LoginError, match=word):
            Authenticator(user, "p").challenged(offers)
    assert Authenticator("a:b", "p").challenged(['Digest realm="x", nonce="y"'])
