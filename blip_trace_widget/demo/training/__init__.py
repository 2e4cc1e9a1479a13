"""How the built-in model and its pictures were made.

For: making them again, and measuring the model.
Ends: at the folders of model and pictures; using them needs nothing of this.
"""
