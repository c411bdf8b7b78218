"""Controllers that plan from a model of the link: Algorithms 1 and 2, rate rules, robust, bandit.

All implement `controller.interface.Controller` and see only what a real device sees.
"""
