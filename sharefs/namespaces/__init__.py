"""The namespaces of one viewer: which names there are, what a name means, what LIST shows."""
