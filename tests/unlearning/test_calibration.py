import dataclasses

import pytest
import torch
from sklearn.datasets import load_digits

from models.classifier import runtime
from models.classifier.data import ClassifierData
from models.contracts import ForgetSet
from tests.reference.classifier_data import clusters, silent
from unlearning.calibration import Calibration, margins
from unlearning.errors import MethodUnsuitableError, MetricError


def digits(mislabelled=40):
    """Handwritten digits, the first training records under wrong classes."""
    features, classes = load_digits(return_X_y=True)
    labels = torch.tensor(classes, dtype=torch.int64)
    labels[:mislabelled] = (labels[:mislabelled] + 1 + torch.arange(mislabelled) % 9) % 10
    return ClassifierData(
        tuple(f"r{index}" for index in range(len(labels))),
        torch.tensor(features, dtype=torch.float32),
        labels,
        torch.arange(len(labels)) >= 1000,
        tuple("0123456789"),
    )


@pytest.fixture(scope="module")
def mislabelled():
    """Data, forget set, a model that has learned the wrong labels by heart, and one that has never seen them."""
    data = digits()
    forget = ForgetSet(tuple(sorted(data.ids[:40])))
    recipe = {"architecture": "mlp", "epochs": 60, "weight_decay": 0.0}
    parent = runtime.train(data, recipe, seed=1, progress=silent)
    retrained = runtime.retrain(parent, data.without(forget.record_ids), seed=2, progress=silent)
    return data, forget, parent, retrained


def test_wrong_labels_are_remembered_by_the_original_and_not_by_a_retrained_model(mislabelled):
    data, forget, parent, retrained = mislabelled
    calibration = Calibration.prepare(data.for_methods(), forget)
    before, after = calibration.compare(parent), calibration.compare(retrained)
    assert before.remembered
    assert before.told_apart
    assert before.auc > 0.9
    assert not after.told_apart


def test_targets_are_what_never_seen_pairs_score_in_the_order_of_the_forgotten_ones(mislabelled):
    data, forget, parent, retrained = mislabelled
    calibration = Calibration.prepare(data.for_methods(), forget)
    targets = calibration.targets(parent)
    assert targets.shape == (40,)
    now = margins(parent, calibration.forgotten)
    assert torch.equal(targets[now.argsort()].sort().values, targets[now.argsort()])
    # Far nearer to the retrained model's margins than the original's are.
    goal = margins(retrained, calibration.forgotten).mean()
    assert abs(targets.mean() - goal) < 0.5 * abs(now.mean() - goal)


def test_pairs_have_the_forgotten_records_mix_of_support_and_class(mislabelled):
    data, forget, _, _ = mislabelled
    calibration = Calibration.prepare(data.for_methods(), forget)
    assert float(calibration.weights.sum()) == pytest.approx(1.0)
    assert calibration.never_seen.held_out.all()
    # Nothing speaks for a wrong class, so the pairs hold hardly a record under its own one.
    true = dict(zip(data.ids, data.labels.tolist(), strict=True))
    pairs = zip(calibration.never_seen.ids, calibration.weights.tolist(), strict=True)
    own = sum(weight for name, weight in pairs if str(true[name.split()[0]]) == name.split()[-1])
    assert own < 0.2


def test_a_model_below_never_seen_records_has_forgotten_too_much(mislabelled):
    data, forget, _, retrained = mislabelled
    calibration = Calibration.prepare(data.for_methods(), forget)
    wrong = calibration.forgotten.labels

    class Driven:
        classes = retrained.classes

        @staticmethod
        def logits(features):
            logits = retrained.logits(features)
            if features is calibration.forgotten.features:
                logits = logits.scatter_add(1, wrong[:, None], torch.full((len(wrong), 1), -9.0))
            return logits

    assert calibration.compare(Driven).over_forgotten


def test_equal_scores_are_not_told_apart_and_ties_count_half():
    data = clusters(60, held_out=60)

    class Equal:
        classes = data.classes

        @staticmethod
        def logits(features):
            return torch.zeros(len(features), 3)

    compared = Calibration.prepare(data.for_methods(), ForgetSet(("r0", "r1"))).compare(Equal)
    assert compared.auc == pytest.approx(0.5)
    assert not compared.told_apart


def test_a_whole_class_is_compared_with_other_records_under_its_name():
    data = clusters(90, held_out=90)
    ids = tuple(sorted(name for name, label in zip(data.ids, data.labels, strict=True) if label == 1))
    calibration = Calibration.prepare(data.for_methods(), ForgetSet(ids, ("b",)))
    assert (calibration.never_seen.labels == 1).all()
    assert not set(calibration.never_seen.ids) & set(ids)


@pytest.mark.parametrize(
    ("data", "forget", "reason"),
    [
        (clusters(60), ForgetSet(("r0",)), "0 held-out records"),
        (clusters(60, held_out=40), ForgetSet(("r70",)), "None of the records"),
        (clusters(12, held_out=40), ForgetSet(("r0", "r1", "r2")), "9 remaining"),
    ],
)
def test_what_cannot_be_compared_is_declined(data, forget, reason):
    with pytest.raises(MethodUnsuitableError, match=reason):
        Calibration.prepare(data.for_methods(), forget)


def test_held_out_records_that_are_unlike_are_declined():
    data = clusters(60, held_out=9)
    with pytest.raises(MethodUnsuitableError, match="No held-out records look like"):
        Calibration.prepare(data.for_methods(), ForgetSet(("r0", "r1")))


def test_scores_that_are_no_numbers_raise():
    data = clusters(60, held_out=60)

    class Nowhere:
        classes = data.classes

        @staticmethod
        def logits(features):
            return torch.full((len(features), 3), torch.nan)

    with pytest.raises(MetricError):
        Calibration.prepare(data.for_methods(), ForgetSet(("r0",))).compare(Nowhere)


def test_the_data_are_left_as_they_were():
    data = clusters(60, held_out=60)
    before = dataclasses.replace(data, features=data.features.clone(), labels=data.labels.clone())
    Calibration.prepare(data.for_methods(), ForgetSet(("r0",)))
    assert torch.equal(data.features, before.features)
    assert torch.equal(data.labels, before.labels)
