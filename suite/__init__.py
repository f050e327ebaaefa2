"""Reproducible reinforcement-learning benchmarks: protocols, records, statistics and reports."""

__version__ = "0.1.0"
