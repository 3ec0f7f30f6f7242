"""From the citation graphs that papers use to data files of a graph; torch-free.

Cora, CiteSeer and DBLP come as npz files of EdisonLeeeee/GraphData (commit f8022c2): `edges` (2, e), each once, `y`, `n`, and
the features as a compressed sparse matrix in `x_data`, `x_indices`, `x_indptr` and `x_shape`. They say nothing of what is
held out, and their nodes are numbers. `convert_citations` makes one file of them that `expunge register dataset` and
`expunge train` take::

    from pathlib import Path
    from models.graph.conversion import convert_citations
    convert_citations(Path("cora.npz"), Path("cora-graph.npz"), held_out_nodes=0.2, held_out_edges=0.1, seed=0)
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import DatasetError
from models.npz import Layout, open_npz

_LAYOUTS = {
    "edges": Layout("iu", dimensions=2, either_order=True),
    "y": Layout("iu"),
    "n": Layout("iu", dimensions=0),
    "x_data": Layout("f"),
    **dict.fromkeys(("x_indices", "x_indptr", "x_shape"), Layout("iu")),
}


def convert_citations(
    source: Path,
    out: Path,
    *,
    held_out_nodes: float = 0.2,
    held_out_edges: float = 0.1,
    seed: int = 0,
    most_nodes: int | None = None,
) -> Path:
    """Write a citation graph as one data file.

    Node 17 gets the id `17` and is about the subject `author-17`, for these graphs name nobody. What is held out is drawn
    at random; half of it is for methods, half for audits, as everywhere.

    Args:
        source: The file as published.
        out: The file to write, ending in `.npz`.
        held_out_nodes: Share of the nodes whose labels no model learns.
        held_out_edges: Share of the edges that no model learns.
        seed: Of the draw.
        most_nodes: Take only the nodes that are nearest to node 0, by steps along the edges, at most so many.

    Returns:
        `out`.

    Raises:
        DatasetError: `source` is no such file.
    """
    with open_npz(source, _LAYOUTS) as streams:
        if streams.keys() != _LAYOUTS.keys():
            raise ValueError(f"it lacks {', '.join(sorted(_LAYOUTS.keys() - streams.keys()))}")
        arrays = {name: stream.all() for name, stream in streams.items()}
    edges, nodes = arrays["edges"].astype(np.int64), int(arrays["n"])
    _check(source, arrays, nodes)
    kept = _nearest(edges, nodes, most_nodes)
    place = np.cumsum(kept) - 1
    edges = place[edges[:, kept[edges].all(axis=0)]]
    row_ends = arrays["x_indptr"].astype(np.int64)
    lengths = row_ends[1:] - row_ends[:-1]
    values = np.repeat(kept, lengths)
    rng = np.random.default_rng(seed)
    ids = np.flatnonzero(kept).astype(str)
    np.savez_compressed(
        out,
        ids=ids,
        labels=arrays["y"][kept].astype(str),
        subjects=np.char.add("author-", ids),
        split=_split(rng, len(ids), held_out_nodes),
        edge_index=edges,
        edge_split=_split(rng, edges.shape[1], held_out_edges),
        x_data=arrays["x_data"][values],
        x_indices=arrays["x_indices"][values],
        x_indptr=np.cumsum([0, *lengths[kept]]),
        x_shape=np.array([len(ids), arrays["x_shape"][1]]),
    )
    return out


def _check(source: Path, arrays: dict[str, npt.NDArray[np.generic]], nodes: int) -> None:
    edges, ends = arrays["edges"], arrays["x_indptr"]
    if (
        len(arrays["y"]) != nodes
        or len(ends) != nodes + 1
        or arrays["x_shape"].shape != (2,)
        or (edges.size and not 0 <= int(edges.min()) <= int(edges.max()) < nodes)
        or int(ends[-1]) != len(arrays["x_data"])
    ):
        raise DatasetError(f"{source.name} contradicts itself.")


def _nearest(edges: npt.NDArray[np.int64], nodes: int, most: int | None) -> npt.NDArray[np.bool_]:
    """Walk from node 0 until `most` nodes are seen, or all that can be reached; without `most`, take all."""
    if most is None or most >= nodes:
        return np.ones(nodes, bool)
    seen = np.zeros(nodes, bool)
    seen[:1] = True
    while seen.sum() < most:
        ends = edges[:, seen[edges].any(axis=0)].ravel()
        new = np.setdiff1d(ends, np.flatnonzero(seen))
        if not len(new):
            break
        seen[new[: most - int(seen.sum())]] = True
    return seen


def _split(rng: np.random.Generator, count: int, held_out: float) -> npt.NDArray[np.str_]:
    return np.where(rng.permutation(count) < round(held_out * count), "holdout", "train")
