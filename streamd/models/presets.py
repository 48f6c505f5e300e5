"""How families of models want their pictures prepared: the input contracts that have a name."""

from __future__ import annotations

from streamd.core.errors import ConfigError
from streamd.core.nearest import nearest
from streamd.models.contract import Fit, InputContract, Order

_ZERO = (0.0, 0.0, 0.0)
_ONE = (1.0, 1.0, 1.0)

PRESETS: dict[str, InputContract] = {
    "yolox": InputContract(Order.BGR, 1.0, _ZERO, _ONE, Fit.TOP_LEFT, 114),
    "ultralytics": InputContract(Order.RGB, 1 / 255, _ZERO, _ONE, Fit.CENTER, 114),
    "detr": InputContract(Order.RGB, 1 / 255, _ZERO, _ONE, Fit.STRETCH, 0),
    # RF-DETR and others whose backbone came from ImageNet.
    "imagenet": InputContract(
        Order.RGB, 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), Fit.STRETCH, 0
    ),
    "nanodet": InputContract(
        Order.BGR, 1.0, (103.53, 116.28, 123.675), (57.375, 57.12, 58.395), Fit.CENTER, 0
    ),
    # qfgaohao's pytorch-ssd and what came from it, as UltraFace.
    "ssd": InputContract(Order.RGB, 1.0, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0), Fit.STRETCH, 0),
    "yunet": InputContract(Order.BGR, 1.0, _ZERO, _ONE, Fit.TOP_LEFT, 0),
    "fastestdet": InputContract(Order.BGR, 1 / 255, _ZERO, _ONE, Fit.STRETCH, 0),
}


def preset(name: str) -> InputContract:
    """The contract called `name`. Raises ConfigError, naming the nearest one, when there is none."""
    if name in PRESETS:
        return PRESETS[name]
    raise ConfigError(
        f"input: {name!r} is not known{nearest(name, PRESETS)}; there are: auto, {', '.join(PRESETS)}"
    )
