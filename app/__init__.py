"""The service: HTTP, database, worker and command line. Imports `unlearning` and `models`."""
