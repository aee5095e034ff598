"""How the package itself is tested, for whoever wants to test it or an extension: planted worlds, conformance, a local endpoint."""
