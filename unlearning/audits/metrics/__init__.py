"""Pure functions from outputs of models to figures, one per file; a figure that is not defined raises `MetricError`."""
