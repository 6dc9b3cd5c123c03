"""Where and how something was measured."""
