import numpy as np
import pytest

from models.errors import DatasetError
from models.graph.conversion import convert_citations
from models.graph.data import load_data
from models.graph.snapshots import ingest


def published(path, **changes):
    """Write a path of five papers in the form in which the citation graphs are published."""
    arrays = {
        "edges": np.array([[0, 1, 2, 3], [1, 2, 3, 4]], np.int32),
        "y": np.array([0, 1, 0, 1, 0], np.int16),
        "n": np.array(5),
        "x_data": np.arange(1, 7, dtype=np.float32),
        "x_indices": np.array([0, 1, 2, 0, 1, 2], np.int32),
        "x_indptr": np.array([0, 1, 2, 3, 3, 6]),
        "x_shape": np.array([5, 3]),
    }
    np.savez(path, **(arrays | changes))
    return path


def test_a_citation_graph_becomes_a_data_file(tmp_path, fresh):
    source, out = published(tmp_path / "a.npz"), fresh()
    converted = convert_citations(source, tmp_path / "b.npz", held_out_nodes=0.4, held_out_edges=0.25)
    assert ingest([converted], out, data_schema=None).records == 9
    data = load_data(out)
    assert data.node_ids == ("0", "1", "2", "3", "4")
    assert data.labels.tolist() == [0, 1, 0, 1, 0]
    assert data.edges.tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]
    assert data.features.tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 3], [0, 0, 0], [4, 5, 6]]
    assert (int(data.held_out_nodes.sum()), int(data.held_out_edges.sum())) == (2, 1)


def test_a_part_is_the_nearest_nodes_and_their_edges(tmp_path, fresh):
    out = fresh()
    ingest(
        [convert_citations(published(tmp_path / "a.npz"), tmp_path / "b.npz", most_nodes=3)],
        out,
        data_schema=None,
    )
    data = load_data(out)
    assert data.node_ids == ("0", "1", "2")
    assert data.edges.shape[1] == 2
    assert data.features.shape == (3, 3)


@pytest.mark.parametrize(
    "changes", [{"n": np.array(4)}, {"edges": np.array([[0], [9]])}, {"x_indptr": np.arange(6)}]
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path, changes):
    with pytest.raises(DatasetError, match=r"a\.npz contradicts itself"):
        convert_citations(published(tmp_path / "a.npz", **changes), tmp_path / "b.npz")


@pytest.mark.parametrize(("name", "nodes", "edges"), [("cora", 2708, 5278), ("citeseer", 3312, 4536)])
def test_real_citation_graphs_are_taken(shared_data, tmp_path, fresh, name, nodes, edges):
    source, out = shared_data / "graph" / f"{name}.npz", fresh()
    summary = ingest([convert_citations(source, tmp_path / "graph.npz")], out, data_schema=None)
    assert summary.records == nodes + edges
    with np.load(source) as arrays:
        total = float(arrays["x_data"].sum(dtype=np.float64))
    assert load_data(out).features.sum().item() == pytest.approx(total, rel=1e-5)
