import datetime as dt

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.timestamps import Timestamp, add_months

NOON = dt.time(12, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("start", "months", "expected"),
    [
        ((2027, 1, 31), 1, (2027, 2, 28)),
        ((2028, 1, 31), 1, (2028, 2, 29)),
        ((2027, 1, 28), 1, (2027, 2, 28)),
        ((2027, 12, 31), 1, (2028, 1, 31)),
        ((2027, 10, 31), 1, (2027, 11, 30)),
        ((2027, 11, 15), 14, (2029, 1, 15)),
        ((2027, 5, 31), 0, (2027, 5, 31)),
    ],
)
def test_month_that_lacks_the_day_ends_on_its_last(start, months, expected):
    moment = dt.datetime.combine(dt.date(*start), NOON)
    assert add_months(moment, months) == dt.datetime.combine(dt.date(*expected), NOON)


@given(st.datetimes(timezones=st.just(dt.UTC)), st.integers(0, 120))
def test_months_are_counted_and_days_never_overflow_into_the_next(moment, months):
    assume(moment.year < dt.MAXYEAR - 10)
    later = add_months(moment, months)
    assert (later.year - moment.year) * 12 + later.month - moment.month == months
    assert later.day <= moment.day
    assert later.day == moment.day or (later + dt.timedelta(days=1)).month != later.month
    assert later.time() == moment.time()


def test_timestamps_are_converted_to_utc():
    assert TypeAdapter(Timestamp).validate_python("2026-11-21T01:00:00+02:00") == dt.datetime(
        2026, 11, 20, 23, tzinfo=dt.UTC
    )


@pytest.mark.parametrize(
    "text",
    ["2026-11-21T01:00:00", "1700000000", "-1700000000", 1700000000, True, "0001-01-01T00:00:00+14:00", ""],
)
def test_what_is_no_point_in_time_is_refused(text):
    with pytest.raises(ValidationError):
        TypeAdapter(Timestamp).validate_python(text)
