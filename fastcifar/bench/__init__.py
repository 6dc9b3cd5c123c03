"""Rates beside their limits, and the machine they were obtained on."""
