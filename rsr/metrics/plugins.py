"""Metrics of other packages: modules that declare some (`rsr.metric`), named as entry points of the group "rsr.metrics"."""

from importlib.metadata import entry_points

from rsr.errors import InputError

GROUP = "rsr.metrics"


def load() -> None:
    """Import what installed packages name.

    Raises:
        InputError: it cannot be imported, or declares a metric whose name is taken.
    """
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            point.load()
        except Exception as error:
            package = point.dist.name if point.dist else "?"
            raise InputError(
                f"the metrics of {package} ({point.value}) cannot be loaded: {error}: mend that package, or remove it"
            ) from error
