"""Other training tools on our rows, each in an environment of its own: `python -m bench.peers.run`."""
