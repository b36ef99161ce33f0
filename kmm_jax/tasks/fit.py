"""Whether data, tokenizer and model fit together."""

from __future__ import annotations

from kmm_jax.data.config import DataConfig, has_questions
from kmm_jax.errors import ConfigError
from kmm_jax.models.registry import ModelConfig


def check_fits(
    model: ModelConfig, *, data: DataConfig, vocabulary: int | None, answers: bool = False
) -> None:
    """Refuse sizes that do not fit, and questions where nothing answers.

    Args:
        vocabulary: the tokenizer's size; None where there is none.
        answers: whether the task learns to answer, and does not contrast texts.

    Raises:
        ConfigError: naming both sizes and what to change.
    """
    if data.image_size != model.vision.image_size:
        raise ConfigError(
            f"data.image_size is {data.image_size}, but the model takes "
            f"task.model.vision.image_size={model.vision.image_size}; make them equal"
        )
    if data.text_length != model.text.length:
        raise ConfigError(
            f"data.text_length is {data.text_length}, but the model takes "
            f"task.model.text.length={model.text.length}; make them equal"
        )
    if vocabulary is not None and vocabulary > model.text.vocabulary:
        raise ConfigError(
            f"the tokenizer has {vocabulary} tokens, but the model only "
            f"task.model.text.vocabulary={model.text.vocabulary}; set that to {vocabulary} or more"
        )
    if has_questions(data) and not answers:
        raise ConfigError(
            "data.fields has questions, and a question describes no image, so that a contrastive "
            "loss has nothing to learn from it; train a CoCa with task.contrastive_weight=0 "
            "(configs/coca/shop_vqa.py), or leave questions out"
        )
