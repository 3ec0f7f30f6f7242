"""Retention: what is erased or destroyed once its time is over, by whom, and how that is seen."""
