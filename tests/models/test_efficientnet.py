"""EfficientNet-B3 against timm's, with random weights and random statistics."""

from __future__ import annotations

import importlib
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models import efficientnet
from kmm_jax.models.efficientnet import EfficientNetB3, from_timm
from kmm_jax.models.keys import abstract_module
from tests import references


def _timm() -> ModuleType:
    references.open_clip()  # timm imports torchvision, which open_clip's way round makes importable
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        pytest.skip(f"timm is not usable here: {error}")


def test_b3_has_the_parameters_of_the_paper() -> None:
    """12.2 million with 1,000 classes; 10,696,232 in timm without the classifier."""
    abstract = abstract_module(lambda rngs: EfficientNetB3((1000,), rngs=rngs))
    sizes = jax.tree.leaves(nnx.state(abstract, nnx.Param))
    assert sum(int(np.prod(each.shape)) for each in sizes) == 10_696_232 + 1_537_000


def test_logits_are_those_of_timm() -> None:
    timm = _timm()
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    theirs = timm.create_model("efficientnet_b3", pretrained=False, num_classes=10).eval()
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(0, 0.2)
            elif name.endswith("running_var"):
                value.uniform_(0.3, 1.5)
            elif "bn" in name and value.is_floating_point():
                value.uniform_(0.3, 1.0) if name.endswith("weight") else value.normal_(0, 0.2)
        # Odd sides, where padding goes wrong first if it does.
        x_BHWC = np.random.default_rng(0).normal(size=(2, 75, 98, 3)).astype(np.float32)
        expected = theirs(torch.from_numpy(x_BHWC.transpose(0, 3, 1, 2))).numpy()
    model = from_timm({name: value.numpy() for name, value in theirs.state_dict().items()})
    found = np.asarray(jax.jit(lambda m, x: m(x))(model, jnp.asarray(x_BHWC)))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_shifted_products_are_the_depthwise_convolution(size: int, stride: int) -> None:
    convolution = nnx.Conv(
        6, 6, (size, size), strides=stride, padding=size // 2, feature_group_count=6,
        use_bias=False, rngs=nnx.Rngs(1),
    )  # fmt: skip
    x_BHWC = jax.random.normal(jax.random.key(0), (2, 9, 12, 6))
    shifted = efficientnet._shifted(x_BHWC, convolution.kernel[...], stride)
    np.testing.assert_allclose(shifted, convolution(x_BHWC), atol=1e-5)


def test_weights_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"tensors are missing .*'blocks"):
        from_timm({"conv_stem.weight": np.zeros((40, 3, 3, 3))})
    abstract = abstract_module(lambda rngs: EfficientNetB3((1,), rngs=rngs))
    names = efficientnet.timm_names(abstract).values()
    with pytest.raises(ValueError, match="has the shape"):
        from_timm({name: np.zeros((1,)) for name in names})
