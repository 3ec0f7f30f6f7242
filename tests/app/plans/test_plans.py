import pytest
from sqlalchemy import func, select

from app.tables import Base, IdempotencyRecord
from app.trust.scopes import Scope

CONFIG = {
    "family": "classifier",
    "architecture": "analytic",
    "format": 1,
    "classes": ["cat", "dog"],
    "input_width": 784,
    "feature_dim": 4096,
    "gamma": 0.1,
    "seed": 0,
    "input_range": 1.0,
    "input_bits": 8,
    "weight_bits": 8,
    "feature_bits": 8,
    "feature_bound": 16.0,
    "max_records": 100_000,
}
HYPOTHETICAL = {
    "family": "classifier",
    "config": CONFIG,
    "target_kind": "records",
    "records": 60_000,
    "forget": 10,
}


@pytest.fixture
def ask(client, admin_headers):
    def post(body, **headers):
        return client.post("/v1/plans", json=body, headers=admin_headers | headers)

    return post


def asking(**fields):
    return {"model": "pets", "target": {"kind": "records", "ids": ["r1", "r2"]}} | fields


def about(**fields):
    return {"hypothetical": HYPOTHETICAL | fields}


def row_counts(runtime):
    with runtime.database.read() as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table))
            for table in Base.metadata.sorted_tables
        }


def slug(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def test_ladder_of_a_registered_model_with_reasons_and_estimates(ask, shelf):
    shelf.model()
    answer = ask(asking(guarantee="exact"))
    assert answer.status_code == 200
    plan = answer.json()
    assert (plan["model"], plan["records"], plan["forget"]) == ("pets", 5, 2)
    assert [rung["method"] for rung in plan["rungs"]] == ["acu", "retrain"]
    assert {rung["guarantee"] for rung in plan["rungs"]} == {"exact"}
    assert plan["rungs"][0]["parameters"]["solve"] == "fresh"
    assert plan["rungs"][0]["estimated_seconds"] > 0
    assert all(rung["reason"] for rung in plan["rungs"])


@pytest.mark.parametrize(
    ("target", "forget"),
    [
        ({"kind": "subjects", "ids": ["s0", "s3", "s4"]}, 3),
        ({"kind": "classes", "ids": ["cat"]}, 3),
        ({"kind": "classes", "ids": ["cat", "dog"]}, 5),
    ],
)
def test_forgotten_records_are_counted_through_subjects_and_classes(ask, shelf, target, forget):
    shelf.model()
    assert ask(asking(target=target)).json()["forget"] == forget


def test_ids_that_came_after_the_version_are_no_error_but_are_not_counted(ask, shelf):
    dataset = shelf.dataset(["r0", "r1"])
    shelf.model(dataset_id=dataset)
    shelf.grow(dataset, ["r1", "r7"])
    answer = ask(asking(target={"kind": "records", "ids": ["r0", "r7"]}))
    assert answer.status_code == 200
    assert answer.json()["forget"] == 1


def test_named_method_is_the_only_rung_and_the_others_say_why(ask, shelf):
    shelf.model()
    plan = ask(asking(method="retrain")).json()
    assert [rung["method"] for rung in plan["rungs"]] == ["retrain"]
    reasons = {entry["method"]: entry["reason"] for entry in plan["ruled_out"]}
    assert reasons["acu"] == "The method retrain was named instead."
    assert reasons["scrub"] == "It works on the architectures cnn, mlp; this model is analytic."


def test_hypothetical_model_is_planned_from_its_config_alone(ask):
    answer = ask(about())
    assert answer.status_code == 200
    plan = answer.json()
    assert plan["model"] is None
    acu, retrain = plan["rungs"]
    assert (acu["method"], retrain["method"]) == ("acu", "retrain")
    assert retrain["estimated_seconds"] > 10 * acu["estimated_seconds"]


def test_plan_changes_nothing(ask, shelf, runtime):
    shelf.model()
    before = row_counts(runtime)
    assert ask(asking()).status_code == 200
    assert row_counts(runtime) == before


def test_repeated_idempotency_key_gives_the_first_answer_again(ask, shelf, runtime):
    shelf.model()
    first = ask(asking(), **{"Idempotency-Key": "one"})
    again = ask(asking(), **{"Idempotency-Key": "one"})
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert slug(ask(about(), **{"Idempotency-Key": "one"})) == (422, "idempotency-key-reused")
    with runtime.database.read() as session:
        kept = session.scalars(select(IdempotencyRecord)).one()
    assert "r1" not in str(kept.body)


BAD_QUESTIONS = [
    ({}, "invalid-request"),
    ({"model": "pets"}, "invalid-request"),
    ({"target": {"kind": "records", "ids": ["r1"]}}, "invalid-request"),
    (asking() | about(), "invalid-request"),
    (asking(target={"kind": "records", "ids": []}), "invalid-request"),
    (asking(target={"kind": "records", "ids": ["r1", "r1"]}), "invalid-request"),
    (asking(target={"kind": "spells", "ids": ["r1"]}), "invalid-request"),
    (asking(guarantee="total"), "invalid-request"),
    (asking(reference="DSR-1"), "invalid-request"),
    (asking(model="dragons"), "unknown-model"),
    (asking(model="*"), "unknown-model"),
    (asking(target={"kind": "users", "ids": ["u"]}), "unsuitable-target"),
    (asking(target={"kind": "records", "ids": ["r1", "r99"]}), "unknown-ids"),
    (asking(method="acuu"), "unknown-method"),
    (asking(method="acu", parameters={"solve": "wildly"}), "invalid-parameters"),
    (asking(method="acu", parameters={"depth": 3}), "invalid-parameters"),
    (asking(parameters={"solve": "fresh"}), "invalid-parameters"),
    (about(family="poems"), "unknown-family"),
    (about(config={"architecture": "resnet"}), "unknown-architecture"),
    (about(config={"architecture": 7}), "unknown-architecture"),
    (about(config={}), "unknown-architecture"),
    (about(config=CONFIG | {"feature_dim": -1}), "invalid-checkpoint"),
    (about(config=CONFIG | {"input_width": 10**400}), "invalid-checkpoint"),
    (about(target_kind="users"), "no-suitable-method"),
    (about(records=5, forget=6), "invalid-request"),
    (about(records=0, forget=0), "invalid-request"),
    (about(records=10**30), "invalid-request"),
]


def test_bad_question_is_refused_with_422(ask, shelf, subtests):
    shelf.model()
    for body, problem in BAD_QUESTIONS:
        with subtests.test(body=body):
            assert slug(ask(body)) == (422, problem)


def test_unknown_ids_are_named(ask, shelf):
    shelf.model()
    answer = ask(asking(target={"kind": "records", "ids": ["r1", "r99"]}))
    assert answer.json()["unknown"] == ["r99"]


def test_key_for_other_models_cannot_find_out_whether_a_model_exists(client, make_key, shelf):
    shelf.model()
    headers = make_key(Scope.MODELS_READ, models=["birds"])
    for model in ("pets", "dragons"):
        answer = client.post("/v1/plans", json=asking(model=model), headers=headers)
        assert slug(answer) == (403, "scope-missing")


def test_plans_need_a_key_with_the_scope_to_read_models(client, make_key, shelf):
    shelf.model()
    assert client.post("/v1/plans", json=asking()).status_code == 401
    assert client.post("/v1/plans", json=asking(), headers=make_key(Scope.REQUESTS_WRITE)).status_code == 403
    assert client.post("/v1/plans", json=asking(), headers=make_key(Scope.MODELS_READ)).status_code == 200
