import pytest

from app.reports.negotiation import prefers_html


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/html", True),
        ("TEXT/HTML; charset=utf-8", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", True),
        ("text/*", True),
        ("application/json;q=0.1, text/html;q=0.2", True),
        ("application/json;q=0, */*", True),
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("text/html;q=0", False),
        ("text/html;q=0.5, application/*", False),
        ("text/html;q=nan, */*;q=0.1", False),
        ("text/html;q=high", False),
        ("text/html;q=2", False),
    ],
)
def test_the_page_is_for_those_who_would_rather_have_it(accept, expected):
    assert prefers_html(accept) is expected
