import pytest
import torch

from unlearning.audits.metrics.items import (
    floats,
    labelled_logits,
    paired_logits,
    refuse_constant,
    refuse_fewer_models,
    shadow_signals,
)
from unlearning.errors import MetricError


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool]
)
def test_any_real_type_becomes_double(dtype):
    assert floats(torch.ones(3, dtype=dtype), "scores").tolist() == [1.0, 1.0, 1.0]


def test_complex_numbers_are_refused():
    with pytest.raises(MetricError, match="complex"):
        floats(torch.ones(3, dtype=torch.complex64), "scores")


def test_too_few_items_are_named():
    with pytest.raises(MetricError, match="1 scores are too few: at least 2 are needed"):
        floats(torch.ones(1), "scores", at_least=2)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (torch.tensor([0, 3]), "outside the 3 classes"),
        (torch.tensor([-1, 0]), "outside the 3 classes"),
        (torch.tensor([0]), "as many integer labels"),
        (torch.tensor([0.0, 1.0]), "as many integer labels"),
        (torch.tensor([[0, 1]]), "as many integer labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, reason):
    with pytest.raises(MetricError, match=reason):
        labelled_logits(torch.zeros(2, 3), labels)


def test_one_class_alone_is_refused():
    with pytest.raises(MetricError, match="fewer than two classes"):
        labelled_logits(torch.zeros(2, 1), torch.tensor([0, 0]))


def test_logits_of_other_records_are_not_paired():
    with pytest.raises(MetricError, match=r"\(2, 3\) and \(1, 3\)"):
        paired_logits(torch.zeros(2, 3), torch.zeros(1, 3))


def test_membership_must_be_booleans_of_the_signals_shape():
    with pytest.raises(MetricError, match="booleans of shape"):
        shadow_signals(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64), 3)
    with pytest.raises(MetricError, match="booleans of shape"):
        shadow_signals(torch.zeros(2, 3), torch.zeros(3, dtype=torch.bool), 3)
    with pytest.raises(MetricError, match="3 records instead of 4"):
        shadow_signals(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool), 4)


def test_records_with_too_few_models_are_counted():
    chosen = torch.tensor([[True, False], [True, False]])
    refuse_fewer_models(chosen[:, :1], 2, "that never saw them")
    with pytest.raises(MetricError, match="1 of 2 records need at least 1 models that never saw them"):
        refuse_fewer_models(chosen, 1, "that never saw them")


def test_constants_are_refused_only_if_all_samples_share_them():
    refuse_constant(torch.zeros(2), torch.ones(2), name="scores")
    with pytest.raises(MetricError, match="All scores are the same"):
        refuse_constant(torch.ones(2), torch.ones(3), name="scores")
