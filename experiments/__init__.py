"""Training a policy, comparing controllers, tc replay on a testbed, figures and reports."""
