"""Results to pictures and tables. Computes nothing: every number shown stands in a result."""
