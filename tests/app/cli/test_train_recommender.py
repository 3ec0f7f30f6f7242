"""Training recommenders in closed form on the command line."""

import json

import pytest

from models.recommender import runtime

TRIPLES = "".join(f"u{user}\ti{user * step % 11}\t1\n" for user in range(1, 20) for step in (1, 2, 3))


@pytest.mark.parametrize(
    ("recipe", "architecture"),
    [(["-r", "regularisation=5"], "ease"), (["-r", "architecture=gfcf", "-r", "factors=2"], "gfcf")],
)
def test_a_closed_form_is_trained(expunge, tmp_path, recipe, architecture):
    (tmp_path / "taken.tsv").write_text(TRIPLES)
    (tmp_path / "options.json").write_text(json.dumps({"duplicates": "first"}))
    outcome = expunge(
        "train",
        tmp_path / "taken.tsv",
        tmp_path / "options.json",
        "--family",
        "recommender",
        "--out",
        tmp_path / "trained",
        *recipe,
        "--json",
    )
    assert outcome.status == 0, outcome.err
    assert outcome.json["model"]["architecture"] == architecture
    model = runtime.load_model(tmp_path / "trained")
    assert len(model.users) == outcome.json["model"]["users"] > 15


@pytest.mark.parametrize(
    ("content", "recipe", "said"),
    [
        ("".join(f"u1\ti{item}\n" for item in range(30)), "max_matrix_bytes=800", "items need a matrix of"),
        ("u1\ti1\nu1\n", "regularisation=5", "line 2: it has 1 fields"),
        ("u1\ti1\nu1\ti1\n", "regularisation=5", "more than once: 'u1' and 'i1'"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line(expunge, tmp_path, content, recipe, said):
    (tmp_path / "taken.tsv").write_text(content)
    outcome = expunge(
        "train",
        tmp_path / "taken.tsv",
        "--family",
        "recommender",
        "--out",
        tmp_path / "trained",
        "-r",
        recipe,
    )
    assert outcome.status == 1
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "trained").exists()
