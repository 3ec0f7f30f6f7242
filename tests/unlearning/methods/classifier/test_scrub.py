import pytest

from models.contracts import ForgetSet
from tests.reference.network_case import DATA, MISLABELLED, MODELS, forget, same_bits
from unlearning.calibration import Calibration
from unlearning.methods.classifier import scrub
from unlearning.methods.classifier.stopping import recognised

CALIBRATION = Calibration.prepare(DATA["mlp"].for_methods(), ForgetSet(MISLABELLED))


def test_maximising_epochs_come_first_and_minimising_ones_always():
    steps = []
    forget("scrub", calibration="none", epochs=5, max_epochs=2, progress=lambda *step: steps.append(step))
    assert ["KL on forgotten" in step[3] for step in steps] == [True, True, False, False, False]
    assert all("retained loss" in step[3] for step in steps)


def test_without_calibration_the_last_epoch_is_the_result():
    steps = {"learning_rate": 0.02, "max_epochs": 3}
    students = []
    original = scrub.rewind

    def keep(candidates, calibration):
        students.extend(candidates)
        return original(candidates, calibration)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scrub, "rewind", keep)
        chosen = forget("scrub", epochs=6, **steps)
    assert len(students) == 6
    assert same_bits(forget("scrub", epochs=6, calibration="none", **steps), students[-1])
    assert any(same_bits(chosen, student) for student in students)


def test_the_rewinding_takes_the_epoch_nearest_to_the_never_seen_error_and_of_equals_the_last():
    ruined = MODELS["mlp"].with_weights({name: -tensor for name, tensor in MODELS["mlp"].weights.items()})
    retrained = forget("retrain")
    target = recognised(retrained, CALIBRATION)[1]
    gaps = [
        abs(recognised(student, CALIBRATION)[0] - target) for student in (ruined, MODELS["mlp"], retrained)
    ]
    best = min(gaps[1:])
    assert gaps[0] > best or gaps[1] > best
    twin = MODELS["mlp"].with_weights(retrained.weights)
    assert scrub.rewind([ruined, twin, retrained], CALIBRATION) is retrained
    assert scrub.rewind([retrained], CALIBRATION) is retrained
