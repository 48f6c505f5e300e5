"""What pip installed: this environment's own, and those that folders of metadata pretend."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest

from streamd.diagnosis import packages, trials
from streamd.diagnosis.case import Case
from streamd.models import trial as model_trial
from streamd.models.trial import try_provider
from tests.diagnosis.test_machine import only
from tests.diagnosis.test_nvidia import WITH_GPU
from tests.support.clips import Clip, make


def pretend(folder: Path, *names: str) -> list[str]:
    """Folders of metadata, as pip leaves them, and where they are."""
    for name in names:
        metadata = folder / f"{name.replace('-', '_')}-1.31.0.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.31.0\n")
    return [str(folder)]


def test_what_is_installed_here_is_as_it_should_be() -> None:
    for check in (packages.onnxruntime, packages.ffmpeg, packages.opencv, packages.zeromq):
        item = only(check(Case({})))
        assert (item.state, item.fix, item.exit_code) == ("ok", "", 0), item
    assert "CPU" in only(packages.onnxruntime(Case({}))).found
    assert "libavcodec" in only(packages.ffmpeg(Case({}))).found


def test_two_onnxruntimes(tmp_path: Path) -> None:
    both = pretend(tmp_path, "onnxruntime", "onnxruntime-gpu", "onnxruntime-genai")
    item = only(packages.onnxruntime(Case({}), both))
    assert (item.state, item.exit_code) == ("wrong", 0)
    assert "onnxruntime 1.31.0" in item.found
    assert "onnxruntime-gpu 1.31.0" in item.found
    assert "genai" not in item.found
    remove, again = item.fix.splitlines()
    assert set(shlex.split(remove)[-2:]) == {"onnxruntime", "onnxruntime-gpu"}
    assert again.endswith("install --force-reinstall --no-deps onnxruntime-gpu==1.31.0")
    # The command is there.
    assert shutil.which(shlex.split(remove)[0])


def test_two_opencvs(tmp_path: Path) -> None:
    both = pretend(tmp_path, "opencv-python", "opencv-python-headless")
    assert only(packages.opencv(Case({}), both)).state == "wrong"


def test_an_onnxruntime_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of that name stands in for one whose files are mixed up."""
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('no symbol of that name')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith(("onnxruntime", "streamd.models.creation"))]:
        monkeypatch.delitem(sys.modules, name)
    item = only(packages.onnxruntime(Case({})))
    assert (item.state, item.exit_code) == ("wrong", 1)
    assert item.found.endswith("it does not load: no symbol of that name")
    assert "--force-reinstall" in item.fix


def test_a_gpu_and_an_onnxruntime_for_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("streamd.models.creation.available_providers", lambda: ["CPUExecutionProvider"])
    path = pretend(tmp_path, "onnxruntime")
    assert only(packages.onnxruntime(Case({}), path)).state == "ok"
    item = only(packages.onnxruntime(Case({}, found=dict(WITH_GPU)), path))
    assert (item.state, item.exit_code) == ("wrong", 0)
    assert item.fix.endswith("install onnxruntime-gpu")


def test_a_zeromq_without_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamd.bus.build.can_encrypt", lambda: False)
    item = only(packages.zeromq(Case({})))
    assert (item.state, item.exit_code) == ("missing", 0)


def test_the_cpu_runs_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = try_provider("cpu", 0, tmp_path)
    assert ran.provider == "CPUExecutionProvider"
    assert only(trials.Provider("cpu")(Case({}, scratch=tmp_path))).state == "ok"
    wrong = model_trial._by_hand
    monkeypatch.setattr(model_trial, "_by_hand", lambda picture: wrong(picture) + 1)
    item = only(trials.Provider("cpu")(Case({}, scratch=tmp_path)))
    assert (item.state, item.found, item.exit_code) == ("wrong", "it runs and comes to wrong numbers", 1)


def test_no_folder_for_temporary_files(tmp_path: Path) -> None:
    item = only(trials.Provider("cpu")(Case({})))
    assert (item.state, item.exit_code) == ("wrong", 0)
    assert "TMPDIR" in item.fix
    assert only(trials.Provider("cpu")(Case({}, scratch=tmp_path / "gone"))).state == "wrong"


@pytest.mark.parametrize("name", ["h264", "h265"])
def test_decoders_are_judged_by_their_pictures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = f"trial_{name}.mp4"
    assert only(trials.Decoder(name, clip, gpu=False)(Case({}))).state == "ok"
    # Stand in for decoders that do harm: other pictures, fewer of them, and none.
    (tmp_path / "assets").mkdir()
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    make(tmp_path / "assets" / clip, Clip(codec=f"libx{name[1:]}", frames=5))
    item = only(trials.Decoder(name, clip, gpu=False)(Case({})))
    assert (item.state, item.exit_code) == ("wrong", 1)
    assert item.found.startswith("its pictures are wrong (by ")
    make(tmp_path / "assets" / clip, Clip(codec=f"libx{name[1:]}", frames=4))
    assert only(trials.Decoder(name, clip, gpu=False)(Case({}))).found == "4 of 5 pictures came"
    (tmp_path / "assets" / clip).write_bytes(b"no clip")
    assert only(trials.Decoder(name, clip, gpu=False)(Case({}))).state == "wrong"
