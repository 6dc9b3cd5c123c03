"""Results that can be checked, and ranked."""
