"""Passes through the model: clean, corrupted, restored; and the proof that they touch the right
places. Knows nothing of any question asked."""
