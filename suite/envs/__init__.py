"""Environment families: one file (or package) each; the file name is the family's id."""
