"""Single files of the original layout: read, written, and read by diffusers' own conversion."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kmm_jax.cli import main
from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.generation.beginning import GeneratorWeights
from kmm_jax.generation.latents import autoencoder_at
from kmm_jax.generation.loading import load_pipeline
from kmm_jax.generation.request import Request
from kmm_jax.generation.runs import model_at
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.interop.diffusers import ldm_configs, single_file
from kmm_jax.interop.diffusers.folder import Published
from kmm_jax.interop.diffusers.ldm_names import ldm_autoencoder_name
from kmm_jax.interop.weights import open_weights
from kmm_jax.models.diffusion.config import LatentDiffusionConfig, sd15, sd21, sdxl
from tests import stable_diffusion
from tests.interop.diffusers.test_folder import tensors
from tools import convert_generator

KINDS = ("sd1", "sd2", "sdxl", "inpainting")
PIPELINES = {
    "sd1": "StableDiffusionPipeline",
    "sd2": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "inpainting": "StableDiffusionInpaintPipeline",
}
UNET, VAE = "model.diffusion_model.", "first_stage_model."
OPEN_CLIP = "cond_stage_model.model."


@pytest.fixture(scope="session")
def read_of(made: Callable[[str], Path]) -> Callable[[str], Published]:
    """The model in a folder by its kind, read once."""
    return functools.cache(lambda kind: folders.read(made(kind)))


@pytest.fixture(scope="session")
def file_of(
    read_of: Callable[[str], Published], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A single file by its kind, as this library writes it, far from its folder."""
    place = tmp_path_factory.mktemp("files")

    @functools.cache
    def make(kind: str) -> Path:
        single_file.write(place / f"{kind}.safetensors", read_of(kind))
        return place / f"{kind}.safetensors"

    return make


@pytest.fixture(params=KINDS)
def kind(request: Any) -> str:
    return str(request.param)


@pytest.fixture
def bare(made: Callable[[str], Path], tmp_path: Path) -> Path:
    """A base of SD 2 without weights."""
    ignored = shutil.ignore_patterns("*.safetensors")
    return Path(shutil.copytree(made("sd2"), tmp_path / "base", ignore=ignored))


def saved(path: Path, named: dict[str, np.ndarray], **metadata: str) -> Path:
    save_file(
        {name: np.ascontiguousarray(value) for name, value in named.items()}, path, metadata or None
    )
    return path


def assert_same(ours: Published, theirs: Published) -> None:
    assert ours.config == theirs.config
    found, expected = (dict(jax.tree_util.tree_leaves_with_path(x.params)) for x in (ours, theirs))
    assert found.keys() == expected.keys()
    assert all(found[path].tobytes() == expected[path].tobytes() for path in expected)


def read_by_diffusers(file: Path, base: Path, kind: str) -> Any:
    """The pipeline that diffusers makes of a file."""
    library = stable_diffusion.diffusers()
    more = {}
    if kind == "sdxl":
        # It tells the two towers by their widths, which differ in the published model alone; so
        # the second is converted by hand.
        from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
        from safetensors.torch import load_file as load_torch

        encoder = stable_diffusion.text_encoder(projection=24, activation="gelu")
        prefix = "conditioner.embedders.1.model."
        converted = convert_open_clip_checkpoint(encoder, load_torch(file), prefix=prefix)
        own = encoder.state_dict()
        encoder.load_state_dict(
            {n if n in own else n.removeprefix("text_model."): t for n, t in converted.items()}
        )
        more = {"text_encoder_2": encoder}
    made = getattr(library, PIPELINES[kind]).from_single_file(
        str(file), config=str(base), local_files_only=True, **more
    )
    made.set_progress_bar_config(disable=True)
    return made


def test_diffusers_reads_what_is_written_tensor_for_tensor(
    kind: str, file_of: Callable[[str], Path], made: Callable[[str], Path]
) -> None:
    read = read_by_diffusers(file_of(kind), made(kind), kind)
    expected = tensors(made(kind))
    found = {
        f"{part}/{name.removeprefix('text_model.')}": value.numpy()
        for part in ("unet", "vae", "text_encoder", "text_encoder_2")
        if getattr(read, part, None) is not None
        for name, value in getattr(read, part).state_dict().items()
        if not name.endswith("position_ids")
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.tobytes() == found[name].tobytes(), name


def test_we_read_the_same_as_from_the_folder(
    kind: str,
    file_of: Callable[[str], Path],
    made: Callable[[str], Path],
    read_of: Callable[[str], Published],
) -> None:
    found, expected = (
        single_file.read(file_of(kind), base=made(kind)),
        read_of(kind),
    )
    assert_same(found, expected)
    assert found.tokenizers == expected.tokenizers
    assert found.scheduler == expected.scheduler
    assert found.zero_empty_negative == expected.zero_empty_negative


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_pictures_are_those_of_diffusers(
    kind: str, file_of: Callable[[str], Path], made: Callable[[str], Path]
) -> None:
    import torch

    theirs = read_by_diffusers(file_of(kind), made(kind), kind)
    library = stable_diffusion.diffusers()
    theirs.scheduler = library.DDIMScheduler.from_config(theirs.scheduler.config, clip_sample=False)
    noise = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    options = {"guidance_scale": 3.0, "num_inference_steps": 2, "height": 16, "width": 16}
    with torch.no_grad():
        expected = theirs(
            "빨간 셔츠 사진",
            negative_prompt="a blue bag",
            latents=torch.from_numpy(noise),
            output_type="np",
            **options,
        ).images
    request = Request(
        prompts="빨간 셔츠 사진",
        negative="a blue bag",
        latents=noise,
        sampler="ddim",
        steps=2,
        guidance=3.0,
        height=16,
        width=16,
    )
    with jax.default_matmul_precision("highest"):
        found = load_pipeline(file_of(kind), base=made(kind)).generate(request)
    assert np.abs(found.images - np.round(expected * 255)).max() <= 1


def test_published_files_of_sd2_hold_the_whole_tower_of_open_clip(
    file_of: Callable[[str], Path],
    made: Callable[[str], Path],
    bare: Path,
    tmp_path: Path,
    read_of: Callable[[str], Published],
) -> None:
    """With a last layer and a projection that nothing uses, and numbers beside the parameters."""
    named = load_file(file_of("sd2"))
    block = f"{OPEN_CLIP}transformer.resblocks."
    last = {
        name.replace(f"{block}2.", f"{block}3."): np.zeros_like(value)
        for name, value in named.items()
        if name.startswith(f"{block}2.")
    }
    assert len(last) == 12
    odd = {
        f"{OPEN_CLIP}text_projection": np.ones((32, 24), np.float32),
        f"{OPEN_CLIP}logit_scale": np.ones((), np.float32),
        f"{OPEN_CLIP}attn_mask": np.ones((20, 20), np.float32),
        "model_ema.diffusion_modelinput_blocks00weight": np.ones((32, 4, 3, 3), np.float32),
        "alphas_cumprod": np.ones(1000, np.float32),
        "first_stage_model.loss.logvar": np.ones((), np.float32),
        "global_step": np.asarray(875_000),
    }
    file = saved(tmp_path / "published.safetensors", {**named, **last, **odd})
    expected = read_of("sd2")
    assert_same(single_file.read(file, base=bare), expected)
    # A base that says nothing of the encoder: the projection shows that the tower is whole.
    weights = open_weights(file)
    plain = ldm_configs.Kind(xl=False, prediction="epsilon", dtype="float32", base=None)
    with pytest.raises(DataError, match=r"width 32 does not divide .* no text_encoder/config.json"):
        single_file.open_clip_encoder_config(
            weights, OPEN_CLIP, plain, "text_encoder", eos_id=1, projects=False
        )
    # Without a projection, the base says how many layers count.
    file = saved(tmp_path / "less.safetensors", {**named, **last})
    assert_same(single_file.read(file, base=bare), expected)


def test_files_of_sd1_may_lack_a_prefix_and_have_positions(
    file_of: Callable[[str], Path],
    made: Callable[[str], Path],
    tmp_path: Path,
    read_of: Callable[[str], Published],
) -> None:
    named = load_file(file_of("sd1"))
    head = "cond_stage_model.transformer."
    positions = {f"{head}text_model.embeddings.position_ids": np.arange(20)[None]}
    expected = read_of("sd1")
    for file in (
        saved(tmp_path / "positions.safetensors", {**named, **positions}),
        saved(
            tmp_path / "bare.safetensors",
            {name.replace(f"{head}text_model.", head): value for name, value in named.items()},
        ),
    ):
        assert_same(single_file.read(file, base=made("sd1")), expected)


def test_half_precision_comes_back_as_it_was(
    made: Callable[[str], Path], read_of: Callable[[str], Published], tmp_path: Path
) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    single_file.write(first, read_of("sd1"), dtype="bfloat16")
    half = single_file.read(first, base=made("sd1"), dtype="bfloat16")
    assert half.params["unet"]["conv_in"]["kernel"].dtype == "bfloat16"
    assert half.config.unet.dtype == "bfloat16"
    single_file.write(second, half, dtype="bfloat16")
    assert second.read_bytes() == first.read_bytes()


def sparse(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """A file with a head and nothing written behind it: tensors of any size take no room."""
    head, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        head[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(head).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def published(kind: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes as v1-5-pruned-emaonly, v2-1_768-ema-pruned and sd_xl_base_1.0 have them.

    Those that say how a network is built.
    """
    xl, linear = kind == "sdxl", kind != "sd15"
    widths = (320, 640, 1280) if xl else (320, 640, 1280, 1280)
    depths = (0, 2, 10) if xl else (1, 1, 1, 0)
    context = {"sd15": 768, "sd21": 1024, "sdxl": 2048}[kind]
    point = () if linear else (1, 1)
    found: dict[str, tuple[int, ...]] = {
        "input_blocks.0.0.weight": (320, 4, 3, 3),
        "out.2.weight": (4, 320, 3, 3),
        "middle_block.1.proj_in.weight": (1280, 1280, *point),
    }
    for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for block in (3 * level + 1, 3 * level + 2):
            found[f"input_blocks.{block}.0.out_layers.3.weight"] = (width, width, 3, 3)
            for layer in range(depth):
                name = f"input_blocks.{block}.1.transformer_blocks.{layer}.attn2.to_k.weight"
                found[name] = (width, context)
        if level + 1 < len(widths):
            found[f"input_blocks.{3 * level + 3}.0.op.weight"] = (width, width, 3, 3)
    for layer in range(10 if xl else 1):
        name = f"middle_block.1.transformer_blocks.{layer}.attn2.to_k.weight"
        found[name] = (1280, context)
    if xl:
        found["label_emb.0.0.weight"] = (1280, 2816)
    named = {UNET + name: shape for name, shape in found.items()}
    named |= {
        f"{VAE}encoder.conv_in.weight": (128, 3, 3, 3),
        f"{VAE}decoder.conv_in.weight": (512, 4, 3, 3),
        f"{VAE}encoder.mid.attn_1.q.weight": (512, 512, 1, 1),
        f"{VAE}quant_conv.weight": (8, 8, 1, 1),
        f"{VAE}post_quant_conv.weight": (4, 4, 1, 1),
    }
    for level, width in enumerate((128, 256, 512, 512)):
        for block in (0, 1):
            name = f"{VAE}encoder.down.{level}.block.{block}.conv2.weight"
            named[name] = (width, width, 3, 3)
    if kind != "sd21":
        head = {"sd15": "cond_stage_model", "sdxl": "conditioner.embedders.0"}[kind]
        head = f"{head}.transformer.text_model."
        named[f"{head}embeddings.token_embedding.weight"] = (49_408, 768)
        named[f"{head}embeddings.position_embedding.weight"] = (77, 768)
        for layer in range(12):
            named[f"{head}encoder.layers.{layer}.mlp.fc1.weight"] = (3072, 768)
    if kind != "sd15":
        width, layers = (1280, 32) if xl else (1024, 24)
        head = "conditioner.embedders.1.model." if xl else OPEN_CLIP
        named[f"{head}token_embedding.weight"] = (49_408, width)
        named[f"{head}positional_embedding"] = (77, width)
        named[f"{head}text_projection"] = (width, width)
        for layer in range(layers):
            named[f"{head}transformer.resblocks.{layer}.mlp.c_fc.weight"] = (4 * width, width)
    return named


@pytest.mark.parametrize(("kind", "preset"), [("sd15", sd15), ("sd21", sd21), ("sdxl", sdxl)])
def test_published_networks_are_known_by_names_and_shapes_alone(
    kind: str, preset: Callable[[], LatentDiffusionConfig], tmp_path: Path
) -> None:
    weights = open_weights(sparse(tmp_path / "published.safetensors", published(kind)))
    expected = preset()
    about = ldm_configs.Kind(
        xl=kind == "sdxl",
        prediction="v_prediction" if kind == "sd21" else "epsilon",
        dtype="float32",
        base=None,
    )
    pooled = expected.texts[-1].projection
    assert ldm_configs.unet_config(weights, UNET, about, pooled=pooled) == expected.unet
    assert ldm_configs.autoencoder_config(weights, VAE, about) == expected.vae
    texts = [
        single_file.open_clip_encoder_config(
            weights, place.prefix, about, place.part, eos_id=49_407, projects=place.projects
        )
        if place.names == "open_clip"
        else single_file.clip_config(weights, place.prefix, about, place.part, eos_id=49_407)
        for place in single_file._texts_in(weights)
    ]
    # With the token that ends a text as the largest id, reading there and at the largest is one.
    at_the_end = [
        dataclasses.replace(text, tower=dataclasses.replace(text.tower, pooling="eos"))
        for text in expected.texts
    ]
    assert texts == at_the_end


def test_layers_of_an_autoencoder_have_their_published_names() -> None:
    for theirs, original in {
        "encoder.down_blocks.1.resnets.0.conv_shortcut": "encoder.down.1.block.0.nin_shortcut",
        "encoder.down_blocks.2.downsamplers.0.conv": "encoder.down.2.downsample.conv",
        "encoder.mid_block.attentions.0.to_out.0": "encoder.mid.attn_1.proj_out",
        "decoder.mid_block.resnets.1.norm2": "decoder.mid.block_2.norm2",
        "decoder.up_blocks.0.resnets.2.conv1": "decoder.up.3.block.2.conv1",
        "decoder.up_blocks.2.upsamplers.0.conv": "decoder.up.1.upsample.conv",
        "decoder.conv_norm_out": "decoder.norm_out",
        "quant_conv": "quant_conv",
    }.items():
        assert ldm_autoencoder_name(theirs, 4) == original


@pytest.mark.parametrize(
    ("odd", "metadata", "expected"),
    [
        ({}, {}, ("epsilon", None)),
        ({}, {"modelspec.prediction_type": "v"}, ("v_prediction", None)),
        ({"v_pred": np.zeros(0, np.float32)}, {}, ("v_prediction", None)),
        (
            {"v_pred": np.zeros(0, np.float32), "ztsnr": np.zeros(0, np.float32)},
            {"modelspec.prediction_type": "epsilon"},
            ("v_prediction", True),
        ),
    ],
)
def test_a_file_says_what_it_predicts(
    odd: dict[str, np.ndarray],
    metadata: dict[str, str],
    expected: tuple[str, bool | None],
    file_of: Callable[[str], Path],
    made: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    named = {**load_file(file_of("sd1")), **odd}
    found = single_file.read(saved(tmp_path / "a.safetensors", named, **metadata), base=made("sd1"))
    said = found.scheduler
    assert (said["prediction_type"], said.get("rescale_betas_zero_snr")) == expected
    # And what is written says it: the base of SD 2 here predicts v.
    assert open_weights(file_of("sd2")).metadata()["modelspec.prediction_type"] == "v"


def test_the_base_is_the_folder_beside_the_file_or_asked_for(
    file_of: Callable[[str], Path],
    bare: Path,
    made: Callable[[str], Path],
    tmp_path: Path,
    read_of: Callable[[str], Published],
) -> None:
    inside = Path(shutil.copy(file_of("sd2"), bare / "v2.safetensors"))
    assert_same(single_file.read(inside), read_of("sd2"))
    with pytest.raises(UserError, match=r"holds no tokenizer .* by --base FOLDER"):
        single_file.read(file_of("sd2"))
    with pytest.raises(UserError, match="has no scheduler"):
        single_file.read(file_of("sd2"), base=tmp_path)
    with pytest.raises(UserError, match=r"--base .* goes with a single file"):
        load_pipeline(made("sd1"), base=bare)


def test_a_base_of_another_kind_is_refused(
    file_of: Callable[[str], Path], made: Callable[[str], Path], bare: Path
) -> None:
    with pytest.raises(DataError, match=r"2 text encoders, and the base .* no tokenizer_2/"):
        single_file.read(file_of("sdxl"), base=made("sd1"))
    with pytest.raises(
        DataError, match=r"unet/config.json is of another model .* linear_projection"
    ):
        single_file.read(file_of("sd1"), base=made("sd2"))
    config = bare / "text_encoder" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "hidden_size": 64, "num_hidden_layers": 9}))
    with pytest.raises(DataError, match=r"another model than .* depth 9 for 3"):
        single_file.read(file_of("sd2"), base=bare)
    config.write_text(json.dumps({**values, "model_type": "resampled_text_encoder"}))
    with pytest.raises(DataError, match="another kind of text encoder"):
        single_file.read(file_of("sd2"), base=bare)


def test_an_inpainting_file_goes_with_a_plain_base(
    file_of: Callable[[str], Path], made: Callable[[str], Path], read_of: Callable[[str], Published]
) -> None:
    found = single_file.read(file_of("inpainting"), base=made("sd1"))
    assert_same(found, read_of("inpainting"))


def test_parts_that_a_file_lacks_are_the_bases(
    file_of: Callable[[str], Path],
    made: Callable[[str], Path],
    bare: Path,
    tmp_path: Path,
    read_of: Callable[[str], Published],
) -> None:
    named = load_file(file_of("sd2"))
    unet = {name: value for name, value in named.items() if name.startswith(UNET)}
    file = saved(tmp_path / "unet.safetensors", unet)
    assert_same(single_file.read(file, base=made("sd2")), read_of("sd2"))
    with pytest.raises(UserError, match="holds no \\.safetensors"):
        single_file.read(file, base=bare)


def test_an_autoencoder_alone(
    file_of: Callable[[str], Path],
    made: Callable[[str], Path],
    tmp_path: Path,
    read_of: Callable[[str], Published],
) -> None:
    expected = folders.read_autoencoder(made("sd1") / "vae")
    own = {
        name.removeprefix(VAE): value
        for name, value in load_file(file_of("sd1")).items()
        if name.startswith(VAE)
    }
    # As vae-ft-mse-840000-ema-pruned.safetensors is named, and with its training's rest.
    file = saved(tmp_path / "vae.safetensors", {**own, "loss.logvar": np.ones((), np.float32)})
    for found in (
        autoencoder_at(file, base=made("sd1")),
        autoencoder_at(file_of("sd1"), base=made("sd1")),
    ):
        assert found[0] == expected[0]
        same = jax.tree.map(np.array_equal, found[1], expected[1])
        assert all(jax.tree.leaves(same))
    with pytest.raises(UserError, match="by --base FOLDER"):
        autoencoder_at(file)
    config = read_of("sd1").config
    assert GeneratorWeights(file, config, base=made("sd1")).params(None).keys() == {"vae"}


def test_training_begins_with_a_file(
    file_of: Callable[[str], Path], made: Callable[[str], Path], read_of: Callable[[str], Published]
) -> None:
    expected = read_of("sd1")
    weights = GeneratorWeights(file_of("sd1"), expected.config, base=made("sd1"))
    found = weights.params(weights.tokenizer())
    assert_same(dataclasses.replace(expected, params=found), expected)
    with pytest.raises(ConfigError, match="do not fit this model"):
        other = dataclasses.replace(expected.config.unet, layers=2)
        config = dataclasses.replace(expected.config, unet=other)
        GeneratorWeights(file_of("sd1"), config, base=made("sd1")).params(None)


ONE = np.ones((1,), np.float32)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"control_model.zero_convs.0.0.weight": ONE}, "is a ControlNet"),
        ({"conditioner.embedders.0.model.ln_final.bias": ONE}, "is SDXL's refiner"),
        ({"edm_mean": ONE}, "is Playground 2.5"),
        ({"noise_augmentor.betas": ONE}, "is an unCLIP"),
        ({f"{UNET}label_emb.weight": ONE}, "is an upscaler"),
        (
            {f"{UNET}input_blocks.0.0.weight": np.ones((32, 8, 3, 3), np.float32)},
            "takes 8 channels",
        ),
        ({f"{UNET}strange.weight": ONE}, r"not known model.diffusion_model.strange"),
        ({f"{UNET}out.2.bias": None}, r"missing model.diffusion_model.out.2.bias"),
        ({f"{VAE}decoder.norm_out.bias": None}, r"missing first_stage_model.decoder.norm_out"),
    ],
)
def test_other_models_and_what_is_missing_or_strange_are_named(
    odd: dict[str, np.ndarray | None],
    message: str,
    file_of: Callable[[str], Path],
    made: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    changed = {**load_file(file_of("sd1")), **odd}
    named = {name: value for name, value in changed.items() if value is not None}
    with pytest.raises(DataError, match=message):
        single_file.read(saved(tmp_path / "a.safetensors", named), base=made("sd1"))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            {"lora_unet_conv_in.lora_down.weight": ONE},
            "is a LoRA, which goes with a model as --lora",
        ),
        ({"down_blocks.0.resnets.0.conv1.weight": ONE}, "is one part of a folder of diffusers"),
        (
            {"double_blocks.0.img_attn.proj.weight": ONE},
            "holds no UNet .* begin with double_blocks",
        ),
    ],
)
def test_files_without_a_generator_are_told_apart(
    named: dict[str, np.ndarray], message: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    file = saved(tmp_path / "a.safetensors", named)
    with pytest.raises(DataError, match=message):
        single_file.read(file, base=made("sd1"))
    with pytest.raises(DataError, match=message):
        autoencoder_at(file, base=made("sd1"))


def test_pickles_and_cut_files_are_refused(
    file_of: Callable[[str], Path],
    made: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pickle = tmp_path / "v1-5.ckpt"
    pickle.write_bytes(b"pickle")
    assert main(["generate", str(pickle), "x", "--base", str(made("sd1"))]) == 2
    told = capsys.readouterr().err
    assert "is a pickle, which is never loaded here" in told and "tools.convert_pickle" in told
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file_of("sd1").read_bytes()[:100_000])
    with pytest.raises(DataError, match="damaged"):
        single_file.read(cut, base=made("sd1"))


def test_pictures_are_made_by_command(
    file_of: Callable[[str], Path],
    made: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = ("--dtype", "float32", "--steps", "2", "--scheduler", "ddim")
    pictures = []
    for model, more in ((file_of("sd1"), ("--base", str(made("sd1")))), (made("sd1"), ())):
        given = (str(model), "빨간 셔츠", *more, *short)
        assert main(["generate", *given, "--output", str(tmp_path)]) == 0
        pictures.append(Path(capsys.readouterr().out.strip()))
    from PIL import Image

    first, second = (np.asarray(Image.open(path)) for path in pictures)
    assert np.array_equal(first, second)
    assert main(["generate", str(file_of("sd1")), "x", "--output", str(tmp_path)]) == 2
    assert "--base FOLDER" in capsys.readouterr().err


def test_a_model_is_converted_there_and_back(
    made: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    read_of: Callable[[str], Published],
) -> None:
    file, folder = tmp_path / "one.safetensors", tmp_path / "folder"
    there = [str(made("sdxl")), "--output", str(file)]
    assert convert_generator.main(there) == 0
    back = [str(file), "--base", str(made("sdxl")), "--output", str(folder)]
    assert convert_generator.main(back) == 0
    assert_same(model_at(folder), read_of("sdxl"))
    capsys.readouterr()
    assert convert_generator.main(there) == 2
    assert "exists; choose another name" in capsys.readouterr().err
    assert convert_generator.main([str(file), "--output", str(tmp_path / "other")]) == 2
    assert "--base FOLDER" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_what_the_layout_has_no_place_for_stays_a_folder(
    made: Callable[[str], Path], tmp_path: Path, read_of: Callable[[str], Published]
) -> None:
    file = tmp_path / "one.safetensors"
    with pytest.raises(UserError, match=r"no place for time_embedding.cond_proj"):
        single_file.write(file, read_of("lcm"))
    with pytest.raises(UserError, match="is called NAME"):
        single_file.write(tmp_path / "one.ckpt", read_of("sd1"))
    assert list(tmp_path.iterdir()) == []
