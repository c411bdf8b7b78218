"""What people hand over: wrapped, compiled, in half precision; unwrapped, or refused by name."""

import numpy as np
import pytest
import torch
from torch import nn

from artefacts import UsageError
from models.capture.export import capture
from models.capture.lower import lower
from models.capture.modules import answers, evaluated, unwrapped
from models.facts.cards import model_digest

EXAMPLE = torch.zeros(2, 3, 16, 16)
# torch warns of its own older parts where they are used to make these modules
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor"),
]


class Net(nn.Module):
    def __init__(self, wrap=lambda block: block):
        super().__init__()
        torch.manual_seed(0)
        self.body = wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)))
        self.end = nn.Linear(4, 2)

    def forward(self, x):
        return self.end(self.body(x).relu().mean((2, 3)))


class Variadic(Net):
    def forward(self, *args, **options):
        return super().forward(args[0])


class Named(Net):
    def forward(self, *, x):
        return super().forward(x)


def digest(module):
    spec, state = lower(module, EXAMPLE, "net")
    return model_digest(spec, state)


@pytest.fixture(scope="module")
def plain():
    return digest(Net())


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.DataParallel(Net()),
        lambda: torch.compile(Net()),
        lambda: nn.DataParallel(torch.compile(Net())),
        lambda: torch.compile(nn.DataParallel(nn.DataParallel(Net()))),
    ],
    ids=["parallel", "compiled", "compiled in parallel", "thrice"],
)
def test_wrappers_change_nothing(make, plain):
    """The same stretches by the same names, and the same weights."""
    module = make()
    assert digest(module) == plain
    x = torch.randn(3, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(capture(module, EXAMPLE).whole(x), Net().eval()(x))


@pytest.mark.parametrize("module", [Variadic(), nn.DataParallel(Variadic())])
def test_any_arguments_are_one_tensor(module):
    (spec, state), (plain, weights) = lower(module, EXAMPLE, "net"), lower(Net(), EXAMPLE, "net")
    assert [layer.name for layer in spec.trunk] == [layer.name for layer in plain.trunk]
    assert state.keys() == weights.keys()
    assert all(np.array_equal(state[key], weights[key]) for key in state)
    assert capture(module, EXAMPLE).whole(torch.zeros(5, 3, 16, 16)).shape == (5, 2)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrapped_parts_are_exported_as_they_were_written(wrap):
    module = Net(wrap)
    spec, _ = lower(module, EXAMPLE, "net")
    assert len(spec.trunk) == len(lower(Net(), EXAMPLE, "net")[0].trunk)
    assert capture(module, EXAMPLE).whole(torch.zeros(5, 3, 16, 16)).shape == (5, 2)


class Autocast(Net):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.body(x)
        return self.end(x.float().mean((2, 3)))


class HalfInside(Net):
    def forward(self, x):
        return self.end(self.body(x).half().float().mean((2, 3)))


class HalfPart(Net):
    def __init__(self):
        super().__init__()
        self.body.half()

    def forward(self, x):
        return self.end(self.body(x.half()).float().mean((2, 3)))


def quantised():
    return torch.ao.quantization.quantize_dynamic(Net().eval(), {nn.Linear})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            Autocast,
            r"found torch\.bfloat16 inside \(operation 'conv2d\w*'.*\), expected torch\.flo",
        ),
        (
            HalfInside,
            r"found torch\.float16 inside \(operation '\w+', .*test_user_modules\.py, lin",
        ),
        (HalfPart, r"found parameter 'body\.0\.weight' in torch\.float16, expected torch\.float32"),
        (lambda: Net().half(), r"found parameter 'body\.0\.weight' in torch\.float16"),
        (lambda: Net().bfloat16(), r"found parameter 'body\.0\.weight' in torch\.bfloat16"),
        (lambda: Net().double(), r"found parameter 'body\.0\.weight' in torch\.float64"),
        (
            quantised,
            r"found 'end', a quantised Linear, expected the module before it was quantised",
        ),
        (
            lambda: torch.jit.script(Net()),
            r"found a module of TorchScript \(torch\.jit\), expected the",
        ),
        (Named, r"found forward\(\*, x\), expected one that takes a tensor by position"),
    ],
)
def test_what_is_not_computed_in_float32_is_refused_by_name(make, said):
    module = make()
    for taken in (lambda: capture(module, EXAMPLE, "net"), lambda: lower(module, EXAMPLE, "net")):
        with pytest.raises(UsageError, match=f"^model 'net': {said}") as caught:
            taken()
        assert "\n" not in str(caught.value)


def test_float64_inside_is_right():
    class Wide(Net):
        def forward(self, x):
            return self.end(self.body(x).double().mean((2, 3)).float())

    spec, _ = lower(Wide(), EXAMPLE, "wide")
    assert len(spec.trunk) >= 2


def test_every_part_keeps_the_mode_it_was_in():
    module = Net().train()
    module.body.eval()
    before = [part.training for part in module.modules()]
    with evaluated(module):
        assert not any(part.training for part in module.modules())
    capture(module, EXAMPLE)
    lower(module, EXAMPLE, "net")
    assert [part.training for part in module.modules()] == before
    assert len(set(before)) == 2


def test_a_module_that_is_not_wrapped_is_itself():
    module = Net()
    assert unwrapped(module, "net") is module
    assert unwrapped(nn.DataParallel(module), "net") is module


def test_an_answer_that_the_capture_does_not_give_is_refused():
    class Counts(Net):
        """Python that runs once while it is captured, and at every call of the module."""

        calls = 0

        def forward(self, x):
            Counts.calls += 1
            return super().forward(x) * Counts.calls

    with pytest.raises(UsageError, match="what torch.export gives differs from the module by"):
        capture(Counts(), EXAMPLE, "counts")


def windows():
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[2], num_heads=[2], window_size=4,
        num_labels=5,
    )  # fmt: skip
    return transformers.SwinForImageClassification(config)


def biased():
    transformers = pytest.importorskip("transformers")
    config = transformers.BeitConfig(
        image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, num_labels=5,
    )  # fmt: skip
    return transformers.BeitForImageClassification(config)


class Scores(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).logits


@pytest.mark.parametrize("make", [windows, biased])
def test_attention_with_a_bias_is_captured_and_lowered_in_its_plain_form(make):
    torch.manual_seed(0)
    module = Scores(make()).eval()
    example = torch.zeros(2, 3, 32, 32)
    x = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        np.testing.assert_allclose(
            capture(module, example).whole(x).numpy(), module(x).numpy(), rtol=1e-4, atol=1e-6
        )
    spec, _ = lower(module, example, "attention")
    assert len(spec.trunk) > 4


class Ends(Net):
    def forward(self, x):
        raise SystemExit(0)


def test_a_forward_that_ends_the_process_is_no_success():
    """`SystemExit(0)` would end the command without a word, and with the code of success."""
    for use in (lambda: capture(Ends(), EXAMPLE), lambda: answers(Ends(), EXAMPLE)):
        with pytest.raises(UsageError, match="found a forward that ends the process") as error:
            use()
        assert "\n" not in str(error.value)
