"""The report of a campaign: what was bought, what it showed, what was decided and why."""
