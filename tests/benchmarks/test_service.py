import json
import subprocess
import sys

import pytest

FIGURES = {
    "api_ready_s",
    "api_rss_mb",
    "submit_ratio",
    "end_to_end_p50_s",
    "coalesced_per_s",
    "download_ratio",
}


@pytest.mark.postgresql
def test_the_quick_form_measures_every_figure():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.service", "--quick", "--json"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout)
    assert all(figures[name] > 0 for name in FIGURES)
    assert figures["database"] == "postgresql"
    assert {"cores", "python", "packages"} <= figures["environment"].keys()
