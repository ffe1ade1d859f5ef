"""Measurements: a model and a prompt in, a result out. Knows no pictures."""
