"""The classifier family's audit: its suite, and what it gives the checks that all families share."""
