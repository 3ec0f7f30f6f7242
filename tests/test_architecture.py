"""The invariants of docs/architecture that no single module can hold by itself."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from unlearning.catalog import methods
from unlearning.catalog.spec import MethodSpec, load_object

ROOT = Path(__file__).parents[1]
LAYERS = ("app", "unlearning", "models")
SOURCES = {layer: sorted((ROOT / layer).rglob("*.py")) for layer in LAYERS}
FORBIDDEN = {
    "unlearning": {"app", "fastapi", "starlette", "sqlalchemy", "httpx", "pydantic_settings"},
    "models": {"app", "unlearning", "fastapi", "starlette", "sqlalchemy", "httpx", "pydantic_settings"},
}
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
BUILT_IN = [spec for spec in methods() if spec.implementation.startswith("unlearning.")]

IMPORT_THE_SERVICE = (
    "import sys, app.main; sys.exit(bool({'torch', 'matplotlib', 'jinja2'} & sys.modules.keys()))"
)
WITH_TORCH = ("app.worker.child", "app.cli.demo.scenario", "app.cli.demo.proof")
"""Beginnings of the names of modules that run in processes of their own: a job's, and the demonstration's."""

IMPORT_ALL_OTHERS = f"""
import importlib, pkgutil, sys
import app, unlearning.catalog, unlearning.planner, unlearning.targets, unlearning.audits.report
for module in pkgutil.walk_packages(app.__path__, "app."):
    if not module.name.startswith({WITH_TORCH}) and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        if "torch" in sys.modules:
            sys.exit(f"{{module.name}} imports torch")
"""


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_names(path):
    """Every module that a file imports anywhere in it, functions included."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer they cross"
            yield node.module


def test_http_process_imports_neither_torch_nor_what_draws():
    process = run_python(IMPORT_THE_SERVICE)
    assert process.returncode == 0, process.stderr


def test_no_other_module_of_the_service_imports_torch():
    process = run_python(IMPORT_ALL_OTHERS)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_layer_imports_nothing_above_it(layer):
    assert SOURCES[layer]
    crossing = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in SOURCES[layer]
        for name in imported_names(path)
        if name.split(".")[0] in FORBIDDEN[layer]
    ]
    assert crossing == []


@pytest.mark.parametrize("layer", ["unlearning", "models"])
def test_science_reads_no_environment(layer):
    readers = [
        str(path.relative_to(ROOT))
        for path in SOURCES[layer]
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    ]
    assert readers == []


@pytest.mark.parametrize("layer", LAYERS)
def test_nothing_is_unpickled(layer):
    offences = []
    for path in SOURCES[layer]:
        shown = path.relative_to(ROOT)
        offences += [f"{shown} imports {name}" for name in imported_names(path) if name in UNPICKLERS]
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
                offences.append(f"{shown}:{node.lineno} uses torch.load")
            if (
                isinstance(node, ast.keyword)
                and node.arg == "allow_pickle"
                and ast.unparse(node.value) != "False"
            ):
                offences.append(f"{shown}:{node.value.lineno} allows pickles")
    assert offences == []


def test_there_are_built_in_methods():
    assert {"acu", "retrain"} <= {spec.name for spec in BUILT_IN}


def identity(spec: MethodSpec) -> str:
    return f"{spec.family}/{spec.name}"


@pytest.mark.parametrize("spec", BUILT_IN, ids=identity)
def test_every_method_can_be_imported_and_keeps_to_the_contract(spec):
    assert parameters_of(spec.load()) == (
        ["model", "data", "forget", "config"],
        ["generator", "progress"],
    )
    if spec.update is not None:
        assert parameters_of(load_object(spec.update)) == (
            ["model", "data", "target_data", "config"],
            ["generator", "progress"],
        )


def parameters_of(function):
    parameters = inspect.signature(function).parameters.values()
    positional = [one.name for one in parameters if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    keyword = [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
    return positional, keyword


@pytest.mark.parametrize("spec", BUILT_IN, ids=identity)
def test_every_method_lives_in_a_file_of_its_own_with_its_tests(spec):
    module = f"unlearning.methods.{spec.family}.{spec.name}"
    assert spec.implementation.startswith(f"{module}:")
    assert spec.update is None or spec.update.startswith(f"{module}:")
    source = ROOT / (module.replace(".", "/") + ".py")
    assert ast.get_docstring(tree_of(source)), (
        f"{source} must say idea, paper, deviations, guarantee and limits"
    )
    tests = ROOT / "tests" / "unlearning" / "methods" / spec.family / f"test_{spec.name}.py"
    assert tests.is_file(), f"{identity(spec)} has no reference test {tests.relative_to(ROOT)}"


@pytest.mark.parametrize("spec", BUILT_IN, ids=identity)
def test_every_method_names_its_paper(spec):
    assert spec.paper.startswith("https://")


@pytest.mark.parametrize("spec", BUILT_IN, ids=identity)
def test_every_method_has_a_benchmark_row(spec):
    name = re.compile(rf"\b{spec.name}\b")
    rows = [path.name for path in (ROOT / "benchmarks").glob("*.py") if name.search(path.read_text())]
    assert rows, f"no benchmark mentions {spec.name}"


def test_every_method_has_a_row_in_the_documentation_that_says_what_the_catalog_says():
    lines = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head, _, *rows = table
    assert head == ["family", "method", "title", "targets", "guarantee", "needs", "architectures", "source"]
    assert rows == [
        [
            spec.family,
            spec.name,
            spec.title,
            ", ".join(sorted(spec.targets)),
            spec.guarantee.value,
            ", ".join(sorted(spec.needs)),
            "all" if spec.architectures is None else ", ".join(sorted(spec.architectures)),
            spec.paper,
        ]
        for spec in BUILT_IN
    ]
