"""fastcifar's rivals, each run side by side with it: an adapter a rival (`fastcifar.peers.peer.Peer`).

A rival's own program is run, unmodified, in its own process; nothing of it is copied here.
"""

from fastcifar.peers.peer import Peer


def peers() -> list[Peer]:
    """All rivals."""
    # Imported here: `python -m fastcifar.peers.plain_pytorch` imports this package before it runs that module.
    from fastcifar.peers.airbench import Airbench
    from fastcifar.peers.hlb_cifar10 import HlbCifar10
    from fastcifar.peers.plain_pytorch import PlainPytorch
    from fastcifar.peers.speedrun import Speedrun

    return [PlainPytorch(), Airbench(), Speedrun(), HlbCifar10()]
