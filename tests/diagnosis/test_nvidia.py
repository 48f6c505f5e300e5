"""Drivers and GPUs. There is none here: files stand in for /sys and /proc, and a function for the driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamd.diagnosis import nvidia, packages, trials
from streamd.diagnosis.case import Case
from streamd.diagnosis.examination import examine
from streamd.diagnosis.finding import Item
from streamd.models import gpu, libraries
from streamd.models.gpu import DriverError, Gpu
from streamd.models.libraries import Library, LibraryError
from tests.diagnosis.test_machine import only, write
from tests.support.gpu import has_gpu

CARD = Gpu("a card", "8.9", 60, 8 << 30, "580.1", 13000)
WITH_GPU = {"GPU 0": Item(name="GPU 0", state="ok", found="a card")}


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise LibraryError("libcuda.so.1 is missing (install NVIDIA's driver)")

    monkeypatch.setattr(gpu, "count_gpus", refuse)


@pytest.mark.usefixtures("no_driver")
def test_a_machine_without_a_gpu_lacks_nothing(tmp_path: Path) -> None:
    case = Case({}, root=tmp_path)
    item = only(nvidia.driver(case))
    assert (item.state, item.found, item.fix) == ("unused", "no NVIDIA GPU here", "")
    for check in (nvidia.cuda, nvidia.cudnn, nvidia.tensorrt):
        assert only(check(case)).state == "unused"


@pytest.mark.usefixtures("no_driver")
def test_a_gpu_without_a_driver(tmp_path: Path) -> None:
    device = "sys/bus/pci/devices/0000:01:00.0"
    write(tmp_path, f"{device}/vendor", "0x10de\n")
    write(tmp_path, f"{device}/class", "0x040300\n")  # the card's sound
    assert only(nvidia.driver(Case({}, root=tmp_path))).state == "unused"
    write(tmp_path, f"{device}/class", "0x030200\n")
    item = only(nvidia.driver(Case({}, root=tmp_path)))
    assert item.state == "missing"
    assert item.found == "libcuda.so.1 is missing; GPU at PCI 0000:01:00.0 would need it"
    assert "driver 580 or newer" in item.fix
    jetson = tmp_path / "jetson"
    write(jetson, "sys/firmware/devicetree/base/compatible", "nvidia,p3768\0nvidia,tegra234\0")
    assert "Jetson" in only(nvidia.driver(Case({}, root=jetson))).found


@pytest.mark.usefixtures("no_driver")
def test_a_kernel_module_without_the_libraries(tmp_path: Path) -> None:
    write(tmp_path, "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX  580.65.06  Sun Jul\nGCC: 13\n")
    item = only(nvidia.driver(Case({}, root=tmp_path)))
    assert item.state == "missing"
    assert item.found.endswith("though kernel module 580.65.06 is loaded")
    assert "--gpus all" in item.fix


@pytest.mark.parametrize(("code", "cure"), [(803, "reboot"), (100, "--gpus all"), (999, "nvidia-modprobe")])
def test_a_driver_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, cure: str) -> None:
    def refuse() -> int:
        raise DriverError("the NVIDIA driver does not start", code)

    monkeypatch.setattr(gpu, "count_gpus", refuse)
    write(tmp_path, "dev/nvidia0", "")
    item = only(nvidia.driver(Case({}, root=tmp_path)))
    assert item.state == "wrong"
    assert item.found == f"the NVIDIA driver does not start (CUDA driver error {code}); /dev has nvidia0"
    assert cure in item.fix
    case = Case({}, root=tmp_path, found={item.name: item})
    assert only(nvidia.cuda(case)).found == "not tried: the driver comes first"


@pytest.mark.parametrize(
    ("spoken", "compute", "states"),
    [(13000, "8.9", ["ok", "ok"]), (12040, "8.9", ["wrong", "ok"]), (13000, "6.1", ["ok", "wrong"])],
)
def test_a_driver_and_a_gpu_have_to_be_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoken: int, compute: str, states: list[str]
) -> None:
    card = Gpu("a card", compute, 60, 8 << 30, "", spoken)
    monkeypatch.setattr(gpu, "count_gpus", lambda: 1)
    monkeypatch.setattr(gpu, "read_gpu", lambda number: card)
    write(tmp_path, "sys/module/nvidia/version", "580.65.06\n")
    items = list(nvidia.driver(Case({}, root=tmp_path)))
    assert [item.state for item in items] == states
    assert [item.name for item in items] == ["NVIDIA driver", "GPU 0"]
    assert f"580.65.06, CUDA {spoken // 1000}.{spoken % 1000 // 10}, 1 GPU" in items[0].found
    assert items[1].found.startswith(f"a card, compute capability {compute}, 8.0 GiB")
    assert all(item.fix for item in items if item.state == "wrong")


def test_another_tensorrt_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands in for what `pip install tensorrt` brings."""
    wanted = (Library("libnvinfer.so.10", "tensorrt_libs"),)
    monkeypatch.syspath_prepend(str(tmp_path))
    case = Case({}, found=dict(WITH_GPU))
    item = only(nvidia._libraries(case, "TensorRT", wanted, str))
    assert (item.state, item.found) == ("missing", "libnvinfer.so.10 is missing")
    assert item.fix.endswith('pip install "streamd[tensorrt]"')
    write(tmp_path, "tensorrt_libs/libnvinfer.so.11", "")
    item = only(nvidia._libraries(case, "TensorRT", wanted, str))
    assert item.state == "wrong"
    assert item.found == (
        f"libnvinfer.so.10 is missing; {tmp_path}/tensorrt_libs/libnvinfer.so.11 is there, which does not fit"
    )
    assert "uninstall -y tensorrt " in item.fix
    assert item.fix.endswith('install "streamd[tensorrt]"')


def test_a_library_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path, "tensorrt_libs/libnvinfer.so.10", "not a library")
    wanted = (Library("libnvinfer.so.10", "tensorrt_libs"),)
    item = only(nvidia._libraries(Case({}, found=dict(WITH_GPU)), "TensorRT", wanted, str))
    assert item.state == "wrong"
    assert "cannot be loaded" in item.found
    write(tmp_path, "tensorrt_libs/libnvinfer.so.10.13.0", "")
    assert libraries.other_versions(wanted[0], tmp_path) == []


def test_libraries_that_fit_tell_their_version() -> None:
    libc = (Library("libc.so.6", ""),)  # stands in for one that is there
    item = only(nvidia._libraries(Case({}, found=dict(WITH_GPU)), "CUDA", libc, lambda: "13.0"))
    assert (item.state, item.found) == ("ok", "13.0, fits onnxruntime")


def test_a_library_that_a_provider_lacks_has_its_command() -> None:
    found, fix = trials._cure(
        'does not run here: libcudnn.so.9 is missing (pip install "streamd[tensorrt]")', ""
    )
    assert found == "libcudnn.so.9 is missing"
    assert fix == f'{packages.pip()} install "streamd[tensorrt]"'


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="gpu: no NVIDIA GPU here")
def test_a_gpu_is_found_and_runs() -> None:
    found = {item.name: item for item in examine(None)}
    for name in ("NVIDIA driver", "GPU 0", "CUDA", "cuDNN", "provider cuda"):
        assert found[name].state == "ok", found[name]


@pytest.mark.skipif(has_gpu(), reason="gpu: there is one here")
def test_the_gpu_providers_do_not_run_here(tmp_path: Path) -> None:
    case = Case({}, scratch=tmp_path)
    assert only(trials.Provider("cuda")(case)).state == "unused"
    case.found = dict(WITH_GPU)
    item = only(trials.Provider("cuda")(case))
    assert (item.state, item.found, item.exit_code) == ("missing", "libcuda.so.1 is missing", 0)
    assert only(trials.Decoder("NVDEC", "trial_h264.mp4", gpu=True)(case)).state == "wrong"
