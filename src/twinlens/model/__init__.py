"""What we look at: loading, anatomy (where things are), tokens (ids, labels, spans)."""
