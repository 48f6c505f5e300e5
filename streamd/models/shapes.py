"""The shapes that a model's inputs take for a number of pictures, and what all of them are fed with."""

from __future__ import annotations

import numpy as np

from streamd.models.contract import Array, Graph, Tensor


def shape_of(tensor: Tensor, graph: Graph, batch: int) -> tuple[int, ...]:
    """The shape of an input with `batch` pictures.

    In inputs beside the picture a free first dimension is the batch, and a free second one is 2: they are
    the picture's size, or a scale for each side. Others are taken as 1.
    """
    if tensor.name == graph.input.name:
        return (batch, *graph.input.picture)
    return tuple(
        size if isinstance(size, int) and size > 0 else {0: batch, 1: 2}.get(at, 1)
        for at, size in enumerate(tensor.shape)
    )


def is_free(graph: Graph) -> bool:
    """Whether any input has a dimension without a number."""
    return any(not isinstance(size, int) or size <= 0 for tensor in graph.inputs for size in tensor.shape)


def black(graph: Graph, batch: int) -> dict[str, Array]:
    """Feeds of black pictures; further inputs hold the input's width, a plausible size, or a scale of 1."""
    feeds: dict[str, Array] = {}
    for tensor in graph.inputs:
        shape = shape_of(tensor, graph, batch)
        if tensor.name == graph.input.name:
            feeds[tensor.name] = np.zeros(shape, graph.input.dtype)
        else:
            dtype = np.dtype(tensor.dtype)
            filled = graph.input.width if np.issubdtype(dtype, np.integer) else 1
            feeds[tensor.name] = np.full(shape, filled, dtype)
    return feeds


def feeds(graph: Graph, batch: Array) -> dict[str, Array]:
    """All inputs of the session for a prepared batch [n, ...].

    Target sizes, where the model wants them, are the input's own (width, height): boxes then come out in
    input pixels, as every head gives them.
    """
    found: dict[str, Array] = {graph.input.name: batch}
    size = (graph.input.width, graph.input.height)
    for tensor in graph.inputs:
        if tensor.name != graph.input.name:
            found[tensor.name] = np.tile(np.array(size, np.dtype(tensor.dtype)), (len(batch), 1))
    return found
