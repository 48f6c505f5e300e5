"""What docs/OPERATIONS.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from streamd.core.errors import Reason
from streamd.pipeline.ledger import Drop
from streamd.service.overview import Overview, StreamOverview
from tests.support.command import run_inline
from tests.support.daemon import RunningDaemon, write_config
from tests.support.number_model import make_number_model

TEXT = (Path(__file__).parent.parent / "docs" / "OPERATIONS.md").read_text()


@pytest.mark.slow
def test_the_rules_name_metrics_and_reasons_that_there_are(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(groups:.*?)```", TEXT, re.DOTALL)
    rules = yaml.safe_load(blocks[0])["groups"][0]["rules"]
    told = " ".join(rule["expr"] for rule in rules)
    model = make_number_model(tmp_path / "m.onnx")
    config = write_config(tmp_path / "c.yaml", model, {"a": {"url": "none.mp4"}})
    with RunningDaemon(config) as daemon:
        known = set(re.findall(r"(?m)^# TYPE (\S+)", daemon.page("/metrics")))
    named = {name.removesuffix("_bucket") for name in re.findall(r"streamd_[a-z_]+", told)}
    assert named
    assert named <= known
    reasons = {word for group in re.findall(r'reason=~?"([^"]+)"', told) for word in group.split("|")}
    assert reasons
    assert reasons <= {*map(str, Drop), *map(str, Reason), "unwritable", "flood"}


def test_each_option_of_service_install_is_told() -> None:
    shown = run_inline("service", "install", "--help").stdout
    told = set(re.findall(r"(?m)^\| `(--[a-z-]+)", TEXT)) | {"--config", "--help"}
    assert set(re.findall(r"--[a-z]+(?:-[a-z]+)*", shown.split("Options:")[1])) - {"--template."} <= told


def test_each_field_of_top_is_told() -> None:
    fields = {*Overview.__struct_fields__, *StreamOverview.__struct_fields__} - {"newer", "unreadable"}
    assert not {name for name in fields if f"`{name}`" not in TEXT}
