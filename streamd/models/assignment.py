"""Who runs which operators of a model, and whether that is what was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

CPU = "CPUExecutionProvider"

# Where the time goes. Small nodes that compute shapes rightly stay on the CPU; these never do.
_HEAVY = re.compile("Conv|MatMul|Gemm|Attention|LSTM|GRU|Einsum")


class AssignmentError(Exception):
    """The session does not run on the provider that it was made for; the message says what it does."""


def judge(operators: Mapping[str, Sequence[str]], wanted: str) -> list[str]:
    """Remarks on the operators that others run. Raises AssignmentError when the work is not on `wanted`.

    operators: ONNX Runtime's name of a provider, to the types of the nodes that it runs.
    """
    if not operators.get(wanted):
        count = sum(map(len, operators.values()))
        raise AssignmentError(f"ONNX Runtime gives it none of the model's {count} nodes")
    heavy = {operator for operator in operators.get(CPU, ()) if _HEAVY.search(operator)}
    if heavy and wanted != CPU:
        raise AssignmentError(f"ONNX Runtime leaves {', '.join(sorted(heavy))} on the CPU")
    return [
        f"{wanted} leaves {len(rest)} of the model's nodes to {name}: {', '.join(sorted(set(rest))[:8])}"
        for name, rest in operators.items()
        if name != wanted and rest
    ]
