"""One stage: its examples, its steps, when it stops, what is kept of it."""
