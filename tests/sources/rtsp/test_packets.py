"""From RTP packets to access units, packet by packet."""

from __future__ import annotations

import random
import struct

import pytest

from streamd.sources.libav.planes import Arrival
from streamd.sources.rtsp import rtcp
from streamd.sources.rtsp.depacketise import Depacketiser
from streamd.sources.rtsp.nal import H264, H265, INFORMATION, INSTANT, PARAMETERS, SLICE, Codec
from streamd.sources.rtsp.reorder import HOLD_NS, Reorderer
from streamd.sources.rtsp.rtp import Packet, Reception, Timeline, parse
from streamd.sources.rtsp.units import AccessUnit, Assembler

IDR, P, SPS = b"\x65\x88\x84", b"\x41\x9a\x02", b"\x67\x42\x00"
SECOND_SLICE = b"\x41\x02\x03"


def packet(
    sequence: int, payload: bytes, timestamp: int = 0, marker: bool = False, ns: int = 0, ssrc: int = 1
) -> Packet:
    return Packet(96, marker, sequence & 0xFFFF, timestamp, ssrc, payload, Arrival(ns, ns // 1000))


def assemble(
    packets: list[Packet], codec: Codec = H264, lost_before: tuple[int, ...] = ()
) -> list[AccessUnit]:
    assembler = Assembler(Depacketiser(codec))
    units = [
        unit for index, item in enumerate(packets) for unit in assembler.push(item, index in lost_before)
    ]
    return units + assembler.flush()


def nals(unit: AccessUnit) -> list[bytes]:
    return bytes(unit.data).split(b"\0\0\0\1")[1:]


@pytest.mark.parametrize("extra", ["plain", "padding", "sources", "extension"])
def test_a_packet_is_read(extra: str) -> None:
    first, middle, end = 0x80, b"", b""
    if extra == "padding":
        first, end = 0xA0, b"\0\0\3"
    elif extra == "sources":
        first, middle = 0x82, bytes(8)
    elif extra == "extension":
        first, middle = 0x90, b"\xbe\xde\0\2" + bytes(8)
    data = struct.pack("!BBHII", first, 0x80 | 96, 65535, 2**32 - 1, 7) + middle + b"load" + end
    found = parse(data, Arrival(1, 2))
    assert found == Packet(96, True, 65535, 2**32 - 1, 7, b"load", Arrival(1, 2))
    for size in range(len(data) - 4 - len(end)):
        assert parse(data[:size], Arrival(1, 2)) is None or size >= 12


def test_single_units_and_aggregates() -> None:
    def aggregate(*parts: bytes) -> bytes:
        return b"\x18" + b"".join(len(part).to_bytes(2) + part for part in parts)

    (unit,) = assemble([packet(1, aggregate(SPS, b"\x68\xce")), packet(2, IDR, marker=True)])
    assert nals(unit) == [SPS, b"\x68\xce", IDR]
    assert unit.roles == PARAMETERS | INSTANT
    assert not unit.damaged
    (cut,) = assemble([packet(1, aggregate(SPS, IDR)[:-1], marker=True), packet(2, IDR, marker=True)])
    assert cut.damaged


@pytest.mark.parametrize("codec", [H264, H265])
def test_fragments(codec: Codec) -> None:
    content = random.Random(1).randbytes(3000)
    if codec is H264:
        nal, head = b"\x65" + content, b"\x7c"
        flags = [0x85, 0x05, 0x45]
    else:
        nal, head = b"\x26\x01" + content, b"\x62\x01"
        flags = [0x80 | 19, 19, 0x40 | 19]
    parts = [
        head + bytes([flag]) + content[start : start + 1000]
        for flag, start in zip(flags, (0, 1000, 2000), strict=True)
    ]
    whole = [packet(index, part, marker=index == 2) for index, part in enumerate(parts)]
    (unit,) = assemble(whole, codec)
    assert nals(unit) == [nal]
    assert (unit.damaged, unit.roles) == (False, INSTANT)
    (cut,) = assemble([whole[0], whole[2]], codec, lost_before=(1,))
    assert cut.damaged
    (headless,) = assemble([packet(9, b"\x41\x9a" if codec is H264 else b"\x02\x01\x80"), *whole[1:]], codec)
    assert headless.damaged


def pictures(markers: list[list[bool]], ticks: int = 3000) -> list[Packet]:
    """Pictures of as many slices as each row has, with these marker bits."""
    packets, sequence = [], 0
    for index, row in enumerate(markers):
        for slice_index, marker in enumerate(row):
            first = IDR if index == 0 else P
            payload = first if slice_index == 0 else bytes([first[0]]) + SECOND_SLICE[1:]
            packets.append(packet(sequence, payload, index * ticks, marker))
            sequence += 1
    return packets


def when(packets: list[Packet]) -> list[int]:
    """The index of the packet that completes each picture."""
    assembler = Assembler(Depacketiser(H264))
    return [index for index, item in enumerate(packets) for _ in assembler.push(item, False)]


def test_a_right_marker_ends_a_picture_at_its_last_packet() -> None:
    right = pictures([[False, True]] * 5)
    # The first one proves the bit; it ends when the second begins.
    assert when(right) == [2, 3, 5, 7, 9]


@pytest.mark.parametrize("row", [[False, False], [True, True]], ids=["missing", "on every packet"])
def test_a_wrong_marker_is_not_believed(row: list[bool]) -> None:
    wrong = pictures([row] * 5)
    assert when(wrong) == [2, 4, 6, 8]
    units = assemble(wrong)
    assert [len(nals(unit)) for unit in units] == [2] * 5
    assert not any(unit.damaged for unit in units[:-1])


def test_a_marker_that_turns_wrong_costs_one_picture() -> None:
    units = assemble(pictures([[False, True], [False, True], [True, True], [False, True], [False, True]]))
    assert [unit.damaged for unit in units] == [False, False, False, True, False, False]


def test_parameter_sets_with_a_marker_belong_to_the_next_picture() -> None:
    before = pictures([[False, True]] * 2)
    sets = packet(4, SPS, 6000, True)
    units = assemble([*before, sets, packet(5, IDR, 6000, False), packet(6, b"\x65\x02", 6000, True)])
    assert [len(nals(unit)) for unit in units] == [2, 2, 3]
    other_time = [
        *before,
        replace_timestamp(sets, 5990),
        packet(5, IDR, 6000),
        packet(6, b"\x65\x02", 6000, True),
    ]
    assert [len(nals(unit)) for unit in assemble(other_time)] == [2, 2, 3]


def replace_timestamp(item: Packet, timestamp: int) -> Packet:
    return item._replace(timestamp=timestamp)


def test_pictures_that_share_a_timestamp_are_told_apart() -> None:
    units = assemble(pictures([[False, True]] * 6, ticks=0))
    assert [len(nals(unit)) for unit in units] == [2] * 6
    assert not any(unit.damaged for unit in units)


def test_a_gap_damages_the_picture_before_and_after() -> None:
    packets = pictures([[False, True]] * 4)
    units = assemble([*packets[:3], *packets[4:]], lost_before=(3,))
    assert [unit.damaged for unit in units] == [False, True, True, False]


def test_a_recovery_point_is_found() -> None:
    sei = b"\x06\x05\x02ab\x06\x01\x50\x80"  # another message first; then type 6, 1 byte: ue(v) 010 = 1
    (unit,) = assemble([packet(1, sei), packet(2, P, marker=True)])
    assert (unit.roles, unit.recovery) == (INFORMATION | SLICE, 1)


def test_sequences() -> None:
    reception = Reception(90000)
    gaps = [reception.gap(packet(number, b"x")) for number in (65533, 65534, 65535, 0, 1, 4, 3, 4, 5)]
    assert gaps == [0, 0, 0, 0, 0, 2, None, None, 0]
    fraction, lost, highest, _ = reception.report()
    assert (lost, highest) == (2, 65536 + 5)
    assert fraction == 256 * 2 // 9
    assert reception.gap(packet(40000, b"x")) == 1  # a new beginning
    assert reception.gap(packet(40001, b"x")) == 0
    assert reception.gap(packet(7, b"x", ssrc=2)) == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_shuffled_stream_comes_in_order(seed: int) -> None:
    chance = random.Random(seed)
    order = sorted(range(200), key=lambda number: number + chance.randrange(8))
    order.insert(50, order[40])  # a copy
    reorderer, reception = Reorderer(), Reception(90000)
    start = 65400
    first = packet(start - 1, b"first")
    given = reorderer.push(first) + [
        ready for number in order for ready in reorderer.push(packet(start + number, bytes([number])))
    ]
    kept = [item for item in given if reception.gap(item) is not None]
    assert [item.sequence for item in kept] == [(start - 1 + number) & 0xFFFF for number in range(201)]


def test_a_lost_packet_is_waited_for_only_so_long() -> None:
    reorderer = Reorderer()
    assert len(reorderer.push(packet(1, b"a", ns=0))) == 1
    assert reorderer.push(packet(3, b"c", ns=1000)) == []
    assert reorderer.push(packet(4, b"d", ns=2000)) == []
    assert reorderer.overdue(HOLD_NS) == []
    assert [item.sequence for item in reorderer.overdue(HOLD_NS + 1001)] == [3, 4]
    assert [item.sequence for item in reorderer.push(packet(5, b"e"))] == [5]


def test_time_goes_over_wraps_and_back() -> None:
    timeline = Timeline(90000)
    stamps = [2**32 - 3000, 0, 6000, 3000, 9000]  # a wrap, and B frames
    assert [timeline.pts(timeline.unwrapped(stamp)) for stamp in stamps] == [
        pytest.approx(step / 30, abs=1e-6) for step in (0, 1, 3, 2, 4)
    ]
    assert timeline.captured_us(0) is None
    timeline.reported(9000 - 90000, 1_700_000_000_000_000)  # a second before the newest packet
    assert timeline.captured_us(timeline.unwrapped(9000)) == 1_700_000_001_000_000
    timeline.restarted()
    assert timeline.captured_us(timeline.unwrapped(9000)) is None


def test_sender_reports() -> None:
    def report(seconds: int, fraction: int = 1 << 31) -> bytes:
        return struct.pack("!BBHIIIIII", 0x80, 200, 6, 9, seconds, fraction, 1234, 5, 6)

    bye = struct.pack("!BBHI", 0x81, 203, 1, 9)
    sent, left = rtcp.parse(report(2_208_988_800 + 1_700_000_000) + bye)
    assert sent == rtcp.SenderReport(9, 1_700_000_000_500_000, 1234, sent.ntp_middle)  # type: ignore[union-attr]
    assert left == rtcp.Bye(9)
    for seconds in (0, 100, 2_208_988_800 + 3600):  # clocks that were never set
        (unset,) = rtcp.parse(report(seconds))
        assert isinstance(unset, rtcp.SenderReport)
        assert unset.at_us is None
    for size in range(len(bye) + 28):
        rtcp.parse((report(1) + bye)[:size])


def test_receiver_reports() -> None:
    reception = Reception(90000)
    for number in (10, 11, 13):
        reception.gap(packet(number, b"x", ssrc=77))
    data = rtcp.receiver_report(5, "streamd", reception, 0x12345678, 0.5)
    first, kind, words, ours, theirs, loss, highest, _, middle, delay = struct.unpack_from(
        "!BBHIIIIIII", data
    )
    assert (first, kind, words, ours, theirs, highest) == (0x81, 201, 7, 5, 77, 13)
    assert (loss >> 24, loss & 0xFFFFFF) == (64, 1)
    assert (middle, delay) == (0x12345678, 32768)
    assert len(data) % 4 == 0
    assert data[32:36] == struct.pack("!BBH", 0x81, 202, len(data[36:]) // 4)
