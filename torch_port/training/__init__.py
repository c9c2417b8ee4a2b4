"""What ``parity-train`` is made of; ``torch_port.train`` is the command. Importing this loads nothing."""
