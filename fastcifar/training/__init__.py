"""Train the recipe's network, epoch by epoch, and keep what came of it in a run directory."""
