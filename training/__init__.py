"""How hamlet is made: its world, its text, its weights and its card, reproducible from a seed."""
