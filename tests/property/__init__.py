"""Random histories beside models that are too simple to be wrong (Hypothesis' rule-based state machines)."""
