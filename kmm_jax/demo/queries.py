"""Judged queries of a world: by text, by image, by both, and an image less something.

What is asked for are facts of a thing that some document has; grades follow from the facts of all
documents (`facts.grade`). Words are drawn anew, so that a query often says otherwise what a
document says (레드 and 빨간색, 남방 and 셔츠, 꽃이 그려진 and 꽃무늬), which words alone do not
find.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

from kmm_jax.demo.facts import Facts, Lexicon, Pictured, World, grade
from kmm_jax.search.judgements import JudgedQuery

_ENDS = ("", "", "", " 추천", " 추천해 주세요", " 어디서 사요?", " 찾아요", " 쇼핑몰")
_TRIES = 60
_PARAPHRASED = 0.3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """Judged queries and the pictures of those that have one, by path."""

    queries: tuple[JudgedQuery, ...]
    less: tuple[JudgedQuery, ...]
    pictures: Mapping[str, bytes]


def ask(
    world: World,
    things: Mapping[str, Sequence[Facts]],
    *,
    texts: int,
    images: int,
    both: int,
    less: int,
    seed: int,
) -> Asked:
    """Make queries.

    Args:
        things: of all documents that are searched, by their ids.
        texts, images, both: how many of each kind, fewer where the world has not as many.
        less: queries of an image less what its text says; they stand apart, as a search that
            adds a text to an image does not answer them.
    """
    own = [
        thing for id, each in things.items() if id.startswith(f"{world.name}-") for thing in each
    ]
    rng = Random(f"demo/{seed}/{world.name}/queries")
    queries = _texts(world, own, things, texts, rng)
    pictures: dict[str, bytes] = {}

    def add(kind: str, made: list[tuple[JudgedQuery, Pictured]]) -> list[JudgedQuery]:
        pictures.update((one.image, picture.photo()) for one, picture in made)
        return [one for one, _ in made]

    shown = _made(images, iter(world.pictures[::2]), lambda n, one: _shown(world, n, one, things))
    queries += add("image", shown)
    changed = _made(
        both, iter(world.pictures[1::2]), lambda n, one: _changed(world, n, one, own, things, rng)
    )
    queries += add("both", changed)
    taken = _made(less, iter(world.pictures), lambda n, one: _taken(world, n, one, things, rng))
    return Asked(queries=tuple(queries), less=tuple(add("less", taken)), pictures=pictures)


def _made(
    count: int,
    pictures: Iterator[Pictured],
    make: Callable[[int, Pictured], JudgedQuery | None],
) -> list[tuple[JudgedQuery, Pictured]]:
    """Queries of the next pictures that are good for one."""
    found: list[tuple[JudgedQuery, Pictured]] = []
    while len(found) < count and (picture := next(pictures, None)) is not None:
        if (one := make(len(found), picture)) is not None:
            found.append((one, picture))
    return found


def _texts(
    world: World,
    own: Sequence[Facts],
    things: Mapping[str, Sequence[Facts]],
    count: int,
    rng: Random,
) -> list[JudgedQuery]:
    visible = world.visible[1:]
    wishes = (
        *[("type", key) for key in visible for _ in range(2)],
        *[("type", *visible)] * 3,
        *[("type", key) for key in world.told],
        *[("type", visible[0], key) for key in world.told],
        ("type",),
        visible,
    )
    found: dict[str, JudgedQuery] = {}
    for _ in range(_TRIES * count):
        if len(found) == count:
            break
        thing = rng.choice(own)
        asked = {key: thing[key] for key in rng.choice(wishes) if key in thing}
        if len(asked) < 2 and rng.random() < 0.8:
            continue
        text = _say(asked, world.lexicon, rng)
        if text not in found:
            made = _judged(world, f"text-{len(found)}", asked, things, text=text)
            if made is not None:
                found[text] = made
    return list(found.values())


def _shown(
    world: World, number: int, picture: Pictured, things: Mapping[str, Sequence[Facts]]
) -> JudgedQuery | None:
    """What is like the picture."""
    id = f"image-{number}"
    return _judged(world, id, picture.facts, things, image=_path(world, id))


def _changed(
    world: World,
    number: int,
    picture: Pictured,
    own: Sequence[Facts],
    things: Mapping[str, Sequence[Facts]],
    rng: Random,
) -> JudgedQuery | None:
    """What is like the picture but for one thing that the text says."""
    changes = []
    for thing in own:
        differing = [
            key for key, value in picture.facts.items() if key in thing and thing[key] != value
        ]
        same = all(key in thing for key in picture.facts)
        if same and len(differing) == 1 and differing[0] in world.visible[1:]:
            changes.append((differing[0], thing[differing[0]]))
    if not changes:
        return None
    key, value = rng.choice(sorted(set(changes)))
    id = f"both-{number}"
    text = world.lexicon.say(key, value, rng)
    asked = {**picture.facts, key: value}
    return _judged(world, id, asked, things, image=_path(world, id), text=text)


def _taken(
    world: World,
    number: int,
    picture: Pictured,
    things: Mapping[str, Sequence[Facts]],
    rng: Random,
) -> JudgedQuery | None:
    """What is like the picture, but not of its colour."""
    without = {"color": picture.facts["color"]}
    asked = {key: value for key, value in picture.facts.items() if key not in without}
    id = f"less-{number}"
    text = world.lexicon.say("color", without["color"], rng)
    return _judged(world, id, asked, things, image=_path(world, id), text=text, without=without)


def _judged(
    world: World,
    id: str,
    asked: Facts,
    things: Mapping[str, Sequence[Facts]],
    *,
    without: Facts | None = None,
    text: str = "",
    image: str = "",
) -> JudgedQuery | None:
    """The query with its grades; None where no document has all that is asked for."""
    grades = {
        document: value
        for document, each in things.items()
        if (value := grade(asked, each, without=without))
    }
    if 3 not in grades.values():
        return None
    about: dict[str, Facts] = {"asked": dict(asked)}
    if without:
        about["without"] = dict(without)
    name = f"{world.name}-{id}"
    return JudgedQuery(id=name, text=text, image=image, grades=grades, about=about)


def _say(asked: Facts, lexicon: Lexicon, rng: Random) -> str:
    """The facts as a query; the thing's name last, or first with its colour behind."""
    said = {key: lexicon.say(key, value, rng) for key, value in asked.items()}
    clauses = []
    for key, values in lexicon.paraphrases.items():
        if asked.get(key) in values and rng.random() < _PARAPHRASED:
            del said[key]
            clauses.append(rng.choice(values[asked[key]]))
    noun = said.pop("type", "제품")
    order = [
        said[key]
        for key in ("season", "gender", "usage", "color", "pattern", "material")
        if key in said
    ]
    turned = len(order) == 1 and not clauses and rng.random() < 0.25
    words = [noun, *order] if turned else [*clauses, *order, noun]
    return " ".join(words) + rng.choice(_ENDS)


def _path(world: World, id: str) -> str:
    return f"queries/{world.name}-{id}.jpg"
