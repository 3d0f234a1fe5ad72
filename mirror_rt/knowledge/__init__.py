"""Knowledge bases: read them, store them, index their names, link mentions to them."""
