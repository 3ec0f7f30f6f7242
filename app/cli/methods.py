"""`methods` and `plan`: what can be done, and what would be."""

from typing import Annotated

import typer

from app.cli.connection import DEFAULT_URL, KeyOption, UrlOption, connect
from app.cli.output import JsonFlag, print_json, print_table, say
from app.cli.target import (
    FeatureOption,
    GuaranteeOption,
    IdsArgument,
    IdsFileOption,
    KindOption,
    MethodOption,
    ParametersOption,
    read_parameters,
    read_target,
)
from app.client import JsonObject


def add_commands(program: typer.Typer) -> None:
    """Add this module's commands."""
    program.command("methods")(methods)
    program.command("plan")(plan)


def methods(
    family: Annotated[str | None, typer.Argument(help="Only this family's.", show_default=False)] = None,
    *,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the installed unlearning methods."""
    with connect(url, api_key) as client:
        found = client.methods(family)
    if as_json:
        print_json(found)
        return
    print_table(
        ["family", "method", "title", "forgets", "guarantee", "paper"],
        [
            [
                method["family"],
                method["name"],
                method["title"],
                ", ".join(method["targets"]),
                method["guarantee"],
                method["paper"],
            ]
            for method in found
        ],
    )


def plan(
    model: Annotated[str, typer.Argument(help="The model that would forget.")],
    ids: IdsArgument = None,
    *,
    kind: KindOption = "records",
    ids_file: IdsFileOption = None,
    feature: FeatureOption = None,
    guarantee: GuaranteeOption = "any",
    method: MethodOption = "auto",
    parameter: ParametersOption = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show how a forget request would be served.

    Prints which methods would be tried, in which order and why, and why not the others; nothing is stored.
    """
    target = read_target(kind, ids, ids_file, feature)
    parameters = read_parameters(parameter)
    with connect(url, api_key) as client:
        found = client.plan(model, target, guarantee=guarantee, method=method, parameters=parameters)
    if as_json:
        print_json(found)
        return
    print_table(
        ["", "method", "guarantee", "estimate", "why"],
        [
            [place, rung["method"], rung["guarantee"], f"{rung['estimated_seconds']:.3g} s", rung["reason"]]
            for place, rung in enumerate(found["rungs"], start=1)
        ],
    )
    if found["references"]["needed"]:
        say(_references(found["references"]))
    for ruled_out in found["ruled_out"]:
        say(f"not {ruled_out['method']}: {ruled_out['reason']}")


def _references(estimate: JsonObject) -> str:
    """Say what the audits would be compared with, and what that costs."""
    wanted = estimate["retrained"] + estimate["shadow_models"]
    cached = estimate["cached"] + estimate["cached_shadow_models"]
    seconds = estimate["estimated_seconds"]
    cost = f"about {seconds:.3g} s" if seconds is not None else "an unknown time"
    beyond = "" if estimate["within_budget"] in {True, None} else ", which is beyond the policy's budget"
    return f"audits need {wanted} retrained models, {cached} of them there already; the rest takes {cost}{beyond}"
