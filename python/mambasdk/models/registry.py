"""Look-up of families and variants by name. Imports neither torch nor model code."""

from __future__ import annotations

import fnmatch

from mambasdk.errors import UnknownNameError, closest
from mambasdk.plugins.host import get_host
from mambasdk.plugins.specs import FamilySpec


def list_models(pattern: str = "*") -> list[str]:
    """Names of all registered models that match a shell pattern, sorted: the variants, and families without any.

    Example: `list_models("mamba-*")`.
    """
    names: set[str] = set()
    for family in get_host().registrations.families.values():
        names.update(family.variants or (family.name,))
    return sorted(fnmatch.filter(names, pattern))


def find_model(name: str) -> tuple[FamilySpec, str | None]:
    """The family of model `name` and the variant, which is None where `name` is the family itself.

    Raises UnknownNameError with the nearest names.
    """
    host = get_host()
    families = host.registrations.families
    for family in families.values():
        if name in family.variants:
            return family, name
    if name in families:
        return families[name], None
    host.check_withdrawn("variant", name)
    known = {*families, *(variant for family in families.values() for variant in family.variants)}
    way_out = closest(name, known)
    if not known:
        way_out = "no plugin registers a model: pip install mambasdk-language, then see `mambasdk doctor`"
    elif broken := host.quarantined():
        way_out += f" (quarantined plugins: {', '.join(record.name for record in broken)}; see `mambasdk doctor`)"
    raise UnknownNameError(f"no model named {name!r}", way_out=way_out)
