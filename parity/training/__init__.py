"""Both sides trained in step, and weights from one to the other."""
