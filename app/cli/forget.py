"""`forget`, `status` and `watch`: forget requests over HTTP."""

from typing import Annotated, Any

import typer

from app.cli.connection import DEFAULT_URL, KeyOption, UrlOption, connect
from app.cli.errors import CommandError
from app.cli.output import JsonFlag, ProgressLine, print_fields, print_json, print_table, progress_line, say
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
from app.client import Client, Event, JsonObject

DONE = "completed"
RequestId = Annotated[str, typer.Argument(metavar="ID", help="The forget request's id.")]


def add_commands(program: typer.Typer) -> None:
    """Add this module's commands."""
    program.command("forget")(forget)
    program.command("status")(status)
    program.command("watch")(watch)


def forget(
    model: Annotated[str, typer.Argument(help="The model that shall forget, or '*' with --dataset.")],
    ids: IdsArgument = None,
    *,
    kind: KindOption = "records",
    ids_file: IdsFileOption = None,
    feature: FeatureOption = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="With '*': id of the dataset whose models shall forget.", show_default=False),
    ] = None,
    guarantee: GuaranteeOption = "any",
    method: MethodOption = "auto",
    parameter: ParametersOption = None,
    reference: Annotated[
        str | None, typer.Option(help="Your own name for the request; no personal data.", show_default=False)
    ] = None,
    due_at: Annotated[
        str | None, typer.Option(help="When it must be done, RFC 3339.  [default: one month from now]")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow it until it is settled, as `watch` does.")
    ] = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Demand that something be forgotten.

    Prints the request; with --wait, exits with status 1 unless it is completed.
    """
    target = read_target(kind, ids, ids_file, feature)
    parameters = read_parameters(parameter)
    with connect(url, api_key) as client:
        answer = client.forget(
            model,
            target,
            guarantee=guarantee,
            method=method,
            parameters=parameters,
            reference=reference,
            due_at=due_at,
            dataset=dataset,
        )
        requests: list[JsonObject] = answer.get("items", [answer])
        if wait:
            requests = [_follow(client, request["id"]) for request in requests]
    if as_json:
        print_json(requests if "items" in answer else requests[0])
    else:
        for request in requests:
            _print_request(request)
    if wait:
        _require_completed(requests)


def status(
    request_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The request; without it, all of them are listed.")
    ] = None,
    *,
    state: Annotated[
        str | None, typer.Option("--state", help="List only this state.", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="List only this model's.", show_default=False)] = None,
    overdue: Annotated[bool, typer.Option("--overdue", help="List only those past their due date.")] = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one forget request, or list them."""
    filters = {"status": state, "model": model, "overdue": overdue or None}
    with connect(url, api_key) as client:
        if request_id is not None:
            request = client.forget_request(request_id)
            print_json(request) if as_json else _print_request(request)
            return
        requests = client.forget_requests(
            **{name: value for name, value in filters.items() if value is not None}
        )
    if as_json:
        print_json(requests)
        return
    print_table(
        ["id", "model", "target", "state", "version", "due", "reference"],
        [
            [
                request["id"],
                request["model"],
                _target(request),
                request["status"],
                request["version"],
                request["due_at"],
                request["reference"],
            ]
            for request in requests
        ],
    )


def watch(
    request_id: RequestId,
    *,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Follow a forget request until it is settled.

    Exits with status 1 unless it is completed.
    """
    with connect(url, api_key) as client:
        request = _follow(client, request_id)
    print_json(request) if as_json else _print_request(request)
    _require_completed([request])


def show_event(event: Event, line: ProgressLine, *, say_states: bool = True) -> None:
    """Show an event: progress on the bar, everything else as a line of its own."""
    details: dict[str, Any] = event.details or {}
    if event.type == "progress":
        line(str(details.get("stage", event.reason)), int(details.get("step", 0)), int(details.get("of", 0)))
    elif say_states:
        say(f"{event.status or event.type}: {event.reason}")


def _follow(client: Client, request_id: str) -> JsonObject:
    with progress_line() as line:
        return client.wait(request_id, on_event=lambda event: show_event(event, line))


def _require_completed(requests: list[JsonObject]) -> None:
    for request in requests:
        if request["status"] != DONE:
            raise CommandError(f"Forget request {request['id']} is {request['status']}: {request['reason']}")


def _print_request(request: JsonObject) -> None:
    print_fields(
        {
            "id": request["id"],
            "model": request["model"],
            "target": _target(request),
            "state": request["status"],
            "reason": request["reason"],
            "version": request["version"],
            "method": request["method"],
            "guarantee": request["guarantee"],
            "reference": request["reference"],
            "due": request["due_at"],
        }
    )


def _target(request: JsonObject) -> str:
    return f"{request['target']['kind']}: {request['target']['count']}"
