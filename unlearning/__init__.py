"""The science: catalog, planner, methods and audits. Imports `models`, never `app`."""
