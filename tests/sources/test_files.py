"""Files: every picture that PyAV decodes, in order, and a word when one is cut."""

from __future__ import annotations

import os
import socket
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamd.core.errors import Reason
from streamd.models.colour import upright_bgr
from streamd.sources import Hardware, open_source
from tests.support.clips import Clip, drawn, make, number_in
from tests.support.readings import cut, grey, read, request


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("plain.mp4", Clip()),
        ("b-frames.mp4", Clip(b_frames=3)),
        ("hevc.mkv", Clip(codec="libx265", b_frames=2)),
        ("motion.avi", Clip(codec="mjpeg", pix_fmt="yuvj420p", full_range=True)),
        ("asp.avi", Clip(codec="mpeg4", b_frames=2)),
        ("late.ts", Clip(start_s=5, b_frames=2)),
        ("raw.h264", Clip(b_frames=2)),
        ("raw.mjpeg", Clip(codec="mjpeg", pix_fmt="yuvj420p")),
        ("uneven.mkv", Clip(times=[0.04 * i + 0.1 * (i // 5) for i in range(30)])),
        ("long sound.mp4", Clip(sound_s=3)),
        ("long sound.mkv", Clip(sound_s=3)),
        ("odd.mkv", Clip(codec="ffv1", width=321, height=243)),
        ("fragments.mp4", Clip(container={"movflags": "frag_keyframe+empty_moov"})),
        ("flash.flv", Clip()),
        ("one.mp4", Clip(frames=1)),
    ],
)
def test_every_picture_comes_once_in_order_with_its_time(tmp_path: Path, name: str, clip: Clip) -> None:
    path = make(tmp_path / name, clip)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [
            None if f.pts is None else round(float(f.pts * stream.time_base), 6)
            for f in container.decode(stream)
        ]
    for threads in (1, 3):
        assert read(path, threads=threads) == (list(range(clip.frames)), times, None)


@pytest.mark.long
@pytest.mark.parametrize(("share", "threads"), [(0.3, 1), (0.6, 3), (0.8, 1)])
@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.ts", "a.mjpeg", "first.mp4"])
def test_a_cut_file_gives_what_it_has_and_says_where_it_ends(
    tmp_path: Path, name: str, share: float, threads: int
) -> None:
    codec = "mjpeg" if name in ("a.avi", "a.mjpeg") else "libx264"
    container = {"movflags": "faststart"} if name == "first.mp4" else {}
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = make(
        tmp_path / name,
        Clip(codec=codec, pix_fmt=pix_fmt, frames=60, b_frames=2, container=container),
    )
    numbers, _, error = read(cut(path, share), threads=threads)
    assert 60 * share - 12 < len(numbers) <= 60 * share + 8
    whole = numbers[:-1]  # the last may be damaged
    assert whole == list(range(len(whole)))
    assert error is not None
    assert error.reason in (Reason.EOF, Reason.CORRUPT)
    assert f"frame {len(numbers) - 1}" in str(error)
    assert "\n" not in str(error)
    assert read(cut(path, share))[0] == numbers


def test_damage_in_the_middle_does_not_end_a_file(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", Clip(frames=60))
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        victim = [packet for packet in container.demux(video=0) if packet.size][20]
        at, size = victim.pos, victim.size
    content[at : at + size] = bytes(255 for _ in range(size))
    path.write_bytes(content)
    with open_source(request(path), threading.Event()) as source:
        numbers = [number_in(grey(picture)) for picture in source.pictures()]
        assert source.damaged >= 1
    assert numbers[:20] == list(range(20))
    assert numbers[-20:] == list(range(40, 60))


@pytest.mark.slow
def test_what_is_known_of_a_file(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", Clip(frames=50, sar=Fraction(4, 3)))
    with open_source(request(path, hardware=Hardware.CUDA), threading.Event()) as source:
        assert (source.live, source.clock, source.codec) == (False, "file", "h264")
        assert (source.width, source.height, source.frames) == (320, 240, 50)
        assert source.rate == pytest.approx(25)
        assert source.duration_s == pytest.approx(2)
        assert source.notes[0].startswith("hardware: cuda: the model runs on no GPU")
        picture = next(source.pictures())
    assert picture.sar == Fraction(4, 3)
    assert picture.keyframe
    assert not picture.corrupt
    assert abs(picture.received_us - picture.received_ns // 1000) > 0


@pytest.mark.slow
def test_a_later_start_leaves_out_what_lies_before(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", Clip(frames=50, b_frames=2))
    with open_source(request(path, start_s=1.0), threading.Event()) as source:
        numbers = [number_in(grey(picture)) for picture in source.pictures()]
        assert source.skipped == 25
    assert numbers == list(range(25, 50))
    _, _, error = read(make(tmp_path / "a.h264"), start_s=0.5)
    assert "carry no time" in str(error)


@pytest.mark.slow
def test_one_of_several_video_streams(tmp_path: Path) -> None:
    path = make(tmp_path / "two.mkv", Clip(second_video=True, sound_s=1))
    assert read(path)[0] == list(range(30))
    assert read(path, video=0)[0] == list(range(30))
    assert read(path, video=1)[0] == list(range(1000, 1030))
    _, _, error = read(path, video=2)
    assert error is not None
    assert error.reason is Reason.NOT_FOUND
    assert "there are 2" in str(error)


@pytest.mark.slow
def test_the_best_of_several_video_streams_is_the_largest(tmp_path: Path) -> None:
    path = tmp_path / "small_first.mkv"
    with av.open(str(make(tmp_path / "two.mkv", Clip(second_video=True)))) as two, av.open(path, "w") as out:
        large, small = two.streams.video
        copies = {stream: out.add_stream_from_template(stream) for stream in (small, large)}
        for packet in two.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream]
                out.mux(packet)
    assert read(path)[0] == list(range(30))


@pytest.mark.slow
def test_the_stop_flag_ends_reading(tmp_path: Path) -> None:
    stop, numbers = threading.Event(), []
    with open_source(request(make(tmp_path / "a.mp4")), stop) as source:
        for picture in source.pictures():
            numbers.append(number_in(grey(picture)))
            if len(numbers) == 5:
                stop.set()
    assert numbers == [0, 1, 2, 3, 4]


def test_a_closed_source_gives_no_more_pictures_and_those_it_gave_live_on(tmp_path: Path) -> None:
    source = open_source(request(make(tmp_path / "a.mp4")), threading.Event())
    reader = source.pictures()
    first = next(reader)
    source.close()
    source.close()
    assert list(reader) == []
    del source, reader
    assert number_in(grey(first)) == 0


def test_a_size_that_changes_in_mid_stream_is_followed(tmp_path: Path) -> None:
    small = make(tmp_path / "small.h264", Clip(frames=5))
    large = make(tmp_path / "large.h264", Clip(frames=5, first=5, width=640, height=352))
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    with open_source(request(both), threading.Event()) as source:
        found = [(picture.width, number_in(grey(picture))) for picture in source.pictures()]
    assert found == [(320, number) for number in range(5)] + [(640, number) for number in range(5, 10)]


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tiff"])
@pytest.mark.parametrize("named", ["plain", "100% a?b*[c] %03d", "with: colon", "new\nline", "file:x"])
def test_pictures_of_any_kind_and_name(tmp_path: Path, suffix: str, named: str) -> None:
    path = tmp_path / f"{named}.{suffix}"
    codec, pix_fmt = {
        "jpg": ("mjpeg", "yuvj444p"),
        "png": ("png", "rgb24"),
        "bmp": ("bmp", "bgr24"),
        "tiff": ("tiff", "rgb24"),
    }[suffix]
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 160, 120, pix_fmt, Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(drawn(77, 160, 120), format="rgb24").reformat(format=pix_fmt)
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))
    with open_source(request(path), threading.Event()) as source:
        pictures = list(source.pictures())
        assert [number_in(grey(picture)) for picture in pictures] == [77]
        assert not source.live
    if suffix in ("jpg", "png"):
        _, _, error = read(cut(path, 0.5))
        assert error is not None


def test_a_picture_lying_by_its_exif_is_turned(tmp_path: Path) -> None:
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 160, 120, "yuvj444p", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(drawn(5, 160, 120), format="rgb24").reformat(format="yuvj444p")
    jpeg = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    # TIFF header, one entry: orientation (0x0112), short, 1 value: 6, "turn 90 degrees clockwise".
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    path = tmp_path / "lying.jpg"
    path.write_bytes(jpeg[:2] + segment + jpeg[2:])
    with open_source(request(path), threading.Event()) as source:
        picture = next(source.pictures())
        assert (source.width, source.height) == (120, 160)
    assert picture.rotation == 90
    assert upright_bgr(picture).shape == (160, 120, 3)


@pytest.mark.parametrize(
    ("name", "content", "reason", "word"),
    [
        ("missing.mp4", None, Reason.NOT_FOUND, "no such file"),
        ("empty.mp4", b"", Reason.CORRUPT, "empty"),
        ("text.mp4", b"hello, this is no video at all\n" * 50, Reason.CORRUPT, "not a video"),
        ("zeros.jpg", bytes(5000), Reason.CORRUPT, "no picture"),
        (
            "pointer.mp4",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            Reason.CORRUPT,
            "git lfs pull",
        ),
        ("start.png", b"\x89PNG\r\n\x1a\n", Reason.CORRUPT, "no picture"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", Reason.CORRUPT, ""),
    ],
)
def test_refusals_are_one_clear_line(
    tmp_path: Path, name: str, content: bytes | None, reason: Reason, word: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    _, _, error = read(path)
    assert error is not None
    assert error.reason is reason
    assert error.exit_code == 1
    assert word in str(error)
    assert name in str(error)
    assert "\n" not in str(error)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket.mp4"))
    for name in (
        tmp_path,
        tmp_path / "pipe.mp4",
        tmp_path / "socket.mp4",
        "/dev/zero",
        "a\0b.mp4",
        "x" * 5000,
    ):
        _, _, error = read(name)
        assert error is not None
        assert error.reason is Reason.NOT_FOUND
    listener.close()


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    _, _, error = read(path)
    assert error is not None
    assert error.reason is Reason.CODEC
    assert "only audio" in str(error)


def test_unknown_schemes_are_refused_by_name() -> None:
    _, _, error = read("ftp://host/a.mp4")
    assert "ftp:" in str(error)


@pytest.mark.long
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi", "h264"])
def test_random_damage_never_crashes(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path / f"a.{suffix}", Clip(frames=20, width=128, height=96))
    whole = path.read_bytes()
    for seed in range(12):
        random = np.random.default_rng(seed)
        content = bytearray(whole)
        for at in random.integers(0, len(content), 30):
            content[at] = int(random.integers(256))
        path.write_bytes(content)
        numbers, _, _ = read(path, threads=1 + seed % 3)
        assert len(numbers) < 60
