"""From one prompt to a data set: read facts, measure each, keep everything in a folder."""
