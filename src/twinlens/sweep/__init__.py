"""From one prompt to a data set: facts, units of work, a folder that can be resumed."""
