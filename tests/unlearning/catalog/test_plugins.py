"""Packages of others, as really installed packages in processes of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"
EXAMPLE = PLUGINS / "expunge_example"
MISBEHAVING = PLUGINS / "expunge_misbehaving"

SHOW_PLANS = """
import json, sys
from models.architectures import describe_config
from unlearning.catalog import methods
from unlearning.planner import PlanInput, make_plan

def ladder(config, **asked):
    described = dict(describe_config("classifier", config))
    sizes = {"family": "classifier", "architecture": described, "records": 1000, "forget": 100}
    plan = make_plan(PlanInput(**sizes, **asked))
    return [rung.method for rung in plan.rungs], {entry.method: entry.reason for entry in plan.ruled_out}

centroids = {"architecture": "centroids", "classes": ["a", "b"], "input_width": 4}
print(json.dumps({
    "methods": [spec.name for spec in methods("classifier")],
    "class": ladder(centroids, target_kind="classes", guarantee="exact"),
    "records": ladder(centroids, target_kind="records"),
    "torch": "torch" in sys.modules,
}))
"""


def run_python(code, *paths):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture(scope="module")
def installed_example(tmp_path_factory):
    """The example package, built and installed by pip, offline, into a folder of its own."""
    source = tmp_path_factory.mktemp("source") / "package"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    subprocess.run(command, check=True, timeout=100)
    return target


def test_installed_package_adds_an_architecture_and_methods_without_torch(installed_example):
    process = run_python(SHOW_PLANS, installed_example)
    assert process.returncode == 0, process.stderr
    shown = json.loads(process.stdout)
    assert {"acu", "drop_class", "retrain", "scale_down"} <= set(shown["methods"])
    rungs, ruled_out = shown["class"]
    assert rungs == ["drop_class", "retrain"]
    assert "architectures analytic; this model is centroids" in ruled_out["acu"]
    rungs, ruled_out = shown["records"]
    assert rungs == ["retrain"]
    assert "forgets classes, not records" in ruled_out["drop_class"]
    assert not shown["torch"]


def test_example_methods_are_loadable_where_torch_is(installed_example):
    code = (
        "from unlearning.catalog import get_method\n"
        "from models.architectures import get_architecture\n"
        "for name in ('drop_class', 'scale_down'): assert callable(get_method('classifier', name).load())\n"
        "assert get_architecture('classifier', 'centroids').runtime().train\n"
    )
    process = run_python(code, installed_example)
    assert process.returncode == 0, process.stderr


def test_folder_with_dist_info_on_the_path_counts_as_installed():
    process = run_python(
        "from unlearning.catalog import get_method; print(get_method('classifier', 'misbehave').title)",
        MISBEHAVING,
    )
    assert process.stdout.strip() == "Misbehaving", process.stderr


def test_two_packages_can_be_installed_side_by_side(installed_example):
    code = "from unlearning.catalog import methods; print(*(spec.name for spec in methods('classifier')))"
    found = set(run_python(code, installed_example, MISBEHAVING).stdout.split())
    assert found > {"acu", "drop_class", "retrain", "scale_down"}


def fake_package(folder, name, group, value, **modules):
    """Lay out an installed package by hand: modules by name, and the metadata of one entry point."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nit = {value}\n")
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source)
    return folder


SHOW_REFUSAL = """
from models.errors import PluginError
from models.architectures import architectures
from unlearning.catalog import methods
try:
    methods(), architectures()
except PluginError as error:
    print(error)
"""


def test_broken_package_is_named(tmp_path):
    folder = fake_package(
        tmp_path, "bad-pills", "expunge.methods", "pills:X", pills="raise OSError('bitter')"
    )
    shown = run_python(SHOW_REFUSAL, folder).stdout
    assert "'bad-pills'" in shown
    assert "cannot be imported (OSError: bitter)" in shown


def test_package_that_imports_torch_is_named(tmp_path):
    folder = fake_package(tmp_path, "heavy", "expunge.methods", "heavy:X", heavy="import torch\nX = ()")
    shown = run_python(SHOW_REFUSAL, folder).stdout
    assert "'heavy'" in shown
    assert "imports torch" in shown


def test_package_that_takes_a_built_in_name_is_named(tmp_path):
    source = (
        "import dataclasses\nfrom unlearning.catalog.classifier import ACU\nX = dataclasses.replace(ACU)\n"
    )
    folder = fake_package(tmp_path, "usurper", "expunge.methods", "usurper:X", usurper=source)
    shown = run_python(SHOW_REFUSAL, folder).stdout
    assert "classifier/acu is offered twice, by the packages 'expunge' and 'usurper'" in shown


def test_package_with_a_malformed_architecture_is_named(tmp_path):
    folder = fake_package(tmp_path, "shapeless", "expunge.architectures", "shapeless:X", shapeless="X = 7")
    assert "'shapeless'" in run_python(SHOW_REFUSAL, folder).stdout
