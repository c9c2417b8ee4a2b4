"""The subcommands of ``parity``; see ``parity.cli`` for what each module has."""
