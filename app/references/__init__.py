"""References: models trained only for audits to compare with."""
