import json
import os
import random
import sys

import pytest

from benchmarks import id_index


@pytest.fixture(scope="module")
def figures():
    return id_index.measure(id_index.QUICK)


def test_look_ups_are_measured_in_memory_and_from_disk(figures):
    kinds = ["warm_p50_ms", "warm_p99_ms"]
    kinds += ["cold_p50_ms", "cold_max_ms"] if hasattr(os, "posix_fadvise") else []
    for prefix in ("", "subjects_"):
        assert all(figures[f"{prefix}{kind}"] > 0 for kind in kinds)
        assert figures[f"{prefix}warm_p50_ms"] <= figures[f"{prefix}warm_p99_ms"]
    assert (figures["records"], figures["asked"]) == (20_000, 100)
    assert figures["build_s"] > 0
    assert figures["peak_rss_mb"] > 0
    assert figures["scan_ms"] > figures["warm_p50_ms"]


def test_half_of_what_is_asked_for_is_unknown():
    names = id_index.ask(random.Random(0), id_index.record_id, 50, 20)
    assert len(set(names)) == 20
    assert sum(int(name.removeprefix("record-")) < 50 for name in names) == 10


def test_a_wrong_answer_stops_the_benchmark():
    with pytest.raises(AssertionError):
        id_index.time_look_ups(lambda ids: ids, [["a", "b"]])


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command_prints_what_was_measured(figures, form, monkeypatch, capsys):
    monkeypatch.setattr(id_index, "measure", lambda sizes: figures if sizes is id_index.QUICK else None)
    monkeypatch.setattr(sys, "argv", ["id_index", "--quick", *(["--json"] if form == "json" else [])])
    id_index.main()
    printed = capsys.readouterr().out
    if form == "json":
        answer = json.loads(printed)
        assert answer["records"] == 20_000
        assert answer["environment"]["cores"] >= 1
    else:
        assert "warm_p50_ms" in printed
