"""Lost packets: what is handed on as right is right to the bit, and what is not is called corrupt."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import av
import pytest

from streamd.core.errors import SourceError
from streamd.core.picture import Picture
from streamd.sources import Reader, SourceRequest, Transport, open_source
from tests.support import zmq_reader
from tests.support.clips import Clip, make, number_in
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model, number_of
from tests.support.rtsp_camera import Camera, Faults, Sent, Stream, Units, units_of

pytestmark = pytest.mark.slow

MTU = 100
_CLOCK = 90_000
_CODECS = {"h264": "libx264", "hevc": "libx265"}


@dataclass(frozen=True)
class Seen:
    """What became of one picture: its number, whether it was called corrupt, and whether it is right to the bit."""

    number: int | None
    corrupt: bool
    exact: bool
    keyframe: bool
    pts: float


class Film:
    """A clip, its units, and its pictures as PyAV decodes them from the file."""

    def __init__(self, path: Path) -> None:
        self.units: Units = units_of(path)
        with av.open(str(path)) as clip:
            rows = [_planes_of_frame(frame) for frame in clip.decode(video=0)]
        self._right = dict(enumerate(rows))
        ordered = sorted(self.units.units, key=lambda unit: unit.pts)
        self.shown = [ordered.index(unit) for unit in self.units.units]
        """Of each unit, in decoding order, the number drawn into its picture."""

    def judge(self, picture: Picture) -> Seen:
        """Compare a picture with the one of its time: the drawn number may be beyond reading."""
        assert picture.pts is not None
        number = number_in(picture.planes[0])
        content = b"".join(plane.tobytes() for plane in picture.planes)
        exact = number is not None and self._right.get(number) == content
        return Seen(number, picture.corrupt, exact, picture.keyframe, picture.pts)


def _planes_of_frame(frame: av.VideoFrame) -> bytes:
    return frame.to_ndarray(format="yuv420p").tobytes()


Films: TypeAlias = Callable[[Clip], Film]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Films:
    folder = tmp_path_factory.mktemp("films")
    count = itertools.count()

    @cache
    def made(text: str) -> Film:
        return Film(make(folder / f"{next(count)}.mp4", clips[text]))

    clips: dict[str, Clip] = {}

    def film_of(clip: Clip) -> Film:
        clips[repr(clip)] = clip
        return made(repr(clip))

    return film_of


def watch(
    film: Film, stream: Stream, faults: Faults | None = None, transport: Transport = Transport.TCP
) -> tuple[list[Seen], list[Sent]]:
    """All pictures of one playing, and what the camera sent."""
    seen: list[Seen] = []
    with Camera(film.units, stream, faults=faults) as camera:
        request = SourceRequest(camera.url, reader=Reader.OWN, transport=transport, timeout_s=5)
        with pytest.raises(SourceError, match="ended"), open_source(request, threading.Event()) as source:
            seen.extend(map(film.judge, source.pictures()))
        return seen, camera.sent


def quick(**options: object) -> Stream:
    """As fast as it goes, once, each picture in many packets."""
    return Stream(**{"mtu": MTU, "pace": False, "loop": False, "reports_s": None, **options})  # type: ignore[arg-type]


@cache
def layout(film: Film, stream: Stream) -> list[int]:
    """The index of each unit's first packet, and the number of all at the end."""
    seen, sent = watch(film, stream)
    assert [picture.number for picture in seen] == list(range(len(film.units)))
    assert all(picture.exact and not picture.corrupt for picture in seen)
    return [0, *itertools.accumulate(row.packets for row in sent)]


def losing(film: Film, stream: Stream, unit: int, which: Callable[[range], Sequence[int]]) -> list[Seen]:
    """The pictures when some of one unit's packets are lost."""
    starts = layout(film, stream)
    gone = set(which(range(starts[unit], starts[unit + 1])))
    assert gone
    seen, sent = watch(film, stream, Faults(lose=lambda index: index in gone))
    assert sum(row.lost for row in sent) == len(gone)
    assert [row.lost for row in sent][unit] == len(gone)
    sound(seen)
    return seen


def sound(seen: list[Seen]) -> None:
    """Nothing that is trusted is wrong, and all comes in its order."""
    wrong = [picture for picture in seen if not picture.corrupt and not picture.exact]
    assert not wrong
    numbers = [picture.number for picture in seen if not picture.corrupt]
    assert numbers == sorted(set(numbers), key=lambda number: number or 0)


def trusted(seen: list[Seen]) -> set[int]:
    return {picture.number for picture in seen if not picture.corrupt and picture.number is not None}


WAYS: dict[str, Callable[[range], Sequence[int]]] = {
    "whole": lambda packets: packets,
    "first": lambda packets: packets[:1],
    "middle": lambda packets: packets[1:-1][:1] or packets,
    "last": lambda packets: packets[-1:],
}


@pytest.mark.long
@pytest.mark.parametrize("codec", list(_CODECS))
@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("unit", [5, 11, 12, 23])
def test_a_loss_costs_the_pictures_up_to_the_next_keyframe(
    film: Films, codec: str, way: str, unit: int
) -> None:
    """Keyframes are 0, 12, 24 and so on."""
    seen = losing(film(closed(codec, 48)), quick(), unit, WAYS[way])
    good = trusted(seen)
    keyframe = (unit // 12 + 1) * 12
    assert good >= set(range(unit))
    assert not good & set(range(unit, keyframe))
    if unit + 1 == keyframe and way in ("whole", "last"):
        # Whose end or whose beginning is missing, nobody can tell: the keyframe may be without its parameter sets.
        keyframe += 12
    assert good >= set(range(keyframe, 48))
    assert unit + 1 == keyframe or any(picture.corrupt for picture in seen)


@pytest.mark.parametrize("codec", list(_CODECS))
@pytest.mark.parametrize("way", ["whole", "middle", "last"])
def test_nothing_is_shown_before_a_keyframe_came_whole(film: Films, codec: str, way: str) -> None:
    seen = losing(film(closed(codec, 36)), quick(), 0, WAYS[way])
    assert seen[0].number == 12
    assert seen[0].keyframe
    assert trusted(seen) == set(range(12, 36))


@pytest.mark.parametrize(("codec", "slices"), [("h264", 1), ("h264", 4), ("hevc", 1)])
@pytest.mark.parametrize("gone", range(1, 30, 4))
def test_a_beginning_within_a_picture_is_none(film: Films, codec: str, slices: int, gone: int) -> None:
    """The first packets never come, and no sequence number tells of it."""
    numbers = film(closed(codec, 36, slices=slices))
    seen, _ = watch(numbers, quick(sprop=False), Faults(lose=lambda index: index < gone))
    sound(seen)
    assert trusted(seen) >= set(range(12, 36))


def test_slices_of_their_own_packets_are_missed(film: Films) -> None:
    """Each packet is a whole NAL unit, and what remains of a picture looks like one."""
    numbers = film(closed("h264", 36, slices=4))
    stream = quick(aggregate=False, mtu=1400)
    starts = layout(numbers, stream)
    for lost in range(starts[5], starts[7]):
        seen, _ = watch(numbers, stream, Faults(lose=lambda index: index == lost))  # noqa: B023
        sound(seen)
        assert trusted(seen) >= set(range(5)) | set(range(12, 36))
        assert not trusted(seen) & set(range(7, 12))


@pytest.mark.parametrize("codec", list(_CODECS))
def test_without_its_parameter_sets_a_keyframe_is_not_trusted(film: Films, codec: str) -> None:
    """They are the first packet of a keyframe, alone: everything else of it comes."""
    numbers = film(closed(codec, 36))
    stream = quick(aggregate=False)
    starts = layout(numbers, stream)
    for lost in range(starts[12], starts[12] + len(numbers.units.parameter_sets)):
        seen, _ = watch(numbers, stream, Faults(lose=lambda index: index == lost))  # noqa: B023
        sound(seen)
        assert trusted(seen) == set(range(12)) | set(range(24, 36))


@pytest.mark.long
@pytest.mark.parametrize("codec", list(_CODECS))
@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("unit", range(12, 24, 3))
def test_pictures_that_are_shown_out_of_order(film: Films, codec: str, way: str, unit: int) -> None:
    numbers = film(closed(codec, 48, b_frames=2))
    assert numbers.shown != sorted(numbers.shown)
    seen = losing(numbers, quick(), unit, WAYS[way])
    good = trusted(seen)
    # What was decoded before the loss is right, and what is from the next keyframe but one on.
    assert good >= {numbers.shown[index] for index in range(unit)}
    assert good >= set(range(36, 48))
    assert not good & {numbers.shown[index] for index in range(unit, 24)}


@pytest.mark.long
@pytest.mark.parametrize("codec", list(_CODECS))
@pytest.mark.parametrize("way", ["whole", "middle"])
@pytest.mark.parametrize("back", [1, 3, 5, 8])
def test_open_groups_of_pictures(film: Films, codec: str, way: str, back: int) -> None:
    """Pictures that are decoded after a keyframe and shown before it refer to what was lost."""
    numbers = film(opened(codec))
    keys = [index for index, unit in enumerate(numbers.units.units) if unit.keyframe]
    leading = [numbers.shown[key] > numbers.shown[key + 1] for key in keys[1:]]
    assert any(leading), "no picture is shown before its keyframe"
    lost = keys[2] - back
    seen = losing(numbers, quick(), lost, WAYS[way])
    good = trusted(seen)
    few = len(numbers.units.units[lost].nals[-1]) < 2 * MTU  # all of it is lost then
    recovery = keys[3] if back == 1 and (way == "whole" or few) else keys[2]
    assert not good & {number for number in numbers.shown[lost:] if number < numbers.shown[recovery]}
    assert good >= set(range(numbers.shown[recovery], len(numbers.units)))


@pytest.mark.long
@pytest.mark.parametrize(
    ("codec", "b_frames", "transport"),
    [
        ("h264", 0, Transport.UDP),
        ("hevc", 0, Transport.UDP),
        ("h264", 2, Transport.UDP),
        ("h264", 0, Transport.TCP),
    ],
)
def test_one_packet_in_a_hundred(film: Films, codec: str, b_frames: int, transport: Transport) -> None:
    numbers = film(closed(codec, 240, b_frames))
    stream = Stream(mtu=300, rate=300, loop=False, reports_s=None)
    seen, sent = watch(numbers, stream, Faults(lose=0.01, seed=7), transport)
    sound(seen)
    hurt = doubtful(numbers, sent)
    assert 10 < len(hurt.surely) < 200
    good = trusted(seen)
    assert not good & hurt.surely
    # No picture is given up that was not to be.
    assert good >= set(range(240)) - hurt.perhaps
    corrupt = sum(picture.corrupt for picture in seen)
    assert corrupt <= len(hurt.perhaps)
    assert corrupt >= len(hurt.surely) / 4


@dataclass(frozen=True)
class Hurt:
    """Numbers of pictures: `surely` wrong, or `perhaps` as far as a reader can tell."""

    surely: set[int]
    perhaps: set[int]


def doubtful(film: Film, sent: Sequence[Sent]) -> Hurt:
    """What the camera's losses mean, for closed groups: all to the group's end.

    What is missing at the end of a group may as well be missing at the beginning of the next one.
    """
    hurt = Hurt(set(), set())
    broken = unsure = last_lost = False
    for row in sent:
        unit = film.units.units[row.index]
        if unit.keyframe:
            broken, unsure = False, last_lost
        broken |= row.lost > 0
        last_lost = row.lost > 0
        unsure |= broken
        number = row.number - row.index + film.shown[row.index]
        if broken:
            hurt.surely.add(number)
        if unsure:
            hurt.perhaps.add(number)
    return hurt


def closed(codec: str, frames: int, b_frames: int = 0, slices: int = 1) -> Clip:
    """Groups of 12 pictures, each on its own, and no picture of less than two packets."""
    parts = ["qp=8", "scenecut=0", f"bframes={b_frames}", "b-adapt=0", "open-gop=0"]
    if slices > 1:  # x265 aborts at several slices of so small a picture
        parts.append(f"slices={slices}")
    return _clip(codec, frames, b_frames, parts)


def opened(codec: str) -> Clip:
    """Groups of 12 pictures that need the one before."""
    return _clip(codec, 60, 2, ["qp=8", "scenecut=0", "bframes=2", "b-adapt=0", "open-gop=1"])


def _clip(codec: str, frames: int, b_frames: int, parts: list[str]) -> Clip:
    if codec == "hevc":
        parts = ["log-level=none", "pools=none", "frame-threads=1", *parts]
    name = {"h264": "x264-params", "hevc": "x265-params"}[codec]
    return Clip(_CODECS[codec], frames=frames, b_frames=b_frames, options={name: ":".join(parts)})


def _stays_sound(tmp_path: Path, numbers: Film, rate: int, seconds: float) -> None:
    """The daemon at a camera that loses packets: what it publishes is of whole pictures only."""
    count = len(numbers.units)
    model = make_number_model(tmp_path / "number.onnx")
    with Camera(
        numbers.units, Stream(mtu=300, rate=rate, reports_s=None), faults=Faults(lose=0.01, seed=3)
    ) as camera:
        stream = {"url": camera.url, "reader": "own", "transport": "udp", "max_age_ms": 5000}
        config = write_config(tmp_path / "c.yaml", model, {"gate": stream})
        with (
            RunningDaemon(config) as daemon,
            zmq_reader.Reader(daemon.endpoint, b"streamd/gate/results") as reader,
        ):
            assert camera.until(lambda: len(camera.sent) >= seconds * rate, seconds + 30)
            dropped = daemon.streams()
            metrics = daemon.page("/metrics")
            assert daemon.stop() == 0
        sent = camera.sent
        messages = [message for _, message in reader.messages]
    assert camera.connections == 1
    hurt = doubtful(numbers, sent)
    good = set(range(len(sent))) - hurt.perhaps
    assert len(messages) > len(good) / 2
    # Media time begins at the first packet that came.
    assert sent[0].lost < sent[0].packets
    places = [round(message["pts"] * rate) for message in messages]
    assert [number_of(message["objects"]) for message in messages] == [place % count for place in places]
    assert not hurt.surely & set(places)
    found = re.search(r'streamd_frames_dropped_total\{reason="corrupt",stream="gate"\} (\d+)', metrics)
    assert found is not None
    assert 0 < int(found[1]) <= len(hurt.perhaps)
    assert "'corrupt'" in str(dropped)


@pytest.mark.long
def test_the_daemon_publishes_nothing_from_a_damaged_picture(tmp_path: Path, film: Films) -> None:
    _stays_sound(tmp_path, film(closed("h264", 300)), rate=200, seconds=3)


@pytest.mark.soak
@pytest.mark.parametrize("codec", list(_CODECS))
def test_the_daemon_publishes_nothing_from_a_damaged_picture_for_a_minute(
    tmp_path: Path, film: Films, codec: str
) -> None:
    _stays_sound(tmp_path, film(closed(codec, 300)), rate=30, seconds=60)
