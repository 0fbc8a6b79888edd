"""The installed program as its users start it: the Procfile's processes, the official clients, faults of upstream."""
