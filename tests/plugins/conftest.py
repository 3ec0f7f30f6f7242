"""The packages below are installed or put on a path by tests; pytest itself collects nothing in them."""

collect_ignore_glob = ["*"]
