"""A real ladder as rows and as sheets, and the tables of a page as a program reads them."""

import datetime as dt
import json
import re
import uuid
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app.reports import printing
from app.reports.schemas import Acceptance, Asked, Made, Sheet, TargetsAsked
from app.reports.service import tried
from app.tables import CertificateFrame, Job, Version
from app.tables.job import JobKind, JobState
from app.tables.version import VersionOrigin, VersionState
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.report import Audit

NOW = dt.datetime(2026, 11, 21, 9, 0, 12, tzinfo=dt.UTC)
VOID = {"meta", "link", "br", "img", "input", "hr"}


@pytest.fixture(scope="session")
def rungs():
    return json.loads((Path(__file__).parent / "ladder.json").read_text())


@pytest.fixture(scope="session")
def sheet_of(rungs):
    """Make the sheet of a version that is the result of one method of the ladder."""

    def sheet_of(method="finetune", **changes):
        place = next(place for place, rung in enumerate(rungs) if rung["method"] == method)
        audit = Audit.model_validate(rungs[place]["audit"])
        fields = {
            "model": "digits",
            "version": 2,
            "parent": 1,
            "asked": Asked(
                requests=3,
                targets=(
                    TargetsAsked(kind="records", requests=2, count=39),
                    TargetsAsked(kind="subjects", requests=1, count=1),
                ),
                guarantee="any",
                method="auto",
                parameters={},
                references=("DSR-2026-118", "DSR-2026-119"),
                further_references=0,
            ),
            "made": Made(
                method=method,
                guarantee=audit.guarantee,
                configuration=rungs[place]["configuration"],
                seed=7,
                started_at=NOW - dt.timedelta(seconds=12),
                finished_at=NOW,
            ),
            "ladder": tuple(tried(rung, chosen=number == place) for number, rung in enumerate(rungs)),
            "policy": AuditPolicy().model_dump(mode="json"),
            "audit": audit,
            "build": "0.1.0",
        }
        return Sheet(**fields | changes)

    return sheet_of


@pytest.fixture(scope="session")
def draw():
    """Draw in this process: the drawing process of the service is slow to begin, and tested by itself."""
    from app.reports.render import draw

    return draw


@pytest.fixture(scope="session")
def accepted():
    return Acceptance(by="person", reviewer="dpo", reason="The deadline is on Monday.")


@pytest.fixture(scope="session")
def finetune_page(sheet_of, draw):
    return draw(sheet_of("finetune"))


@pytest.fixture(scope="session")
def retrain_page(sheet_of, draw):
    return draw(sheet_of("retrain"))


@dataclass
class Element:
    tag: str
    attributes: dict
    parent: "Element | None"
    children: list = field(default_factory=list)

    @property
    def text(self):
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, tag, **attributes):
        for child in self.children:
            if isinstance(child, Element):
                if child.tag == tag and all(
                    child.attributes.get(key) == value for key, value in attributes.items()
                ):
                    yield child
                yield from child.all(tag, **attributes)

    def one(self, tag, **attributes):
        [found] = self.all(tag, **attributes)
        return found

    @property
    def figures(self):
        return [float(data.attributes["value"]) for data in self.all("data")]


class _Builder(HTMLParser):
    def __init__(self):
        super().__init__()
        self.root = self.here = Element("", {}, None)

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs), self.here)
        self.here.children.append(element)
        if tag not in VOID:
            self.here = element

    def handle_startendtag(self, tag, attrs):
        self.here.children.append(Element(tag, dict(attrs), self.here))

    def handle_endtag(self, tag):
        assert self.here.tag == tag, f"</{tag}> closes <{self.here.tag}>"
        self.here = self.here.parent

    def handle_data(self, data):
        self.here.children.append(data)


def parse(page):
    builder = _Builder()
    builder.feed(page)
    builder.close()
    assert builder.here is builder.root, f"<{builder.here.tag}> is not closed"
    return builder.root


def rows_of(table):
    """The rows of a table, each a list of cells."""
    body = table.one("tbody")
    return [
        [cell for cell in row.children if isinstance(cell, Element) and cell.tag in {"td", "th"}]
        for row in body.all("tr")
    ]


def one_line(text):
    return re.sub(r"\s+", " ", text).strip()


@pytest.fixture
def published(runtime, shelf, rungs):
    """Enter version 2 of `digits` as a worker would: made by a method of the ladder, its certificate's frame signed."""

    def publish(method="retrain", verdict=None):
        model = shelf.model("digits")
        rung = next(rung for rung in rungs if rung["method"] == method)
        job_id = uuid.uuid4()
        with runtime.database.write() as session:
            first = session.get_one(Version, (model.id, 1))
            session.add(
                Job(
                    id=job_id,
                    model_id=model.id,
                    kind=JobKind.UNLEARN,
                    state=JobState.COMPLETED,
                    parent_version=1,
                    produced_version=2,
                    seed=7,
                    policy=AuditPolicy().model_dump(mode="json"),
                    outcome={"rungs": rungs, "skipped": [{"method": "acu", "reason": "Not of this kind."}]},
                    created_at=NOW,
                    started_at=NOW,
                    finished_at=NOW,
                )
            )
            session.flush()
            session.add(
                Version(
                    model_id=model.id,
                    number=2,
                    parent=1,
                    origin=VersionOrigin.UNLEARNED,
                    state=VersionState.PUBLISHED,
                    dataset_id=first.dataset_id,
                    snapshot=first.snapshot,
                    job_id=job_id,
                    method=method,
                    configuration=rung["configuration"],
                    audit=rung["audit"],
                    location=f"models/digits/2/{uuid.uuid4().hex}",
                    manifest={"files": []},
                    digest="0" * 64,
                    size=0,
                    created_at=NOW,
                )
            )
            session.flush()
            if verdict is not None:
                text = json.dumps({"predicate": {"request": "GAP", "verdict": verdict}})
                session.add(
                    CertificateFrame(model_id=model.id, version=2, text=text.replace('"GAP"', "\n", 1))
                )
        return model, job_id

    return publish


@pytest.fixture
def drawn(monkeypatch):
    """Count the drawing processes that are begun."""
    begun = []
    run = printing.subprocess.run

    def counted(*arguments, **options):
        begun.append(arguments)
        return run(*arguments, **options)

    monkeypatch.setattr(printing.subprocess, "run", counted)
    return begun
