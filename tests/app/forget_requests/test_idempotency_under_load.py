"""A slice of `benchmarks.idempotency`: many connections at once, the same keys again and again."""

import asyncio

from benchmarks.idempotency import Sizes, judge, send, submissions, violations

SIZES = Sizes(keys=40, repeats=5, connections=24)


def test_submissions_at_once_make_one_request_per_key(live, shelf, admin_headers, database_url):
    records = [f"r{number}" for number in range(20)]
    shelf.model(dataset_id=shelf.dataset(records))
    secret = admin_headers["Authorization"].removeprefix("Bearer ")
    calls = submissions(live, secret, "pets", records, SIZES, seed=0)

    tally = asyncio.run(send([live], calls, SIZES.connections))

    figures = judge(database_url, SIZES, calls, tally)
    assert violations(figures) == [], figures["findings"]
    assert figures["submissions"] == 200
    assert figures["refused_with_422"] >= 1
