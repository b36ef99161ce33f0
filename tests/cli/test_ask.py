"""`kmm ask` over a CoCa that learned a handful of answers, and what it refuses."""

import json

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from PIL import Image

from kmm_jax.cli import main
from kmm_jax.errors import UserError
from kmm_jax.inference import load
from kmm_jax.interop import native
from kmm_jax.models import registry
from kmm_jax.models.clip.config import clip_tiny
from kmm_jax.models.keys import abstract_module
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training.sharding import MeshConfig, make_mesh
from tests.tiny_models import tiny_coca

SIZE, LENGTH = 16, 20
RGB = {"빨간색": (220, 20, 20), "파란색": (20, 20, 220)}
COLOUR, BLUE = "무슨 색이야?", "파란색이에요?"


def pixels(name):
    return np.broadcast_to(np.asarray(RGB[name], np.uint8), (SIZE, SIZE, 3))


def lesson():
    """(image, question, answer): red and blue, asked for and asked about."""
    return [
        *((name, COLOUR, name) for name in RGB),
        ("빨간색", BLUE, "아니요"),
        ("파란색", BLUE, "네"),
    ]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([*RGB, COLOUR, BLUE, "아니요", "네"] * 3, vocab_size=340)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """A model that learned the lesson by heart, exported."""
    task = CoCaTask(
        model=tiny_coca(image_size=SIZE, vocabulary=tokenizer.vocab_size, length=LENGTH),
        contrastive_weight=0.0,
    )
    names, questions, answers = zip(*lesson(), strict=True)
    text, target = tokenizer.answered(questions, answers, LENGTH)
    batch = {"image": np.stack([pixels(name) for name in names]), "text": text, "target": target}
    mesh = make_mesh(MeshConfig(data=1))
    graphdef, params = nnx.split(task.init(jax.random.key(0)))
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state):
        def loss(params):
            module = nnx.merge(graphdef, params)
            return task.loss(module, batch, jax.random.key(0), mesh)[0]

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    params = nnx.as_pure(params)
    state = optimizer.init(params)
    for _ in range(150):
        params, state, value = step(params, state)
    assert value < 0.05
    folder = tmp_path_factory.mktemp("model") / "exported"
    native.save(
        folder,
        native.Exported(
            config=task.model,
            params=nnx.to_pure_dict(jax.device_get(params)),
            tokenizer=tokenizer,
            styled=True,
        ),
    )
    return str(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in RGB:
        Image.fromarray(pixels(name)).resize((90, 60)).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize(("name", "question", "answer"), lesson())
def test_it_prints_the_answer_alone(folder, photos, capsys, name, question, answer):
    assert main(["ask", folder, str(photos / f"{name}.png"), question]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (f"{answer}\n", "")


def test_top_prints_whole_answers_with_probabilities_best_first(folder, photos, capsys):
    path = str(photos / "빨간색.png")
    assert main(["ask", folder, path, COLOUR, "--top", "3"]) == 0
    lines = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    assert lines[0][1] == "빨간색"
    shares = [float(share) for share, _ in lines]
    assert shares[0] > 0.9 and shares == sorted(shares, reverse=True) and sum(shares) <= 1.001

    assert main(["ask", folder, path, COLOUR, "--top", "2", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["model_hash"] == load(folder).hash
    assert (printed["image"], printed["question"]) == (path, COLOUR)
    assert [one["answer"] for one in printed["answers"]] == [words for _, words in lines[:2]]
    for one, share in zip(printed["answers"], shares, strict=False):
        assert one["probability"] == pytest.approx(share, abs=6e-4)


def test_a_probability_is_that_of_the_whole_answer_read_without_a_cache(folder, tokenizer):
    model = load(folder)
    (answer, probability), *_ = model.answers(pixels("빨간색"), BLUE, top=1)
    assert answer == "아니요"
    text, target = tokenizer.answered([BLUE], [answer], LENGTH)

    @jax.jit
    def log_p(params):
        module = nnx.merge(
            nnx.graphdef(abstract_module(lambda rngs: registry.build(model.config, rngs=rngs))),
            params,
        )
        logits = module(pixels("빨간색")[None], text)[2]
        return jax.nn.log_softmax(logits.at[..., np.asarray(tokenizer.unsayable)].set(-1e9))

    places = np.flatnonzero(target[0])
    log_p_TV = log_p(model.params)[0]
    whole = sum(float(log_p_TV[place - 1, text[0, place]]) for place in places)
    # The same answer may also be spelt by other tokens, which adds next to nothing here.
    assert probability == pytest.approx(np.exp(whole), rel=2e-3)


def test_many_are_answered_at_once_each_by_its_own_question(folder):
    names, questions, answers = zip(*lesson(), strict=True)
    images = [pixels(name) for name in names]
    assert load(folder).answer(images, questions, batch_size=3) == list(answers)


def test_a_question_that_is_cut_is_said(folder, photos, capsys):
    long = " ".join([COLOUR] * 9)
    assert main(["ask", folder, str(photos / "빨간색.png"), long]) == 0
    assert f"the question was cut: the model's texts end at {LENGTH} tokens" in (
        capsys.readouterr().err
    )


@pytest.fixture(scope="module")
def clip_folder(tokenizer, tmp_path_factory):
    config = clip_tiny(vocabulary=tokenizer.vocab_size, image_size=SIZE)
    shapes = nnx.state(abstract_module(lambda rngs: registry.build(config, rngs=rngs)))
    params = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype), nnx.to_pure_dict(nnx.as_pure(shapes))
    )
    folder = tmp_path_factory.mktemp("clip") / "exported"
    exported = native.Exported(config=config, params=params, tokenizer=tokenizer, styled=True)
    native.save(folder, exported)
    return str(folder)


@pytest.mark.parametrize(
    ("picture", "question", "more", "said"),
    [
        ("nothing.png", COLOUR, [], "nothing.png is no file; give a picture"),
        ("빨간색.png", "  ", [], "the question is empty"),
        ("빨간색.png", "", [], "the question is empty"),
        ("빨간색.png", COLOUR, ["--top", "0"], "--top is a number of answers from 1 to 50, got 0"),
        ("text.png", COLOUR, [], "text.png: "),
        (".", COLOUR, [], "is no file"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    folder, photos, capsys, picture, question, more, said
):
    (photos / "text.png").write_text("글")
    assert main(["ask", folder, str(photos / picture), question, *more]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and "Traceback" not in printed.err and not printed.out


def test_a_model_without_a_decoder_is_said(clip_folder, photos, capsys):
    assert main(["ask", clip_folder, str(photos / "빨간색.png"), COLOUR]) == 2
    assert "a clip model, which cannot answer; train a CoCa" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_said(tmp_path, photos, capsys):
    path = str(photos / "빨간색.png")
    assert main(["ask", str(tmp_path / "no"), path, COLOUR]) == 2
    assert "no" in capsys.readouterr().err


def test_lists_that_do_not_match_and_empty_questions_are_refused(folder):
    model = load(folder)
    with pytest.raises(UserError, match="1 images, but 2 questions"):
        model.answer([pixels("빨간색")], [COLOUR, COLOUR])
    with pytest.raises(UserError, match="empty question"):
        model.answer([pixels("빨간색")], [" "])
    with pytest.raises(UserError, match="top must be at least 1"):
        model.answers(pixels("빨간색"), COLOUR, top=0)
