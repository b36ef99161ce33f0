"""Prompts that ship with the library."""

from __future__ import annotations

from kmm_jax.errors import UserError, nearest

_SETS: dict[str, tuple[str, ...]] = {
    # Slides 4.2 and 4.3, in their order.
    "talk": (
        "강아지 사진",
        "불꽃놀이가 비치는 밤 바다 유화",
        "우주를 떠돌아 다니는 곰인형 초고화질",
        "연필로 그린 의자 그림",
        "공원에서 공놀이를 하고 있는 고양이",
        "뿌연 연기를 내뿜는 증기기관차 고화질 사진",
        "물 속을 헤엄치는 바다거북, 4K",
        "a photo of dancing couple in the rain, 4K",
        "a photo of sunset taken at the sea",
        "a photo of a fire-breathing dragon",
    ),
    # Slide 4.3's pictures of quality against steps.
    "steps": ("고양이 사진", "파란색 드레스"),
}

PROMPT_SETS: tuple[str, ...] = tuple(_SETS)


def prompt_set(name: str) -> tuple[str, ...]:
    """The prompts of a set.

    Raises:
        UserError: no such set.
    """
    if name not in _SETS:
        raise UserError(f"no set of prompts {name!r}{nearest(name, _SETS)}")
    return _SETS[name]
