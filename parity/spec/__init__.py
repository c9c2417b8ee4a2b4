"""What a layer is, said once: axes, arrays, specs."""
