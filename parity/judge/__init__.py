"""How far apart two sides are, how far they may be, and who is wrong."""
