"""Labels for whole files: pools of millions of rows on one machine, or on many with Ray."""
