"""The loop that drives the three services through a campaign."""
