"""The projections at work: their tables, the versions that there are, and how pages of the log fill them."""
