"""The registry: models, their versions, and how new ones are published."""
