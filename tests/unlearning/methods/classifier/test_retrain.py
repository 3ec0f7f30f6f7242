import pytest
import torch

from models.classifier import runtime
from models.contracts import ForgetSet
from tests.reference.classifier_data import clusters, silent
from unlearning.catalog.classifier import RetrainConfig
from unlearning.errors import MethodError
from unlearning.methods.classifier import retrain

RECIPE = {"feature_dim": 24, "max_records": 1000}
DATA = clusters(30, held_out=6)


@pytest.fixture(scope="module")
def model():
    return runtime.train(DATA, RECIPE, seed=1, progress=silent)


def forget(model, record_ids):
    generator = torch.Generator().manual_seed(5)
    return retrain.run(
        model, DATA, ForgetSet(tuple(record_ids)), RetrainConfig(), generator=generator, progress=silent
    )


def test_retraining_is_training_on_what_remains(model):
    again = forget(model, ["r1", "r2", "r33"])
    fresh = runtime.train(DATA.without(["r1", "r2"]), RECIPE, seed=1, progress=silent)
    assert again.statistics.equal(fresh.statistics)
    assert torch.equal(again.head, fresh.head)
    assert model.statistics.records == 30


def test_nothing_to_train_on_is_refused(model):
    with pytest.raises(MethodError, match="no training records"):
        forget(model, DATA.ids)


def test_ids_that_the_data_lack_are_refused(model):
    with pytest.raises(MethodError, match="not in the data"):
        forget(model, ["somebody"])


def test_an_update_trains_on_the_target(model):
    target = clusters(45)
    model = retrain.update(
        model, DATA, target, RetrainConfig(), generator=torch.Generator().manual_seed(1), progress=silent
    )
    assert model.statistics.equal(runtime.train(target, RECIPE, seed=1, progress=silent).statistics)
