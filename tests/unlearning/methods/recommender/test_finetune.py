import pytest

from tests.reference.recommender_case import DATA, FORGOTTEN, MODELS, beaten, forget, same_bits

REMAINING = DATA.for_methods().without(FORGOTTEN)


def run(**parameters):
    steps = []
    model = forget("finetune", progress=lambda *step: steps.append(step), **parameters)
    return model, steps


def test_the_published_form_runs_its_epochs_with_nothing_to_compare():
    _, steps = run(calibration="paper", epochs=3)
    assert [step[:3] for step in steps] == [("fine-tuning", number, 3) for number in (1, 2, 3)]
    assert list(steps[0][3]) == ["retained loss"]


def test_training_on_what_remains_lets_forgotten_pairs_fall():
    before = beaten(MODELS["lightgcn"], FORGOTTEN, REMAINING)
    after, _ = run(calibration="paper", epochs=30)
    assert beaten(after, FORGOTTEN, REMAINING) < before


def test_the_calibrated_form_stops_when_forgotten_pairs_are_ranked_no_higher():
    _, steps = run(epochs=40)
    figures = steps[-1][3]
    reached = figures["forgotten above negatives"] <= figures["never seen above negatives"]
    assert reached == (len(steps) < 40)
    assert all(
        step[3]["forgotten above negatives"] > step[3]["never seen above negatives"] for step in steps[:-1]
    )


def test_the_learning_rate_is_trainings_own_where_none_is_given():
    own = MODELS["lightgcn"].config.recipe.learning_rate
    settings = {"calibration": "paper", "epochs": 2}
    assert same_bits(run(**settings)[0], run(learning_rate=own, **settings)[0])
    assert not same_bits(run(**settings)[0], run(learning_rate=own / 2, **settings)[0])


@pytest.mark.parametrize("epochs", [1, 2])
def test_epochs_are_at_most_what_was_asked_for(epochs):
    assert len(run(epochs=epochs)[1]) <= epochs
