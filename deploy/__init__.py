"""How Watershed is run: the topology, its certificates, and the native and container stacks made from it."""
