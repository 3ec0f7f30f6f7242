"""The recommender's audit: exact forgetting passes by certificate, every kind of leftover fails it."""

from dataclasses import replace

import pytest
import torch

from models.contracts import ForgetSet
from models.recommender import runtime
from tests.reference.classifier_data import silent
from tests.reference.recommender_data import random_interactions
from unlearning.audits.evidence import Records
from unlearning.audits.recommender.evidence import RecommenderEvidence, View
from unlearning.audits.recommender.rankings import Rankings
from unlearning.audits.recommender.sets import Ground
from unlearning.audits.report import Outcome
from unlearning.audits.suites import Case, get_suite
from unlearning.catalog import recommender as catalog
from unlearning.errors import MetricError
from unlearning.methods.recommender import ease, gfcf

DATA = random_interactions(users=60, items=30, share=0.3, held_out=0.3)
GONE = [name for name in DATA.ids if name.startswith(('["u7"', '["u3"', '["u11","i1'))]
FORGET = ForgetSet(tuple(sorted(GONE)))
RECIPES = {"ease": {"regularisation": 5.0}, "gfcf": {"factors": 4}}
SPECS = {"ease": catalog.EASE, "gfcf": catalog.GFCF}
both = pytest.mark.parametrize("kind", ["ease", "gfcf"])


def fitted(kind, data=DATA):
    return runtime.train(data, {"architecture": kind} | RECIPES[kind], seed=0, progress=silent)


def case_of(kind, candidate, spec=None, forget=FORGET, **parameters):
    spec = spec or SPECS[kind]
    return Case(
        parent=fitted(kind),
        candidate=candidate,
        data=DATA,
        forget=forget,
        method=spec,
        parameters=spec.configure(parameters).model_dump(),
        seed=0,
        unlearning_seconds=0.1,
        progress=silent,
    )


def audited(kind, candidate, spec=None, **parameters):
    return get_suite("recommender")(case_of(kind, candidate, spec, **parameters))


def forgotten(kind, **parameters):
    method, config = {"ease": (ease, catalog.EaseConfig), "gfcf": (gfcf, catalog.GfcfConfig)}[kind]
    return method.run(
        fitted(kind), DATA, FORGET, config(**parameters), generator=torch.Generator(), progress=silent
    )


def by_name(audit):
    return {check.name: check for check in audit.checks}


def failing(audit):
    return {check.name for check in audit.checks if check.gating and check.outcome is not Outcome.PASS}


@both
def test_exact_forgetting_passes_by_its_certificate(kind):
    audit = audited(kind, forgotten(kind))
    assert audit.verdict is Outcome.PASS
    assert "Exactness covers the whole model" in audit.summary
    gating = {check.name for check in audit.checks if check.gating}
    assert {"recipe", "tables of ids"} < gating
    assert "held-out recall@20" in by_name(audit)
    assert not by_name(audit)["change of recall@20"].gating


@pytest.mark.parametrize("solve", ["update", "refit"])
def test_both_ways_of_solving_pass(solve):
    audit = audited("ease", forgotten("ease", solve=solve), solve=solve)
    assert audit.verdict is Outcome.PASS
    bound = by_name(audit)["bound on the weights' error"]
    distance = by_name(audit)["distance of the weights"]
    assert distance.value <= bound.value <= 1e-10
    if solve == "refit":
        assert distance.value == 0.0


@both
def test_the_untouched_original_fails(kind):
    audit = audited(kind, fitted(kind))
    assert audit.verdict is Outcome.FAIL
    assert failing(audit) == {"tables of ids"}


def test_counts_of_a_forgotten_pair_fail():
    """One interaction alone is left behind: the tables are right, and so is everything but the counts."""
    kept = [name for name in GONE if name.startswith('["u11"')]
    remaining = DATA.without([name for name in GONE if name not in kept[:1]])
    audit = audited("ease", replace(fitted("ease", remaining), config=forgotten("ease").config))
    assert failing(audit) == {"counts", "bound on the weights' error", "distance of the weights"}


def test_an_inverse_that_still_knows_fails():
    right = forgotten("ease")
    noise = torch.zeros_like(right.inverse)
    noise[0, 1] = 1e-6
    audit = audited("ease", replace(right, inverse=right.inverse + noise))
    assert failing(audit) == {"bound on the weights' error", "distance of the weights"}


def test_an_inverse_that_is_none_fails_without_a_figure():
    right = forgotten("ease")
    audit = audited("ease", replace(right, inverse=-right.inverse))
    check = by_name(audit)["bound on the weights' error"]
    assert (check.value, check.outcome) == (None, Outcome.FAIL)


def test_a_low_pass_that_still_knows_fails():
    right, original = forgotten("gfcf"), fitted("gfcf")
    assert right.items == original.items
    audit = audited("gfcf", replace(right, vectors=original.vectors))
    assert failing(audit) == {"low-pass filter"}


def test_wrong_sums_and_degrees_fail():
    right, original = forgotten("gfcf"), fitted("gfcf")
    audit = audited("gfcf", replace(right, sums=original.sums, item_degrees=original.item_degrees))
    assert failing(audit) == {"sums of the linear filter", "item degrees", "low-pass filter"}


def test_another_recipe_fails():
    model = runtime.train(DATA.without(GONE), {"regularisation": 6.0}, seed=0, progress=silent)
    assert "recipe" in failing(audited("ease", model))


def test_tables_in_another_order_fail():
    right = forgotten("gfcf")
    audit = audited("gfcf", replace(right, users=right.users[::-1]))
    assert failing(audit) == {"tables of ids"}


def test_a_model_of_another_kind_has_no_certificate():
    audit = audited("ease", forgotten("gfcf"))
    assert audit.verdict is Outcome.INCONCLUSIVE
    assert failing(audit) == {"numerical certificate"}


@both
def test_retraining_is_judged_by_usefulness_alone(kind):
    audit = audited(kind, fitted(kind, DATA.without(GONE)), catalog.RETRAIN)
    gating = {check.name for check in audit.checks if check.gating}
    assert gating == {"change of recall@20"}


def test_rankings_are_those_written_out_slowly():
    case = case_of("ease", forgotten("ease"))
    ground = Ground(case.data, case.forget)
    ranked = Rankings(RecommenderEvidence(case, ground)).candidate
    remaining = DATA.without(GONE)
    model = fitted("ease", remaining)
    scores = model.scores(torch.arange(len(model.users)), remaining)
    recalls, open_recalls = [], []
    for user in model.users:
        wanted = [i for i in model.items if f'["{user}","{i}"]' in set(remaining.audit().ids)]
        if not wanted:
            continue
        row = dict(zip(model.items, scores[model.users.index(user)].tolist(), strict=True))
        for hidden, found in (
            (DATA.training().ids, recalls),
            (remaining.training().ids, open_recalls),
        ):
            allowed = [item for item in model.items if f'["{user}","{item}"]' not in hidden]
            first = sorted(allowed, key=row.__getitem__, reverse=True)[:20]
            found.append(len(set(first) & set(wanted)) / len(wanted))
    assert torch.allclose(ranked.recall, torch.tensor(recalls, dtype=torch.float64))
    assert torch.allclose(ranked.open_recall, torch.tensor(open_recalls, dtype=torch.float64))


def test_pair_scores_are_the_models_own():
    case = case_of("ease", forgotten("ease"))
    evidence = RecommenderEvidence(case, Ground(case.data, case.forget))
    pairs = evidence.sets[Records.NEVER_SEEN]
    known, model = evidence.ground.known, case.parent
    scores = evidence.original(Records.NEVER_SEEN).scores
    for place in range(len(pairs)):
        user = model.users.index(known.users[pairs.users[place]])
        item = model.items.index(known.items[pairs.items[place]])
        expected = model.scores(torch.tensor([user]), DATA.without(GONE))[0, item]
        assert float(scores[place]) == pytest.approx(float(expected), abs=1e-12)


def test_forgotten_pairs_are_asked_about_where_both_ends_are_known():
    ground = Ground(DATA, FORGET)
    pairs = ground.sets(0)[Records.FORGOTTEN]
    asked = {(ground.known.users[u], ground.known.items[i]) for u, i in zip(*_lists(pairs), strict=True)}
    assert asked
    assert {user for user, _ in asked} == {"u11"}


def test_negatives_are_pairs_that_nobody_took():
    case = case_of("ease", forgotten("ease"))
    evidence = RecommenderEvidence(case, Ground(case.data, case.forget))
    pairs, known = evidence.negatives(), evidence.ground.known
    names = {f'["{known.users[u]}","{known.items[i]}"]' for u, i in zip(*_lists(pairs), strict=True)}
    assert names
    assert names.isdisjoint(DATA.ids)


class Embedded:
    """A recommender with embeddings, for the view that puts users together from items."""

    architecture = "embedded"

    def __init__(self, data, seed):
        self.users, self.items = data.learned().users, data.learned().items
        draws = torch.Generator().manual_seed(seed)
        self.of_users = torch.randn(len(self.users), 4, generator=draws)
        self.of_items = torch.randn(len(self.items), 4, generator=draws)

    def propagate(self, _):
        return self.of_users, self.of_items

    def scores(self, users, _):
        return self.of_users[users] @ self.of_items.T


def test_users_are_put_together_from_their_other_items():
    parent, candidate = Embedded(DATA, 0), Embedded(DATA.without(GONE), 1)
    case = replace(case_of("ease", candidate), parent=parent)
    ground = Ground(case.data, case.forget)
    evidence = RecommenderEvidence(case, ground, View.FOLDED_IN)
    pairs = evidence.sets[Records.FORGOTTEN]
    scores = evidence.original(Records.FORGOTTEN).scores
    names = parent.users
    assert {names[user] for user in pairs.users.tolist()} == {"u11", "u3", "u7"}
    history = {user: [] for user in names}
    for user, item in zip(DATA.training().user_index, DATA.training().item_index, strict=True):
        if DATA.items[item] in ground.known.items:
            history[DATA.users[user]].append(parent.items.index(DATA.items[item]))
    for place, (user, item) in enumerate(zip(*_lists(pairs), strict=True)):
        own = parent.items.index(ground.known.items[item])
        others = [other for other in history[names[user]] if other != own]
        mean = parent.of_items[others].to(torch.float64).mean(dim=0)
        expected = float(mean @ parent.of_items[own].to(torch.float64))
        assert float(scores[place]) == pytest.approx(expected, abs=1e-9)
    assert len(evidence.negatives()) > len(pairs)


def test_models_without_embeddings_cannot_be_folded_in():
    case = case_of("ease", forgotten("ease"))
    evidence = RecommenderEvidence(case, Ground(case.data, case.forget), View.FOLDED_IN)
    with pytest.raises(MetricError, match="has no embeddings"):
        evidence.original(Records.FORGOTTEN)


def test_what_does_not_know_who_remains_is_refused():
    case = case_of("ease", fitted("ease", DATA.without([n for n in DATA.ids if n.startswith('["u11"')])))
    evidence = RecommenderEvidence(case, Ground(case.data, case.forget))
    with pytest.raises(MetricError, match="does not know a user"):
        evidence.candidate(Records.FORGOTTEN)


def _lists(pairs):
    return pairs.users.tolist(), pairs.items.tolist()
