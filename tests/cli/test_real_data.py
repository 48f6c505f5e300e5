"""`streamd detect` on real clips and real models."""

from __future__ import annotations

import threading
from pathlib import Path

import av
import pytest

from tests.support.command import lines_of, run_inline
from tests.support.number_model import make_number_model
from tests.support.reference_data import folder, needs_data

pytestmark = [needs_data, pytest.mark.slow]


def files(kind: str) -> list[str]:
    where = folder()
    return sorted(path.name for path in (where / kind).iterdir()) if where else ["none"]


def data(*parts: str) -> Path:
    where = folder()
    assert where is not None
    return where.joinpath(*parts)


@pytest.mark.long
@pytest.mark.parametrize("name", files("videos"))
def test_every_frame_that_pyav_decodes_with_its_time(name: str, tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    clip, out = data("videos", name), tmp_path / "o.jsonl"
    done = run_inline("detect", clip, "-m", model, "--jsonl", out)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, end = lines_of(out)
    with av.open(str(clip)) as container:
        stream = container.streams.best("video")
        times = [
            None if frame.pts is None else round(float(frame.pts * frame.time_base), 6)
            for frame in container.decode(stream)
        ]
    assert [line.get("pts") for line in lines] == times
    assert [line["frame"] for line in lines] == list(range(len(times)))
    assert end == {
        "schema": "streamd.end/1", "source": str(clip), "input": 0, "frames": len(times), "complete": True,
    }  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", files("models"))
def test_a_real_model_runs_in_silence_and_says_the_same_twice(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Nothing in these two files tells how pictures must be prepared.
    told = ["--input", "yolox"] if name.removesuffix(".onnx").endswith(("_v8head", "_e2e")) else []
    outputs = []
    for attempt in ("one", "two"):
        out = tmp_path / f"{attempt}.jsonl"
        clip = data("videos", "traffic_720p_short.mp4")
        done = run_inline(
            "detect", clip, "-m", data("models", name), "--jsonl", out, "--max-frames", 6, *told
        )
        assert (done.returncode, done.stderr) == (0, "")
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["yolox_nano_416_v8head.onnx", "yolox_nano_416_e2e.onnx"])
def test_a_guess_is_called_one(name: str, tmp_path: Path) -> None:
    clip = data("videos", "traffic_720p_short.mp4")
    done = run_inline(
        "detect", clip, "-m", data("models", name), "--jsonl", tmp_path / "o.jsonl", "--max-frames", 2
    )
    assert done.returncode == 0
    assert "guess" in done.stderr
    assert "input" in done.stderr
    shown = run_inline("inspect", data("models", name))
    assert "GUESS" in shown.stdout


def test_a_cut_clip_says_where_it_ends(tmp_path: Path) -> None:
    model = make_number_model(tmp_path / "m.onnx")
    whole = data("videos", "pedestrians_vfr.mkv").read_bytes()
    cut, out = tmp_path / "cut.mkv", tmp_path / "o.jsonl"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    done = run_inline("detect", cut, "-m", model, "--jsonl", out)
    assert done.returncode == 1
    *lines, end = lines_of(out)
    assert 10 < len(lines) == end["frames"]
    assert end["complete"] is False
    assert f"frame {len(lines) - 1} " in done.stderr
    assert str(cut) in done.stderr
    assert not [thread for thread in threading.enumerate() if thread.name in ("infer", "decode")]
