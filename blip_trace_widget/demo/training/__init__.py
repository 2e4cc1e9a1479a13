"""What made the built-in model and its pictures; nothing of it is needed to use them."""
