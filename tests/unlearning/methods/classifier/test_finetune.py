import dataclasses

import torch

from models.classifier.network_configuration import SgdSettings
from models.classifier.training import sgd_epochs
from tests.reference.network_case import DATA, MISLABELLED, MODELS, accuracy, forget, same_bits

RETAINED = DATA["mlp"].training().without(MISLABELLED)
SETTINGS = {"epochs": 4, "learning_rate": 0.1}


def test_it_is_training_on_what_remains_from_where_the_model_stands():
    tuned = forget("finetune", calibration="none", **SETTINGS)
    settings = SgdSettings(**SETTINGS, batch_size=64, momentum=0.9, weight_decay=5e-4, schedule="constant")
    generator = torch.Generator().manual_seed(3)
    *_, last = sgd_epochs(MODELS["mlp"], RETAINED.features, RETAINED.labels, settings, generator=generator)
    assert same_bits(tuned, last.model)


def test_forgotten_and_held_out_records_are_never_read():
    data = DATA["mlp"]
    blank = data.features.clone()
    for record_id in (*MISLABELLED, *data.calibration().ids):
        blank[data.positions[record_id]] = 1e6
    spoilt = dataclasses.replace(data, features=blank)
    assert same_bits(
        forget("finetune", data=spoilt, calibration="none"), forget("finetune", calibration="none")
    )


def test_calibration_stops_after_the_first_epoch_that_finds_no_difference():
    data = DATA["mlp"].for_methods()
    records = tuple(name for name in data.ids if data.labels[data.positions[name]] == 1)
    steps = []
    tuned = forget(
        "finetune",
        records,
        classes=("b",),
        learning_rate=0.3,
        epochs=300,
        progress=lambda *step: steps.append(step),
    )
    gaps = [step[3]["forgotten recognised"] - step[3]["never seen recognised"] for step in steps]
    assert 1 < len(steps) < 300
    assert all(gap > 0 for gap in gaps[:-1])
    assert gaps[-1] <= 0
    assert accuracy(tuned, data.only(records).training()) < 0.2
    assert accuracy(tuned, data.training().without(records)) > 0.9
