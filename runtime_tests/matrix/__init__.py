"""Every network of the registry as files of every kind, each held to the parity contract."""
