"""Makes `ladder.json` anew: `python tests/app/reports/make_ladder.py`, half a minute, when the schema of audits changes.

It is what the worker records of a real ladder: a small network on 1,200 handwritten digits, 40 of them mislabelled and to
be forgotten, judged against three retrained models. Figures are cut to six digits, so that the file stays small.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from app.worker.child_job import _rung_json
from models.contracts import ForgetSet
from models.families import get_family
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import InMemoryReferences
from unlearning.pipeline import run_plan
from unlearning.planner import PlanInput, make_plan

HERE = Path(__file__).parent
RECORDS, MISLABELLED = 1200, 40


def run(directory: Path) -> list[dict[str, object]]:
    family = get_family("classifier")
    runtime = family.runtime()
    features, labels = (part[:RECORDS] for part in load_digits(return_X_y=True))
    labels = labels.copy()
    ids = [f"digit-{number}" for number in range(RECORDS)]
    held_out = np.arange(RECORDS) % 5 == 4
    wrong = np.flatnonzero(~held_out)[:MISLABELLED]
    labels[wrong] = (labels[wrong] + 3) % 10
    split = np.where(held_out, "holdout", "train")
    np.savez(
        directory / "x.npz",
        features=features.astype(np.uint8),
        labels=labels.astype(str),
        ids=ids,
        split=split,
    )
    snapshot = directory / "snapshot"
    snapshot.mkdir()
    family.snapshots().ingest([directory / "x.npz"], snapshot, data_schema=None)
    data = runtime.load_data(snapshot)
    recipe = {"architecture": "mlp", "epochs": 30, "input_range": 16.0}
    model = runtime.train(data, recipe, seed=0, progress=lambda *_: None)
    forget = ForgetSet(tuple(sorted(ids[place] for place in wrong)), ())
    plan = make_plan(
        PlanInput(
            family="classifier",
            architecture=dict(runtime.describe(model)),
            target_kind="records",
            records=int((~held_out).sum()),
            forget=MISLABELLED,
            guarantee="any",
        )
    )
    result = run_plan(
        runtime,
        model,
        data,
        forget,
        plan,
        reload=lambda: model,
        policy=AuditPolicy(retrained_seeds=3),
        references=InMemoryReferences(),
        seed=1,
        progress=lambda *_: None,
    )
    return [_rung_json(rung) for rung in result.rungs]


def cut(value):
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: cut(part) for name, part in value.items()}
    return [cut(part) for part in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        rungs = cut(run(Path(directory)))
    (HERE / "ladder.json").write_text(json.dumps(rungs, ensure_ascii=False, separators=(",", ":")) + "\n")
