"""Mutants: what the checks would catch, measured by breaking the layers on purpose."""
