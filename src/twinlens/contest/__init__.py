"""Red hides a secret in a model, blue cleans the model without knowing it, a referee reports."""
