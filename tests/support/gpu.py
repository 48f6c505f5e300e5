"""Whether this machine has a GPU, and one to be pretended where it has none."""

from __future__ import annotations

import pytest

from streamd.models import gpu, libraries


def has_gpu() -> bool:
    try:
        libraries.load(libraries.CUDA)
        gpu.read_gpu(0)
    except libraries.LibraryError:
        return False
    return True


needs_no_gpu = pytest.mark.skipif(has_gpu(), reason="gpu: there is one here")
needs_gpu = pytest.mark.skipif(not has_gpu(), reason="gpu: no NVIDIA GPU with CUDA here")

CARD = gpu.Gpu("a card", "9.0", 132, 8 << 30, "580.1", 13000)
