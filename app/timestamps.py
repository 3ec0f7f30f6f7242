"""Points in time as clients write them, and arithmetic on the calendar."""

import calendar
import datetime as dt
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

MONTHS_PER_YEAR = 12


def _written_out(value: Any) -> Any:
    # Pydantic also reads a number, or a string of digits, as seconds since 1970; RFC 3339 knows no such form.
    if not isinstance(value, dt.datetime) and not (isinstance(value, str) and "-" in value[1:]):
        raise ValueError("must be an RFC 3339 timestamp such as 2026-11-21T09:30:00Z")
    return value


def _in_utc(value: dt.datetime) -> dt.datetime:
    try:
        return value.astimezone(dt.UTC)
    except OverflowError:  # the first and last hours of the calendar, seen from another time zone
        raise ValueError("must lie within the years 1 to 9999 in UTC") from None


Timestamp = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]
"""RFC 3339 with a time zone, converted to UTC."""


def add_months(moment: dt.datetime, months: int) -> dt.datetime:
    """Return the same time on the same day of a later month, or on that month's last day if it is shorter.

    >>> add_months(dt.datetime(2027, 1, 31, 9, 30), 1)
    datetime.datetime(2027, 2, 28, 9, 30)
    >>> add_months(dt.datetime(2027, 12, 15), 1)
    datetime.datetime(2028, 1, 15, 0, 0)
    """
    years, month = divmod(moment.month - 1 + months, MONTHS_PER_YEAR)
    year, month = moment.year + years, month + 1
    return moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))
