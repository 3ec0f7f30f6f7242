"""Torch-free: every method that is installed, Expunge's own and those of other packages.

A package adds methods through entry points of the group `expunge.methods`; each names a `MethodSpec` or a tuple
of them. A package whose methods cannot be taken is never left out silently: the catalog as a whole refuses to
load, with a sentence that names the package (docs/decisions/0003-catalog-and-planner.md).
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

from pydantic.errors import PydanticInvalidForJsonSchema

from models.errors import PluginError
from models.families import FAMILIES
from models.plugins import offers
from unlearning.catalog import classifier, graph, recommender, recommender_networks
from unlearning.catalog.spec import Guarantee, MethodConfig, MethodSpec
from unlearning.errors import ConfigurationError, UnknownMethodError

ENTRY_POINT_GROUP = "expunge.methods"
BUILT_IN = "expunge"
NEEDS = frozenset({"forget_data", "retained_data", "statistics"})
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
RESERVED_NAMES = frozenset({"auto"})
IMPLEMENTATION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def methods(family: str | None = None) -> tuple[MethodSpec, ...]:
    """Return the specs of all methods, or of one family's, ordered by family and name.

    Raises:
        PluginError: An installed package offers methods that cannot be taken.
    """
    return tuple(spec for spec in _catalog().values() if family is None or spec.family == family)


def get_method(family: str, name: str) -> MethodSpec:
    """Return one method's spec.

    Raises:
        UnknownMethodError: There is none; the message lists the family's methods.
        PluginError: An installed package offers methods that cannot be taken.
    """
    try:
        return _catalog()[family, name]
    except KeyError:
        known = ", ".join(spec.name for spec in methods(family)) or "none"
        raise UnknownMethodError(
            f"There is no method {name!r} for the family {family!r}; installed methods: {known}."
        ) from None


@lru_cache
def _catalog() -> Mapping[tuple[str, str], MethodSpec]:
    """Collect the catalog, once per process."""
    specs: dict[tuple[str, str], MethodSpec] = {}
    origins: dict[tuple[str, str], str] = {}
    for origin, spec in [*_built_in(), *_plugged_in()]:
        key = spec.family, spec.name
        if key in specs:
            raise PluginError(
                f"The method {spec.family}/{spec.name} is offered twice, by the packages {origins[key]!r} and "
                f"{origin!r}; uninstall one of them."
            )
        specs[key], origins[key] = spec, origin
    return MappingProxyType(dict(sorted(specs.items())))


def _built_in() -> Iterator[tuple[str, MethodSpec]]:
    for spec in (
        *classifier.METHODS,
        *graph.METHODS,
        *recommender.METHODS,
        *recommender_networks.METHODS,
    ):
        yield BUILT_IN, spec


def _plugged_in() -> Iterator[tuple[str, MethodSpec]]:
    for offer in offers(ENTRY_POINT_GROUP):
        for spec in offer.value if isinstance(offer.value, tuple) else (offer.value,):
            try:
                yield offer.package, check_spec(spec)
            except ValueError as error:
                raise offer.refusal(str(error)) from error


def check_spec(spec: object) -> MethodSpec:
    """Return `spec`, checked for what the type checker cannot see in a package of somebody else.

    Raises:
        ValueError: The spec is malformed; the message says how.
    """
    if not isinstance(spec, MethodSpec):
        raise ValueError(f"it is a {type(spec).__name__}, not a MethodSpec or a tuple of them")  # noqa: TRY004 - one kind of refusal
    problem = next(_problems(spec), None)
    if problem is not None:
        raise ValueError(f"the method {spec.family}/{spec.name} {problem}")
    return spec


def _problems(spec: MethodSpec) -> Iterator[str]:
    """Yield what is wrong with a spec; later checks may rely on earlier ones."""
    if not isinstance(spec.family, str) or spec.family not in FAMILIES:
        yield f"is for an unknown family; there are {', '.join(sorted(FAMILIES))}"
        return
    if not isinstance(spec.name, str) or not NAME.fullmatch(spec.name) or spec.name in RESERVED_NAMES:
        yield "has a name that is not lower-case letters, digits and underscores, or that is reserved"
    if not _is_set_of_names(spec.targets) or not spec.targets <= FAMILIES[spec.family].target_kinds:
        yield "must have as targets a non-empty frozenset of its family's target kinds"
    if not isinstance(spec.guarantee, Guarantee):
        yield "must have a Guarantee as guarantee"
    if spec.architectures is not None and not _is_set_of_names(spec.architectures):
        yield "must have as architectures a non-empty frozenset of names, or None"
    if not isinstance(spec.needs, frozenset) or not spec.needs <= NEEDS:
        yield f"must have as needs a frozenset out of {', '.join(sorted(NEEDS))}"
    yield from _source_problems(spec)
    yield from _configuration_problems(spec)


def _source_problems(spec: MethodSpec) -> Iterator[str]:
    if not all(isinstance(text, str) and text.strip() for text in (spec.title, spec.summary, spec.paper)):
        yield "must have a title, a summary and a paper or other source"
    paths: list[object] = [spec.implementation, *([] if spec.update is None else [spec.update])]
    if not all(isinstance(path, str) and IMPLEMENTATION.fullmatch(path) for path in paths):
        yield "must have implementation and update as 'module:function'"
    if not callable(spec.cost):
        yield "must have a function as cost"
    if spec.way is not None and not callable(spec.way):
        yield "must have a function as way, or None"


def _configuration_problems(spec: MethodSpec) -> Iterator[str]:
    if not (isinstance(spec.config, type) and issubclass(spec.config, MethodConfig)):
        yield "must have a subclass of MethodConfig as config"
        return
    try:
        spec.configure({})
        spec.config.model_json_schema()
    except ConfigurationError as error:
        yield f"must have a default for each parameter, for `method: auto` gives none ({error})"
    except PydanticInvalidForJsonSchema as error:
        yield f"must have parameters that JSON Schema can describe ({error})"


def _is_set_of_names(value: object) -> bool:
    return isinstance(value, frozenset) and bool(value) and all(isinstance(name, str) for name in value)
