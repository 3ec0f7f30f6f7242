"""What the service tells those who run it, beside its logs: metrics and traces. No personal data in either."""
