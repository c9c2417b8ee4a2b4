"""Tests: thin, over the instrument in ``parity``."""
