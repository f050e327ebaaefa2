"""Pages of the reports, made in memory: one per protocol, one per task, and the index."""
