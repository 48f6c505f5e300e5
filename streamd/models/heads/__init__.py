"""The table of heads: one family of models a file, one row each, in the order `head: auto` asks them."""

from __future__ import annotations

from streamd.models.contract import Family
from streamd.models.heads import detr, end2end, fastestdet, nanodet, ssd, yolo, yolov5, yolox, yunet

FAMILIES: dict[str, Family] = {
    "yolox": yolox.FAMILY,
    "yolo": yolo.FAMILY,
    "yolov5": yolov5.FAMILY,
    "end2end": end2end.FAMILY,
    "detr": detr.FAMILY,
    "nanodet": nanodet.FAMILY,
    "ssd": ssd.FAMILY,
    "yunet": yunet.FAMILY,
    "fastestdet": fastestdet.FAMILY,
}
