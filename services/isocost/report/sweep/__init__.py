"""The report of a sweep: files -> tidy tables -> charts -> page."""
