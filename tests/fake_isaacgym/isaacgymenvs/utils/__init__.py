"""A stand-in for the utilities of isaacgymenvs."""
