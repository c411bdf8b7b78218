"""Training a policy, comparing controllers, replay on a testbed, figures and reports.

Rooms: `evaluation`, `studies`, `learning`, `sweeps`, `reporting`, `replay`, `benches`, `robustness`
and `analyses`.
"""

import experiments.aliases  # noqa: F401
from artefacts.namesakes import refuse_namesakes

refuse_namesakes(__name__)
