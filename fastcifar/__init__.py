"""fastcifar: CIFAR-10 to a target accuracy, fast, and an honest measure of how fast."""

__version__ = "0.1.0"
