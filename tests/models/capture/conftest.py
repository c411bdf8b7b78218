"""Every kind of network, captured once a file."""

import pytest
import torch
from captured_modules import MODELS

from models.capture.export import capture


@pytest.fixture(scope="module", params=list(MODELS))
def captured(request):
    make, shape = MODELS[request.param]
    torch.manual_seed(0)
    module = make().eval()
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    return module, capture(module, x, request.param), shape
