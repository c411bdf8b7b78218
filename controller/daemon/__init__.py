"""The device as a service: configuration, local interface, metrics, what an init system wants."""
