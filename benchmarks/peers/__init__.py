"""fastcifar's rivals, each run side by side with it: an adapter a rival (`fastcifar.measure.peers.Peer`).

A rival's own program is run, unmodified, in its own process; nothing of it is copied here.
"""

from fastcifar.measure.peers import Peer


def peers() -> list[Peer]:
    """All rivals."""
    # Imported here: `python -m benchmarks.peers.plain_pytorch` imports this package before it runs that module.
    from benchmarks.peers.airbench import Airbench
    from benchmarks.peers.hlb_cifar10 import HlbCifar10
    from benchmarks.peers.plain_pytorch import PlainPytorch

    return [PlainPytorch(), Airbench(), HlbCifar10()]
