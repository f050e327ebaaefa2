"""Algorithms: one file each; the file name is the algorithm's id."""
