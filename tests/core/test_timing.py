from __future__ import annotations

from streamd.core.timing import Stage, Stamps


def test_stages_add_up_to_the_total() -> None:
    stamps = Stamps(received=10, decoded=30, prepared=60, run=100, inferred=150, posted=210, encoded=280)
    stages = dict(zip(Stage, stamps.stages_ns(), strict=True))
    assert stages[Stage.DECODE] == 20
    assert stages[Stage.PUBLISH] == 70
    assert sum(ns for stage, ns in stages.items() if stage is not Stage.TOTAL) == stages[Stage.TOTAL] == 270
