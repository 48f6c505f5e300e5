"""How `streamd top` looks, at several widths, of fixed readings."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from streamd.cli.top_table import ORDERS, screen
from streamd.service.overview import Overview, StreamOverview

STAGES = {"decode": 1.0, "preprocess": 2.0, "queue": 0.1, "infer": 20.0, "postprocess": 0.3, "publish": 0.2}


def overview() -> Overview:
    gate = StreamOverview(
        state="live", since_s=3700.0, fps=14.9, age_p50_ms=21.0, age_p95_ms=31.5, stages_ms=STAGES, seq=900,
        decoded=1000, dropped=100, dropped_per_s=1.5, drops={"stale": 20, "ring_full": 80}, reconnects=3,
        packets_lost=7, lost=2,
    )  # fmt: skip
    dead = StreamOverview(
        state="lost", reason="auth", detail="the camera refused the password", since_s=61.0, fps=0.0, seq=0,
        decoded=0, dropped=0, lost=0,
    )  # fmt: skip
    yard = StreamOverview(state="live", fps=25.0, age_p95_ms=40.0, seq=5, decoded=5, dropped=0, lost=9)
    return Overview(
        endpoint="tcp://box:5560", at_us=1, silent_s=0.2, run="r1", version="0.1.0", uptime_s=90_061.0,
        model="yolox@1", provider="TensorrtExecutionProvider", metrics="box:9560", restarts=0,
        streams={"gate": gate, "dead": dead, "yard": yard},
    )  # fmt: skip


def shown(found: Overview, width: int, order: str = "trouble", height: int | None = None) -> list[str]:
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(screen(found, order, width, height, "q: quit" if height else ""))
    return console.export_text().splitlines()


def test_the_whole_of_it() -> None:
    lines = shown(overview(), 220)
    assert lines[0].rstrip() == "streamd 0.1.0 on tcp://box:5560, up 1d01h, run r1"
    assert lines[1].rstrip() == "yolox@1 on TensorrtExecutionProvider"
    assert lines[2].rstrip() == "2 of 3 streams live, 39.9 results/s, 11 lost on the bus"
    assert lines[4].split()[:3] == ["dead", "lost", "(auth)"]
    assert lines[4].rstrip().endswith("the camera refused the password")
    assert lines[5].split()[:14] == [
        "gate", "live", "1h01m", "14.9", "21.0", "31.5", "1.5", "100", "2", "3", "7", "1.0", "2.0", "0.1",
    ]  # fmt: skip
    assert lines[5].rstrip().endswith("20.0 0.3 0.2  ring_full 80, stale 20")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 132, 200])
def test_no_line_is_wider_than_the_terminal_and_each_stream_has_one(width: int) -> None:
    lines = shown(overview(), width)
    assert all(cell_len(line.rstrip()) <= width for line in lines)
    assert len(lines) == 3 + 1 + 3
    assert [line.split()[0] for line in lines[4:]] == ["dead", "gate", "yard"]


def test_a_narrow_terminal_keeps_what_matters_most() -> None:
    titles = shown(overview(), 60)[3]
    assert titles.split()[:3] == ["stream", "state", "fps"]
    assert "pkt lost" not in titles
    assert "pkt lost" in shown(overview(), 220)[3]


@pytest.mark.parametrize(
    ("order", "first"),
    [
        ("trouble", "dead"),
        ("name", "dead"),
        ("fps", "yard"),
        ("age", "yard"),
        ("drops", "gate"),
        ("lost", "yard"),
    ],
)
def test_orders(order: str, first: str) -> None:
    assert shown(overview(), 120, order)[4].split()[0] == first
    assert order in ORDERS


def test_a_low_terminal_says_how_many_do_not_fit() -> None:
    found = overview()
    found.streams = {f"cam{i:02}": found.streams["gate"] for i in range(40)}
    lines = shown(found, 100, height=20)
    assert len(lines) <= 20
    rows = sum(line.startswith("cam") for line in lines)
    assert f"and {40 - rows} more" in [line.strip() for line in lines]
    assert lines[-1].strip() == "q: quit"


def test_what_is_wrong_is_said_and_what_is_not_known() -> None:
    found = overview()
    found.silent_s, found.restarts, found.newer = 65.0, 2, "streamd.result/2"
    found.event, found.metrics_problem = "model_failed: no memory", "box:9560 does not answer"
    text = "\n".join(line.rstrip() for line in shown(found, 160))
    assert "nothing heard for 1m05s" in text
    assert "started again (2 times" in text
    assert "speaks streamd.result/2, and this streamd reads version 1" in text
    assert "last event: model_failed: no memory" in text
    assert "box:9560 does not answer: drops by reason, reconnects and lost packets are not known" in text


def test_nothing_heard_and_no_streams() -> None:
    nothing = Overview(endpoint="tcp://box:5560", at_us=1, metrics_problem="no --metrics named")
    assert "nothing heard so far" in shown(nothing, 120)[0]
    found = overview()
    found.streams = {}
    assert len(shown(found, 120)) == 3


def test_markup_in_names_is_shown_as_it_is() -> None:
    found = overview()
    found.streams = {"[red]x[/red]": found.streams["yard"]}
    assert shown(found, 120)[4].startswith("[red]x[/red]")
