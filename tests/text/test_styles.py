from __future__ import annotations

import pytest

from kmm_jax.errors import UserError
from kmm_jax.text.styles import FIELD_STYLES, STYLES, style_of


def test_fields_have_the_styles_of_the_slide() -> None:
    assert style_of("title") == style_of("caption") == "prompt"
    assert style_of("query") == "query"
    assert style_of("product_name") == style_of("attributes") == "shopping"
    assert set(FIELD_STYLES.values()) == set(STYLES)


def test_a_wrong_field_is_told_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'title'"):
        style_of("titel")
