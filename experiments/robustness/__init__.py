"""What must hold when things go wrong: chaos, attacks, hostile bytes, hours of faults."""
