"""Which head is taken for which outputs, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from streamd.core.errors import ConfigError, ModelError
from streamd.models.contract import Graph, InputShape, Tensor
from streamd.models.description import describe
from streamd.models.heads import FAMILIES
from streamd.models.recognition import find_head
from tests.support import planted, reference_data
from tests.support.reference_data import needs_data
from tests.support.tiny_models import Tiny

ULTRALYTICS = {"author": "Ultralytics", "task": "detect", "stride": "32", "imgsz": "[640, 640]"}

TWO = {**ULTRALYTICS, "names": "{0: 'a', 1: 'b'}"}


def graph(
    *shapes: tuple[int | str | None, ...],
    side: int = 640,
    names: str = "",
    metadata: Mapping[str, str] | None = None,
    input_name: str = "images",
    dtypes: str = "",
    sizes: bool = False,
) -> Graph:
    """A graph with outputs of these shapes, called o0, o1, ... or by `names`."""
    called = names.split() or [f"o{number}" for number in range(len(shapes))]
    types = dtypes.split() or ["float32"] * len(shapes)
    outputs = tuple(Tensor(*row) for row in zip(called, types, shapes, strict=True))
    inputs = [Tensor(input_name, "float32", (1, 3, side, side))]
    if sizes:
        inputs.append(Tensor("orig_target_sizes", "int64", (1, 2)))
    shape = InputShape(input_name, side, side, True, np.dtype("float32"), 1)
    return Graph(tuple(inputs), outputs, metadata or {}, shape)


KNOWN = {
    "YOLOX at 640": (graph((1, 8400, 85)), "yolox"),
    "YOLOX of one class at 192": (graph((1, 756, 6), side=192), "yolox"),
    "YOLOX with a fourth level": (graph((1, 8500, 85)), "yolox"),
    "YOLOX of 28 classes, named": (graph((1, 8400, 33), input_name="images"), "yolox"),
    "YOLOv5 at 640": (graph((1, 25200, 85)), "yolov5"),
    "YOLOv5 of one class": (graph((1, 25200, 6)), "yolov5"),
    "YOLOv5 P6 at 1280": (graph((1, 102000, 85), side=1280), "yolov5"),
    "YOLOv5 with its raw maps": (
        graph((1, 25200, 85), (1, 3, 80, 80, 85), (1, 3, 40, 40, 85), (1, 3, 20, 20, 85)),
        "yolov5",
    ),
    "YOLOv5, open, with metadata": (
        graph((1, "rows", 7), metadata={"stride": "32", "names": "['a', 'b']"}),
        "yolov5",
    ),
    "YOLOv8 at 640": (graph((1, 84, 8400)), "yolo"),
    "YOLOv8 of one class": (graph((1, 5, 8400)), "yolo"),
    "YOLOv8, open, with metadata": (
        graph(("batch", 6, "anchors"), metadata=TWO),
        "yolo",
    ),
    "52 classes with their names": (
        graph((1, 56, 8400), metadata={**ULTRALYTICS, "names": str({n: f"card {n}" for n in range(52)})}),
        "yolo",
    ),
    "YOLOv8 with a level of stride 4": (graph((1, 84, 34000)), "yolo"),
    "YOLOv10": (graph((1, 300, 6)), "end2end"),
    "YOLO26, open, with metadata": (
        graph((1, "k", 6), metadata={**ULTRALYTICS, "end2end": "True"}),
        "end2end",
    ),
    "D-FINE": (
        graph(
            (1, 300),
            (1, 300, 4),
            (1, 300),
            names="labels boxes scores",
            dtypes="int64 float32 float32",
            sizes=True,
        ),
        "detr",
    ),
    "RT-DETR of Ultralytics": (
        graph((1, 300, 7), metadata={**ULTRALYTICS, "names": "['a', 'b', 'c']"}),
        "detr",
    ),
    "RT-DETR of Ultralytics, two classes": (
        graph((1, 300, 6), metadata={**TWO, "description": "Ultralytics rtdetr-l model trained on x.yaml"}),
        "detr",
    ),
    "YOLO of Ultralytics with suppression, two classes": (graph((1, 300, 6), metadata=TWO), "end2end"),
    "RF-DETR": (graph((1, 300, 4), (1, 300, 91), names="dets labels"), "detr"),
    "RT-DETR of transformers": (graph((1, 300, 80), (1, 300, 4), names="logits pred_boxes"), "detr"),
    "NanoDet-Plus at 416": (graph((1, 3598, 112), side=416, input_name="data"), "nanodet"),
    "NanoDet in one at 320": (graph((1, 2100, 112), side=320, input_name="input.1"), "nanodet"),
    "SSD": (graph((1, 8732, 21), (1, 8732, 4), names="scores boxes", side=300), "ssd"),
    "FastestDet": (graph((1, 85, 22, 22), side=352), "fastestdet"),
    "named in the metadata": (graph((1, 999, 7), metadata={"streamd.head": "yolov5"}), "yolov5"),
}


@pytest.mark.parametrize("case", KNOWN)
def test_known(case: str) -> None:
    given, family = KNOWN[case]
    found = find_head(given, "auto")
    assert found.family.name == family
    assert found.reason


REFUSED = {
    "pose by shape": (graph((1, 56, 8400)), "pose"),
    "pose by metadata": (graph((1, 17, 8400), metadata={**ULTRALYTICS, "task": "pose"}), "pose"),
    "pose by kpt_shape": (graph((1, 17, 8400), metadata={"kpt_shape": "[4, 3]"}), "pose"),
    "segmentation": (graph((1, 116, 8400), (1, 32, 160, 160)), "segmentation"),
    "YOLOv5 segmentation": (graph((1, 25200, 117), (1, 32, 160, 160)), "segmentation"),
    "segmentation by metadata": (
        graph((1, 38, 8400), metadata={**ULTRALYTICS, "task": "segment"}),
        "segmentation",
    ),
    "segmentation by channels": (
        graph((1, 38, 8400), metadata={"names": "['a', 'b']"}),
        "segmentation",
    ),
    "semantic segmentation": (graph((1, 21, 640, 640)), "segmentation"),
    "RF-DETR with masks": (
        graph((1, 300, 4), (1, 300, 91), (1, 300, 108, 108), names="dets labels masks"),
        "segmentation",
    ),
    "oriented boxes": (graph((1, 20, 8400), metadata={**ULTRALYTICS, "task": "obb"}), "oriented"),
    "classifier": (graph((1, 1000), side=224), "classifier"),
    "classifier with maps": (graph((1, 1000, 1, 1), side=224), "classifier"),
    "classifier by metadata": (graph((1, 1000), metadata={**ULTRALYTICS, "task": "classify"}), "classifier"),
    "the first DETR": (graph((1, 100, 92), (1, 100, 4), names="logits pred_boxes"), "softmax"),
    "TensorFlow's SSD": (
        graph((1, 1917, 4), (1, 1917, 91), names="raw_detection_boxes raw_detection_scores", side=300),
        "ssd: set head",
    ),
    "YOLO-NAS": (graph((1, 8400, 4), (1, 8400, 80), names="boxes scores"), "no head is known"),
    "YOLOv3's raw maps": (graph((1, 255, 20, 20), (1, 255, 40, 40), (1, 255, 80, 80)), "no head is known"),
    "YOLOv7 raw": (graph((1, 3, 80, 80, 85), (1, 3, 40, 40, 85), (1, 3, 20, 20, 85)), "no head is known"),
    "transposed YOLOv8": (graph((1, 8400, 84)), "no head is known"),
    "NanoDet or YOLOX": (graph((1, 8400, 40), input_name="x"), "yolox or yolov5 or nanodet: set head"),
    "boxes without a size": (
        graph((1, 300), (1, 300, 4), (1, 300), names="labels boxes scores", dtypes="int64 float32 float32"),
        "no head is known",
    ),
    "landmarks only": (graph((1, 10), (1, 4)), "no head is known"),
    "unknown rank": (graph(()), "no head is known"),
    "everything open": (graph((None, None, None)), "no head is known"),
    "rows that are no grid": (graph((1, 1234, 85)), "no head is known"),
    "a metadata head that is none": (graph((1, 84, 8400), metadata={"streamd.head": "yollo"}), "yollo"),
    "a metadata head that does not fit": (
        graph((1, 84, 8400), metadata={"streamd.head": "ssd"}),
        "head ssd wants",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    given, match = REFUSED[case]
    with pytest.raises(ModelError, match=match) as caught:
        find_head(given, "auto")
    assert "\n" not in str(caught.value)


def test_an_unknown_model_names_its_outputs_and_the_heads() -> None:
    with pytest.raises(ModelError) as caught:
        find_head(graph((1, 1234, 3), names="mystery"), "auto")
    assert "mystery float32 [1, 1234, 3]" in str(caught.value)
    assert all(name in str(caught.value) for name in FAMILIES)


@pytest.mark.parametrize(
    ("head", "given"),
    [
        ("yolo", graph((1, 300, 6))),
        ("yolo", graph((1, 25200, 85))),
        ("yolo", graph((1, 85, 22, 22))),
        ("yolox", graph((1, 84, 8400))),
        ("yolox", graph((1, 25200, 85))),
        ("yolov5", graph((1, 84, 8400))),
        ("end2end", graph((1, 84, 8400))),
        ("end2end", graph((1, 756, 6), side=192)),
        ("detr", graph((1, 300, 6))),
        ("nanodet", graph((1, 8400, 32))),
        ("ssd", graph((1, 8400, 85))),
        ("yunet", graph((1, 8400, 85))),
        ("fastestdet", graph((1, 85, 40, 41))),
    ],
)
def test_a_set_head_that_cannot_fit(head: str, given: Graph) -> None:
    with pytest.raises(ModelError, match=f"head {head} wants"):
        find_head(given, head)


def test_a_set_head_does_not_make_a_pose_model_a_detector() -> None:
    with pytest.raises(ModelError, match="pose"):
        find_head(REFUSED["pose by metadata"][0], "yolo")


def test_a_set_head_overrules_a_look() -> None:
    assert find_head(graph((1, 56, 8400)), "yolo").head.classes == 52


def test_unknown_heads_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'fastestdet'"):
        find_head(graph((1, 84, 8400)), "fastdet")


def test_yunet_wants_multiples_of_32(tmp_path: Path) -> None:
    path = Tiny(planted.yunet(), height="h", width="w", declare=False).write(tmp_path)
    with pytest.raises(ModelError, match="multiples of 32"):
        describe(path, size=(360, 640))


REAL = {
    "deimv2_atto_320": "detr",
    "fastestdet_352": "fastestdet",
    "light_person_192": "yolox",
    "nanodet_m_320": "nanodet",
    "ultraface_rfb_320x240": "ssd",
    "yolox_nano_416": "yolox",
    "yolox_nano_416_dyn": "yolox",
    "yolox_nano_416_e2e": "end2end",
    "yolox_nano_416_v8head": "yolo",
    "yolox_nano_release": "yolox",
    "yunet_n_640": "yunet",
    "yunet_n_dynamic": "yunet",
}
GUESSED = {"yolox_nano_416_e2e", "yolox_nano_416_v8head"}


@needs_data
@pytest.mark.parametrize("name", REAL)
def test_real_models(name: str) -> None:
    where = reference_data.folder()
    assert where is not None
    model = describe(where / "models" / f"{name}.onnx")
    assert model.family == REAL[name]
    assert model.input_known is (name not in GUESSED)
    assert any("guess" in note for note in model.notes if note.startswith("input")) is (name in GUESSED)
    assert [key for key, family in FAMILIES.items() if family.recognise(model.graph)] == [REAL[name]]


@needs_data
@pytest.mark.parametrize("name", sorted(REAL))
def test_real_contracts_are_those_of_the_references(name: str) -> None:
    where = reference_data.folder()
    assert where is not None
    if not (where / "expected" / f"{name}.json").exists():
        assert name == "yolox_nano_release"  # has no references of its own
        return
    wanted = json.loads((where / "expected" / f"{name}.json").read_text())["preprocessing"]
    by_hand = name in {"yolox_nano_416_v8head", "yolox_nano_416_e2e"}
    model = describe(where / "models" / f"{name}.onnx", input="yolox" if by_hand else "auto")
    found = model.contract
    assert [model.graph.input.width, model.graph.input.height] == wanted["input_wh"]
    assert found.order == wanted["channel_order"].lower()
    assert found.fit == wanted["resize"].removeprefix("letterbox_")
    assert wanted["pad_value"] in (None, found.fill)
    np.testing.assert_allclose(
        [found.scale, *found.mean, *found.std], [wanted["scale"], *wanted["mean"], *wanted["std"]]
    )
