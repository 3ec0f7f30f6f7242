"""What a page says and how, drawn from a real ladder."""

import itertools
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from app.reports.pictures import distributions, strata
from app.reports.schemas import Acceptance, Independent
from tests.app.reports.conftest import NOW, one_line, parse, rows_of
from unlearning.audits.report import Audit, Curve, Outcome

CSS = Path(__file__).parents[3] / "app" / "reports" / "page.css"
HOSTILE = "<script>alert(1)</script>\"'&</svg></style>]]>-->$x^2$ {{ 7*7 }} \u202e\x07"


def luminance(colour):
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def without_pictures(audit, **changes):
    """Pictures take most of the time."""
    return audit.model_copy(update={"distributions": (), "curves": (), "strata": ()} | changes)


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_computed_as_wcag_says():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


def test_every_text_stands_out_from_what_it_stands_on():
    css = re.sub(r"/\*.*?\*/", "", CSS.read_text(), flags=re.DOTALL)
    pairs = []
    for rule in re.findall(r"\{([^{}]*)\}", css):
        declared = dict(re.findall(r"(?:^|[;\s])(color|background):\s*(#[0-9a-f]{6})", rule))
        assert declared.keys() != {"color"}, f"nobody knows what this text stands on: {rule}"
        if "color" in declared:
            pairs.append((declared["color"], declared["background"]))
    assert len(pairs) > 10
    assert {pair: contrast(*pair) for pair in pairs if contrast(*pair) < 4.5} == {}


def test_lines_of_pictures_stand_out_from_paper():
    from app.reports.drawing import LOOKS

    assert all(contrast(look.colour, "#ffffff") >= 3 for look in LOOKS.values())
    assert len({(look.dashes, look.marker) for look in LOOKS.values()}) == len(LOOKS), (
        "told apart by colour alone"
    )


def test_the_page_asks_for_nothing_from_elsewhere(finetune_page):
    page = parse(finetune_page)
    assert not list(page.all("script")), "a script"
    for name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster"):
        for element in everything(page):
            value = element.attributes.get(name, "#")
            assert value.startswith(("#", "data:,")), f"<{element.tag} {name}={value!r}>"
    assert not [
        element for element in everything(page) if any(name.startswith("on") for name in element.attributes)
    ]
    assert re.findall(r"url\((?!#)", finetune_page) == []
    assert "@import" not in finetune_page
    addresses = set(re.findall(r"https?://[^\"'\s<>]+", finetune_page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, (
        "names of formats alone"
    )


def everything(element):
    for child in element.children:
        if not isinstance(child, str):
            yield child
            yield from everything(child)


def test_pages_are_well_formed_and_name_everything_once(finetune_page, retrain_page):
    for page in map(parse, (finetune_page, retrain_page)):
        ids = [element.attributes["id"] for element in everything(page) if "id" in element.attributes]
        assert len(ids) == len(set(ids))
        assert page.one("html").attributes["lang"] == "en"
        assert len(list(page.all("h1"))) == 1
        levels = [int(element.tag[1]) for element in everything(page) if re.fullmatch(r"h[1-6]", element.tag)]
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        for section in page.all("section"):
            assert section.attributes["aria-labelledby"] in ids


def test_every_picture_has_words_and_a_table_in_its_place(finetune_page):
    figures = list(parse(finetune_page).all("figure"))
    keys = [figure.attributes["id"] for figure in figures]
    assert keys[:3] == ["margins-forgotten", "margins-retained", "margins-never-seen"]
    assert {"ladder", "strata", "curve-1"} <= set(keys)
    for figure in figures:
        svg = figure.one("svg")
        assert svg.attributes["role"] == "img"
        title, description = svg.one("title"), svg.one("desc")
        assert svg.attributes["aria-labelledby"].split() == [
            title.attributes["id"],
            description.attributes["id"],
        ]
        assert title.text
        assert len(description.text) > 60, "a description says what the picture shows"
        assert re.search(r"\d", description.text), "in figures"
        table = figure.one("details").one("table")
        assert rows_of(table)


def test_every_table_says_what_its_columns_are(finetune_page):
    tables = list(parse(finetune_page).all("table"))
    assert len(tables) > 8
    for table in tables:
        assert table.one("caption").text.strip()
        headers = list(table.one("thead").all("th"))
        assert all(header.attributes["scope"] == "col" for header in headers)
        for row in rows_of(table):
            assert len(row) == len(headers)
            assert all(cell.attributes["scope"] == "row" for cell in row if cell.tag == "th")


def test_the_checks_on_the_page_are_those_of_the_json(sheet_of, finetune_page):
    audit, page = sheet_of().audit, parse(finetune_page)
    shown = {}
    for name in ("gating", "informing"):
        shown[name] = rows_of(page.one("table", id=name))
    for name, gating in (("gating", True), ("informing", False)):
        expected = [check for check in audit.checks if check.gating is gating]
        assert len(shown[name]) == len(expected) > 0
        for cells, check in zip(shown[name], expected, strict=True):
            title, value, reference, interval, n, bound, outcome, reason = cells
            assert one_line(title.text) == f"{check.name} {check.formula}"
            assert value.figures == [check.value]
            first = [check.reference] if check.reference is not None else []
            assert reference.figures == [*first, *check.anchors.values()]
            assert interval.figures == list(check.interval or ())
            assert n.figures == ([check.n] if check.n is not None else [])
            assert bound.text == (check.bound or "no bound")
            assert reason.text == check.reason
            word = {"pass": "Passed", "fail": "Failed", "inconclusive": "Could not decide"}[check.outcome]
            judged = check.gating or check.bound is not None or check.outcome is not Outcome.PASS
            assert outcome.text.strip().endswith(word if judged else "Not judged")
    assert finetune_page.index('id="gating"') < finetune_page.index('id="informing"')


def test_the_ladder_on_the_page_is_that_of_the_json(sheet_of, finetune_page):
    sheet = sheet_of()
    for cells, rung in zip(rows_of(parse(finetune_page).one("table", id="tried")), sheet.ladder, strict=True):
        _, method, guarantee, utility, quality, seconds, outcome, published = cells
        assert (method.text, guarantee.text) == (rung.method, rung.guarantee)
        assert utility.figures == ([rung.utility.value] if rung.utility is not None else [])
        assert quality.figures == ([rung.forget_quality.value] if rung.forget_quality is not None else [])
        assert seconds.figures == [rung.seconds]
        assert rung.failure is None or rung.failure in outcome.text
        assert published.text == ("yes" if rung.chosen else "no")
    assert [rung.method for rung in sheet.ladder if rung.chosen] == ["finetune"]


@pytest.mark.parametrize(
    ("score", "words"),
    [
        ("margin", "Histogram of the margin, the logit-scaled confidence in the right class, over forgotten"),
        ("log-odds", "Histogram of the log-odds of an edge's being there, over forgotten"),
        ("pair score", "Histogram of the score of a user with an item, over forgotten"),
        ("a-b", "Histogram of the a-b, over forgotten"),
    ],
)
def test_pictures_say_which_score_they_count(sheet_of, score, words):
    audit = sheet_of().audit
    renamed = tuple(one.model_copy(update={"score": score}) for one in audit.distributions)
    audit = audit.model_copy(update={"distributions": renamed})
    first = next(distributions(audit))
    assert first.description.startswith(words)
    assert first.table.headers[0] == score
    assert f"Mean {score} of two groups" in strata(audit).description


def test_the_tables_behind_pictures_hold_the_jsons_figures(sheet_of, finetune_page):
    audit, page = sheet_of().audit, parse(finetune_page)
    for records in ("forgotten", "retained", "never seen"):
        figure = page.one("figure", id=f"margins-{records.replace(' ', '-')}")
        rows = rows_of(figure.one("table"))
        order = ("original", "retrained", "candidate", "random")
        by_model = {one.model: one for one in audit.distributions if one.records == records}
        for place, model in enumerate((model for model in order if model in by_model), start=1):
            assert [row[place].figures[0] for row in rows] == list(by_model[model].counts)
    for place, curve in enumerate(audit.curves, start=1):
        rows = rows_of(page.one("figure", id=f"curve-{place}").one("table"))
        assert [row[0].figures[0] for row in rows] == list(curve.steps)
        assert [row[1].figures[0] for row in rows] == list(curve.values)
    for row, one in zip(rows_of(page.one("figure", id="strata").one("table")), audit.strata, strict=True):
        expected = [one.n, *one.memorisation, one.original, one.candidate, one.retrained, *(one.limits or ())]
        assert [figure for cell in row for figure in cell.figures] == expected


def test_what_was_asked_and_done_is_said_in_words(finetune_page):
    text = one_line(parse(finetune_page).one("main").text)
    for said in (
        "records: 39 (2 requests), subjects: 1 (1 request)",
        "auto: the service chooses",
        "DSR-2026-118, DSR-2026-119",
        "finetune",
        "version 1",
        "Could this audit have noticed that nothing was forgotten? Yes.",
        "Compared with 3 models (retrained)",
        "No deep audit was run",
        "without being noticed",
        "false_alarm_rate",
    ):
        assert said in text
    assert "certificate commits to them" in text


def test_an_acceptance_is_the_very_first_line(sheet_of, draw, accepted):
    page = parse(draw(sheet_of(acceptance=accepted, ladder=(), audit=without_pictures(sheet_of().audit))))
    first, *_ = one_line(page.one("body").text).split(" Audit of")
    assert first == (
        "Published although the audit did not pass, because dpo accepted it: “The deadline is on Monday.”"
    )


def test_publication_by_the_policy_is_the_very_first_line(sheet_of, draw):
    undecided = without_pictures(sheet_of().audit, verdict=Outcome.INCONCLUSIVE)
    by_policy = Acceptance(by="policy", reviewer=None, reason="on_inconclusive: accept.")
    page = parse(draw(sheet_of(acceptance=by_policy, audit=undecided, ladder=())))
    assert one_line(page.one("body").text).startswith(
        "Published although the audit could not decide: on_inconclusive: accept. Audit of version 2"
    )


@pytest.mark.parametrize(
    ("verdict", "guarantee", "begins"),
    [
        ("pass", "empirical", "Passed: in nothing that was measured does version 2 of digits differ"),
        ("pass", "exact", "Passed: version 2 of digits holds nothing of what was to be forgotten"),
        ("pass", "certified", "Passed: version 2 of digits is within the distance"),
        ("inconclusive", "empirical", "Could not be decided"),
        ("fail", "empirical", "Failed: version 2 of digits did not pass"),
    ],
)
def test_the_verdict_comes_first_in_a_sentence(sheet_of, draw, verdict, guarantee, begins):
    audit = without_pictures(sheet_of().audit, verdict=Outcome(verdict), guarantee=guarantee)
    page = parse(draw(sheet_of(audit=audit, ladder=())))
    assert one_line(page.one("p", id="verdict").text).startswith(begins)
    assert one_line(page.one("body").text).startswith("Audit of version 2 of digits " + begins)


def test_missing_parts_are_said_in_a_sentence(sheet_of, draw, retrain_page):
    text = one_line(parse(retrain_page).one("main").text)
    assert "No retrained models stand in these pictures" in text
    assert "There is no such picture: it takes retrained models" in text
    assert "Not measured: the method is exact" in text
    assert "No model was retrained to compare with; the guarantee of the method needs none" in text

    bare = Audit(
        method="acu",
        guarantee="exact",
        verdict="pass",
        summary="Nothing is left.",
        checks=(),
        seconds=1.0,
        unlearning_seconds=0.5,
    )
    page = parse(draw(sheet_of(audit=bare, ladder=(), policy=None, asked=None, made=None, parent=None)))
    text = one_line(page.one("main").text)
    for said in (
        "No forget request led to this version",
        "The methods that were tried are not recorded",
        "No check decides the verdict",
        "No score distributions were recorded",
        "There is no picture of this",
        "there is no curve to draw",
        "There is no such picture",
        "No policy is recorded",
    ):
        assert said in text
    assert not list(page.all("svg"))


def test_an_audit_that_waits_says_so(sheet_of, draw):
    run = Independent(
        id=uuid.UUID(int=1),
        original=1,
        candidate=None,
        checkpoint="ab" * 32,
        target_kind="classes",
        target_count=1,
        reference=None,
        status="queued",
        reason="Received and checked; waits for a worker.",
        created_at=NOW,
        finished_at=None,
    )
    waiting = {"version": None, "parent": None, "asked": None, "made": None, "ladder": (), "policy": None}
    page = parse(draw(sheet_of(audit=None, independent=run, **waiting)))
    text = one_line(page.one("body").text)
    assert text.startswith("Independent audit of a checkpoint for digits There is no verdict")
    assert "queued: Received and checked; waits for a worker." in text
    assert "ab" * 32 in text
    assert "The service did not make what is judged here" in text


def test_an_independent_audit_is_drawn_too(sheet_of, draw):
    run = Independent(
        id=uuid.UUID(int=1),
        original=1,
        candidate=3,
        checkpoint=None,
        target_kind="records",
        target_count=40,
        reference="A-1",
        status="completed",
        reason=None,
        created_at=NOW,
        finished_at=NOW,
    )
    page = parse(draw(sheet_of(independent=run, version=None, parent=None, asked=None, made=None, ladder=())))
    assert one_line(page.one("h1").text) == "Independent audit of version 3 of digits"
    assert {"margins-forgotten", "strata"} <= {figure.attributes["id"] for figure in page.all("figure")}
    assert "Utility against forget quality" not in one_line(page.one("main").text), "nothing was tried"


def test_hostile_names_stay_text(sheet_of, draw):
    sheet = sheet_of()
    check = sheet.audit.checks[0].model_copy(
        update={"name": HOSTILE, "reason": HOSTILE, "bound": HOSTILE, "reference_name": HOSTILE}
    )
    audit = sheet.audit.model_copy(
        update={
            "summary": HOSTILE,
            "checks": (check, *sheet.audit.checks[1:]),
            "curves": (Curve(name=HOSTILE, steps=(1, 2), values=(0.5, 0.25)),),
            "distributions": (),
            "strata": tuple(one.model_copy(update={"name": HOSTILE}) for one in sheet.audit.strata),
        }
    )
    hostile = sheet_of(
        model=HOSTILE,
        audit=audit,
        asked=sheet.asked.model_copy(update={"references": (HOSTILE,), "parameters": {HOSTILE: HOSTILE}}),
        made=sheet.made.model_copy(update={"configuration": {HOSTILE: [HOSTILE]}}),
        acceptance=Acceptance(by="person", reviewer=HOSTILE, reason=HOSTILE),
        ladder=tuple(rung.model_copy(update={"method": HOSTILE}) for rung in sheet.ladder),
    )
    page = draw(hostile)
    assert "<script" not in page
    assert "\u202e" not in page
    assert "\x07" not in page
    assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|\b49\b", page), "a name was taken for a template"
    root = parse(page)
    shown = HOSTILE.replace("\u202e\x07", "��")
    assert one_line(root.one("h1").text) == f"Audit of version 2 of {shown}"
    assert root.one("figure", id="curve-1").one("svg").one("title").text == shown
    texts = [text.text for text in root.one("figure", id="curve-1").one("svg").all("text")]
    assert "step" in texts


def test_the_same_sheet_gives_the_same_bytes_in_another_process(sheet_of, finetune_page, tmp_path):
    sheet = sheet_of()
    process = subprocess.run(
        [sys.executable, "-P", "-m", "app.reports.render"],
        input=sheet.model_dump_json().encode(),
        capture_output=True,
        check=True,
        env={"MPLCONFIGDIR": str(tmp_path), "PYTHONHASHSEED": "7"},
    )
    assert process.stdout.decode() == finetune_page


def test_long_curves_are_thinned_in_the_table_and_say_so(sheet_of, draw):
    curve = Curve(name="loss", steps=tuple(range(1000)), values=tuple(1 / (step + 1) for step in range(1000)))
    audit = without_pictures(sheet_of().audit, curves=(curve,))
    figure = parse(draw(sheet_of(audit=audit, ladder=()))).one("figure", id="curve-1")
    rows = rows_of(figure.one("table"))
    assert (len(rows), rows[0][0].figures, rows[-1][0].figures) == (100, [0.0], [999.0])
    assert "100 of 1000 steps." in figure.text
