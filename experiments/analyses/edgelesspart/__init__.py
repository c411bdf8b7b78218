"""Exits and a split point for a function service in the cloud, as EdgeLessPart takes them.

A device and a function share a network. A request that an exit before the split point is sure of
ends on the device; any other is sent to the function, which holds the rest of the network. The
tables say what 1,000 requests take, what memory the function needs, and what the service bills.
"""
