"""Commands about who decides: one plan, the configuration map, controllers and their tuning."""

from coinfer.cli.deciding import configuration_map, controllers, plan

__all__ = ["configuration_map", "controllers", "plan"]
