"""The simulated market, held to its claims."""
