"""Dropping edges, also called unlinking: the graph forgets, the weights do not.

The nodes, edges and features go from the graph that the model works on, so that no message passes through them any
more; every weight stays as it was. The new snapshot, written beside every method's version, is what drops them; this
method adds nothing to that.

Paper: Tan et al., "Unlink to Unlearn: Simplifying Edge Unlearning in GNNs" (WWW 2024), arXiv 2402.10695, where it is
called UtU and serves edges alone; here it takes nodes and features out in the same way.

Guarantee: none for the weights, which are those that learned the forgotten data; empirical for the predictions, as far
as the audit bears it out. It is the floor that every other method has to beat. Limits: what the weights memorised
stays, and shows in the scores of forgotten edges.
"""

import torch

from models.contracts import ForgetSet, Progress
from models.graph.data import GraphData
from models.graph.network import GraphModel
from unlearning.catalog.graph import DropEdgesConfig
from unlearning.methods.graph.sides import forget_names, refuse_missing


def run(
    model: GraphModel,
    data: GraphData,
    forget: ForgetSet,
    config: DropEdgesConfig,  # noqa: ARG001 - part of every method's contract; there is nothing to configure
    *,
    generator: torch.Generator,  # noqa: ARG001 - part of every method's contract; nothing here is random
    progress: Progress,
) -> GraphModel:
    """Return the same weights, to be used on the graph that remains.

    Raises:
        MethodError: Something to forget is not in the data.
    """
    refuse_missing(data, forget)
    progress("dropping", 1, 1)
    return forget_names(model.frozen(), data, forget)
