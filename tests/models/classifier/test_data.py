import dataclasses
import json

import torch

from models.classifier import snapshots
from models.classifier.data import ClassifierData, load_data
from models.holdout import in_audit_half
from tests.reference.classifier_data import clusters


def test_selections_keep_order_and_leave_the_original_alone():
    data = clusters(6, held_out=2)
    assert data.only(["r4", "r1", "nobody"]).ids == ("r1", "r4")
    assert data.without(["r4", "r1", "nobody"]).ids == ("r0", "r2", "r3", "r5", "r6", "r7")
    assert data.training().ids == tuple(f"r{index}" for index in range(6))
    assert len(data) == 8
    assert torch.equal(data.only(["r4"]).features[0], data.features[4])
    assert data.missing(["r1", "x", "r7", "y"]) == ["x", "y"]


def test_held_out_records_are_split_by_their_id_whoever_is_beside_them():
    data = clusters(4, held_out=40)
    halves = data.calibration().ids, data.audit().ids
    assert sorted(halves[0] + halves[1]) == sorted(data.ids[4:])
    assert all(in_audit_half(record_id) for record_id in halves[1])
    assert min(map(len, halves)) > 5
    fewer = data.without(data.ids[4:20])
    assert set(fewer.audit().ids) == set(halves[1]) - set(data.ids[4:20])


def test_methods_see_everything_but_the_audit_half():
    data = clusters(4, held_out=40)
    visible = data.for_methods()
    assert set(visible.ids) == set(data.ids) - set(data.audit().ids)
    assert len(visible.audit()) == 0


def test_records_of_other_classes_remain():
    assert clusters(6, classes=3).without_classes(["b"]).labels.tolist() == [0, 2, 0, 2]


def test_changes_name_what_to_unlearn_and_what_to_learn():
    data = clusters(6, held_out=2)
    features, labels = data.features.clone(), data.labels.clone()
    features[1] += 1.0
    labels[2] = 0
    target = dataclasses.replace(
        data, ids=(*data.ids[:5], "new", *data.ids[6:]), features=features, labels=labels
    )
    removed, added = data.changes_to(target)
    assert removed.ids == ("r1", "r2", "r5")
    assert added.ids == ("r1", "r2", "new")
    assert torch.equal(added.features[0], features[1])


def test_a_record_that_becomes_held_out_is_unlearned():
    data = clusters(6)
    removed, added = data.changes_to(dataclasses.replace(data, held_out=torch.arange(6) == 3))
    assert removed.ids == ("r3",)
    assert len(added) == 0


def test_no_change_is_no_work():
    removed, added = clusters(6).changes_to(clusters(6))
    assert len(removed) == len(added) == 0


def test_a_snapshot_is_loaded_as_it_was_written(tmp_path):
    rows = [
        {"id": "x", "label": "cat", "features": [0.5, 1.0]},
        {"id": "y", "label": "dog", "features": [0.25, 3.0], "split": "holdout", "subject": "s"},
        {"id": "z", "label": "cat", "features": [1.5, 2.0]},
    ]
    source, snapshot = tmp_path / "records.jsonl", tmp_path / "snapshot"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    snapshot.mkdir()
    snapshots.ingest([source], snapshot, data_schema=None)
    data = load_data(snapshot)
    assert isinstance(data, ClassifierData)
    assert data.ids == ("x", "y", "z")
    assert data.features.tolist() == [[0.5, 1.0], [0.25, 3.0], [1.5, 2.0]]
    assert [data.classes[label] for label in data.labels] == ["cat", "dog", "cat"]
    assert data.held_out.tolist() == [False, True, False]
