"""How forgetting is measured: one file per metric, a suite per family, and the verdict."""
