"""NVIDIA's driver, GPUs and libraries, as far as ONNX Runtime needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from streamd.diagnosis.case import Case
from streamd.diagnosis.finding import Item
from streamd.diagnosis.packages import pip

if TYPE_CHECKING:
    from streamd.models.libraries import Library

DRIVER = "NVIDIA driver"
_DISPLAY = "0x03"  # PCI's class of GPUs, with and without a connector
_CUDA = 13000
_OLDEST_COMPUTE = (7, 5)  # CUDA 13 and TensorRT 10 know no older GPU than Turing
NO_GPU = "no NVIDIA GPU here"
# cuda.h's CUresult, by what an operator can do.
_CURES = {
    100: "# there is a driver and no GPU: give the container one (docker run --gpus all), or look with\nnvidia-smi",
    803: "# the driver was updated under the running kernel module\nreboot",
    804: "# the driver is too old for this container's libcuda; update it to 580 or newer on the host",
}


def driver(case: Case) -> Iterator[Item]:
    """The driver, and each GPU that it gives."""
    from streamd.models import gpu
    from streamd.models.libraries import LibraryError

    kernel = case.text("sys/module/nvidia/version") or _version_in(case.text("proc/driver/nvidia/version"))
    try:
        count = gpu.count_gpus()
        gpus = [gpu.read_gpu(number) for number in range(count)]
        if not gpus:
            raise gpu.DriverError("the NVIDIA driver finds no GPU", 100)
    except LibraryError as error:
        yield _without(case, kernel, error)
        return
    spoken = gpus[0].driver_cuda
    found = (
        f"{kernel or 'version unknown'}, CUDA {spoken // 1000}.{spoken % 1000 // 10}, {count} GPU"
        + "s" * (count > 1)
    )
    if spoken < _CUDA:
        found += "; onnxruntime wants CUDA 13"
        yield Item(
            name=DRIVER, state="wrong", found=found, fix="# update the driver to 580 or newer, then reboot"
        )
    else:
        yield Item(name=DRIVER, state="ok", found=found)
    for number, card in enumerate(gpus):
        major, minor = map(int, card.compute.split("."))
        found = f"{card.name}, compute capability {card.compute}, {card.memory / (1 << 30):.1f} GiB"
        if (major, minor) < _OLDEST_COMPUTE:
            found += "; CUDA 13 needs 7.5 or higher"
            yield Item(
                name=f"GPU {number}",
                state="wrong",
                found=found,
                fix="# runtime.providers: [cpu], or another GPU",
            )
        else:
            yield Item(name=f"GPU {number}", state="ok", found=found)


def _without(case: Case, kernel: str, error: Exception) -> Item:
    code = getattr(error, "code", None)
    cards = _cards(case)
    said = str(error).partition(" (")[0] if code is None else str(error)
    if code is not None:
        fix = _CURES.get(code, "nvidia-modprobe -c 0 -u\nnvidia-smi")
        return Item(name=DRIVER, state="wrong", found=f"{said}; {_nodes(case)}", fix=fix)
    if kernel:
        fix = (
            "# in a container: docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility,video\n"
            f"# else install the libraries of driver {kernel} (libcuda1, libnvidia-encode, libnvcuvid1)"
        )
        return Item(
            name=DRIVER, state="missing", found=f"{said}, though kernel module {kernel} is loaded", fix=fix
        )
    if cards:
        fix = "# install NVIDIA's driver 580 or newer, then reboot; in a container, on the host"
        return Item(name=DRIVER, state="missing", found=f"{said}; {', '.join(cards)} would need it", fix=fix)
    return Item(name=DRIVER, state="unused", found=NO_GPU)


def _cards(case: Case) -> list[str]:
    """NVIDIA's GPUs on the PCI bus, or that of a Jetson, whether there is a driver or not."""
    found = []
    for device in sorted((case.root / "sys/bus/pci/devices").glob("*")):
        folder = f"sys/bus/pci/devices/{device.name}"
        if case.text(f"{folder}/vendor") == "0x10de" and case.text(f"{folder}/class").startswith(_DISPLAY):
            found.append(f"GPU at PCI {device.name}")
    if "nvidia,tegra" in case.text("sys/firmware/devicetree/base/compatible"):
        found.append("the Jetson's GPU")
    return found


def _nodes(case: Case) -> str:
    nodes = sorted(node.name for node in (case.root / "dev").glob("nvidia*") if not node.is_dir())
    return f"/dev has {', '.join(nodes)}" if nodes else "/dev has no nvidia nodes"


def _version_in(text: str) -> str:
    words = (word for line in text.splitlines()[:1] for word in line.split())
    return next((word for word in words if word[0].isdigit() and "." in word), "")


def has_gpu(case: Case) -> bool:
    """Whether the driver gives a GPU."""
    return any(name.startswith("GPU ") for name in case.found)


def why_not(case: Case) -> str:
    """Why nothing on a GPU is tried."""
    item = case.found.get(DRIVER)
    return NO_GPU if item is None or item.state == "unused" else "not tried: the driver comes first"


def cuda(case: Case) -> Iterator[Item]:
    """CUDA's runtime libraries."""
    from streamd.models import libraries

    def version() -> str:
        number = libraries.cuda_runtime_version()
        return f"{number // 1000}.{number % 1000 // 10}"

    wanted = tuple(lib for lib in libraries.CUDA if "cudnn" not in lib.soname and lib != libraries.DRIVER)
    yield from _libraries(case, "CUDA", wanted, version)


def cudnn(case: Case) -> Iterator[Item]:
    """cuDNN, which CUDA's provider links."""
    from streamd.models import libraries

    wanted = tuple(lib for lib in libraries.CUDA if lib != libraries.DRIVER)
    yield from _libraries(case, "cuDNN", wanted, libraries.cudnn_version)


def tensorrt(case: Case) -> Iterator[Item]:
    """TensorRT, of the major version that onnxruntime links."""
    from streamd.models import libraries

    wanted = tuple(lib for lib in libraries.TENSORRT if lib != libraries.DRIVER)
    yield from _libraries(case, "TensorRT", wanted, libraries.tensorrt_version)


def _libraries(
    case: Case, name: str, wanted: tuple[Library, ...], version: Callable[[], str]
) -> Iterator[Item]:
    """Loads them, as a session would; without a GPU nobody needs them, and some hundred megabytes stay unread."""
    from streamd.models import libraries

    if not has_gpu(case):
        yield Item(name=name, state="unused", found=why_not(case))
        return
    try:
        libraries.load(wanted)
        yield Item(name=name, state="ok", found=f"{version()}, fits onnxruntime")
    except libraries.LibraryError as error:
        fix = f'{pip()} install "streamd[tensorrt]"'
        others = [other for library in wanted for other in libraries.other_versions(library)]
        said = str(error).partition(" (")[0]
        if not others:
            yield Item(name=name, state="missing" if "is missing" in said else "wrong", found=said, fix=fix)
            return
        if name == "TensorRT":
            fix = f"{pip()} uninstall -y tensorrt tensorrt-cu13 tensorrt-cu13-libs tensorrt-cu13-bindings\n{fix}"
        yield Item(
            name=name, state="wrong", found=f"{said}; {others[0]} is there, which does not fit", fix=fix
        )
