"""Cases: pure data, drawn and parsed."""
