"""Metrics as text, as Prometheus reads it.

The library's own writer checks and escapes every name and label of every sample anew: 100 ms of Python for 64
streams, in which no other thread of the daemon goes on undisturbed. This one does it once for each line it has not
met, and a test holds that both write the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import utils
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

_MOST_KEPT = 50_000
_number: Callable[[float], str] = utils.floatToGoString  # it has no annotations of its own
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Exposition:
    """Writes metrics; it keeps the beginnings of their lines. One thread at a time."""

    def __init__(self) -> None:
        self._beginnings: dict[tuple[str, ...], str] = {}

    def text(self, metrics: Iterable[Metric]) -> bytes:
        """The counters, gauges and histograms in the text format 0.0.4; names are taken as they are."""
        lines: list[str] = []
        known = self._beginnings
        if len(known) > _MOST_KEPT:
            known.clear()  # streams came and went
        for metric in metrics:
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            help_text = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
            lines.append(f"# HELP {name} {help_text}\n# TYPE {name} {metric.type}\n")
            for sample in metric.samples:
                key = (sample.name, *sample.labels.values())
                beginning = known.get(key)
                if beginning is None:
                    beginning = known[key] = _beginning(sample)
                value = sample.value
                # Nearly all are whole numbers.
                whole = type(value) is int and -100_000 < value < 100_000
                lines.append(f"{beginning}{value}.0\n" if whole else f"{beginning}{_number(value)}\n")
        return "".join(lines).encode()


def _beginning(sample: Sample) -> str:
    if not sample.labels:
        return f"{sample.name} "
    pairs = (f'{label}="{value.translate(_ESCAPES)}"' for label, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{','.join(pairs)}}} "
