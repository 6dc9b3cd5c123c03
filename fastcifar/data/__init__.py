"""Images, the plan of an epoch, and the loaders that execute it."""
