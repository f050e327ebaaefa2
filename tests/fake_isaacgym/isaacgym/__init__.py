"""A stand-in for Isaac Gym: it prints when it is imported, and insists on being there first."""

import sys

if "torch" in sys.modules:
    raise ImportError("isaacgym must be imported before torch")
sys.stdout.write("Importing module 'gym_38'\n")
