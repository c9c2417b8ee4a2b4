"""What the instrument itself is worth: calibration, false alarms, mutants, vacuity."""
