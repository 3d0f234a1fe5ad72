"""Write a count before its noun."""

_IRREGULAR = {"alias": "aliases", "class": "classes", "entity": "entities", "query": "queries"}


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is one.

    >>> counted(1, "name"), counted(2000, "gold link"), counted(0, "entity")
    ('1 name', '2,000 gold links', '0 entities')
    """
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of a noun, of its last word if there are several.

    >>> plural("class"), plural("different name")
    ('classes', 'different names')
    """
    *words, last = noun.split(" ")
    return " ".join([*words, _IRREGULAR.get(last, f"{last}s")])
