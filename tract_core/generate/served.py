"""Under which name a server has a judge."""

from tract_core.base.tables import content_hash


def served_name(base: str, adapter: str | None) -> str:
    """The name stands for the content of base and adapter, so that a server cannot have another judge under it.

    Args:
        base: identity of the seed model.
        adapter: hash of the adapter's manifest; None: the seed model itself.
    """
    return f"tract-{content_hash([base, adapter])[:12]}"
