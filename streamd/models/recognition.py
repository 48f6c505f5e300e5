"""Which head reads a model: the one that is set, the one its metadata names, or the one its outputs tell."""

from __future__ import annotations

from dataclasses import dataclass

from streamd.core.errors import ConfigError, ModelError
from streamd.core.nearest import nearest
from streamd.models.contract import Family, Graph, Head
from streamd.models.heads import FAMILIES
from streamd.models.picture_input import spell
from streamd.models.refusals import by_metadata, by_outputs


@dataclass(frozen=True, slots=True)
class Found:
    """A family, its head built for one graph, and why it was taken, in a few words for people."""

    family: Family
    head: Head
    reason: str


def find_head(graph: Graph, wanted: str) -> Found:
    """The head for `graph`. wanted: `auto`, or a name of the table, which the shapes must fit.

    Raises ConfigError for a name that is not in the table; ModelError for what streamd does not do (refused
    by name), what it does not know, and a set head that does not fit.
    """
    if wanted != "auto" and wanted not in FAMILIES:
        raise ConfigError(
            f"head: {wanted!r} is not known{nearest(wanted, FAMILIES)}; "
            f"there are: auto, {', '.join(FAMILIES)}"
        )
    refused = by_metadata(graph)
    if refused:
        raise ModelError(f"this is {refused}; streamd runs detectors")
    if wanted != "auto":
        return _build(FAMILIES[wanted], graph, "set")
    named = graph.metadata.get("streamd.head", "").strip()
    if named:
        if named not in FAMILIES:
            raise ModelError(
                f"its metadata names the head {named!r}, which is not known; "
                f"set head to one of {', '.join(FAMILIES)}"
            )
        return _build(FAMILIES[named], graph, "metadata streamd.head")
    refused = by_outputs(graph)
    if refused:
        raise ModelError(
            f"this looks like {refused}; streamd runs detectors; if it is one all the same, set head"
        )
    for family in FAMILIES.values():
        reason = family.recognise(graph)
        if reason:
            return _build(family, graph, reason)
    fitting = [family.name for family in FAMILIES.values() if _fits(family, graph)]
    raise ModelError(
        f"no head is known for the outputs {spell(graph.outputs)}; "
        + (f"they could be read by {' or '.join(fitting)}: set head" if fitting else _none_fits())
    )


def _none_fits() -> str:
    return f"heads are {', '.join(FAMILIES)}, and none of them fits"


def _build(family: Family, graph: Graph, reason: str) -> Found:
    return Found(family, family.build(graph), reason)


def _fits(family: Family, graph: Graph) -> bool:
    try:
        family.build(graph)
    except ModelError:
        return False
    return True
