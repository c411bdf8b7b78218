"""Property tests draw the same examples every time; HYPOTHESIS_PROFILE=explore draws new ones.

Graphs of the tests' models are cached in a folder that goes when the tests end.
"""

import atexit
import os
import shutil
import tempfile

from hypothesis import settings

settings.register_profile("fixed", derandomize=True)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

_cache = tempfile.mkdtemp(prefix="coinfer-tests-")
os.environ["COINFER_CACHE"] = _cache
atexit.register(shutil.rmtree, _cache, ignore_errors=True)
