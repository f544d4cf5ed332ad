"""How messages travel: sockets, keys, addresses."""
