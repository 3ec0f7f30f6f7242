import pytest

from models.checkpoint import verify_directory
from models.recommender import runtime
from tests.reference.blocks import block_interactions

BRIEF = ["-r", "width=8", "-r", "epochs=5", "-r", "learning_rate=0.05"]


@pytest.fixture
def data(tmp_path):
    made = block_interactions(40, 20)
    path = tmp_path / "taken.csv"
    rows = zip(made.user_index.tolist(), made.item_index.tolist(), made.held_out.tolist(), strict=True)
    lines = [
        f"{made.users[user]},{made.items[item]},{'holdout' if held else 'train'}" for user, item, held in rows
    ]
    path.write_text("\n".join(["user,item,split", *lines]) + "\n")
    return path


@pytest.fixture
def trained(expunge, data, tmp_path):
    arguments = ["train", data, "--out", tmp_path / "model", "--family", "recommender"]
    assert expunge(*arguments, "-r", "architecture=lightgcn", *BRIEF).status == 0
    return tmp_path / "model"


def test_an_encoder_is_put_beside_the_model_whose_weights_stay(expunge, data, trained, tmp_path):
    out = tmp_path / "prepared"
    outcome = expunge("pretrain", trained, data, "--out", out, "-p", "steps=5", "--json").json
    assert verify_directory(out).digest == outcome["digest"]
    assert outcome["model"]["influence_encoder"] is True
    before, after = runtime.load_model(trained), runtime.load_model(out)
    assert before.influence is None
    assert after.influence is not None
    assert (before.user_factors == after.user_factors).all()
    again = expunge("pretrain", trained, data, "--out", tmp_path / "again", "-p", "steps=5", "--json").json
    assert again["digest"] == outcome["digest"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (["-p", "steps=0"], "steps"),
        (["-p", "surprise=1"], "surprise"),
        (["-p", "steps"], "NAME=VALUE"),
    ],
)
def test_a_wrong_parameter_is_named(expunge, data, trained, tmp_path, parameters, message):
    outcome = expunge("pretrain", trained, data, "--out", tmp_path / "out", *parameters)
    assert outcome.status == 1
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_overwritten(expunge, data, trained):
    outcome = expunge("pretrain", trained, data, "--out", trained)
    assert outcome.status == 1
    assert "is there already" in outcome.err


def test_a_closed_form_has_no_use_for_an_encoder(expunge, data, tmp_path):
    closed = tmp_path / "closed"
    assert (
        expunge("train", data, "--out", closed, "--family", "recommender", "-r", "architecture=ease").status
        == 0
    )
    outcome = expunge("pretrain", closed, data, "--out", tmp_path / "out")
    assert outcome.status == 1
    assert "no use for an encoder" in outcome.err
