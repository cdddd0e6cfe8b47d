"""Places of datasets: files, folders and repositories of a hub.

A folder of datasets is laid out teacher/generation.json, or holds one file per teacher; a hub repository of that layout works the same.
A dataset may be several files: shards, a folder of datasets.save_to_disk, or the trials of a job of Harbor (`rsr.data.files`).
"""

from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from rsr.data.files import SUFFIXES, is_whole, name_of, refuse_splits, suffix_of, whole
from rsr.errors import InputError

# What lies beside trajectories and holds none.
BESIDE = (
    "manifest.json",
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "README.md",
    "LICENSE",
)
RELEASED = "selected_by_rsr"  # the folder of Umean/RSR_data beside those of teachers: what was selected from them


def local(source: str | Path) -> Path:
    """Where the files of a source lie; those of a hub repository ("hub:OWNER/NAME", "hub:OWNER/NAME@REVISION", with /FOLDER or
    /FILE behind NAME for a part of it) are downloaded.

    Raises:
        InputError: the hub cannot be reached, or has no such repository.
    """
    if isinstance(source, str) and source.startswith("hub:"):
        return _download(source.removeprefix("hub:"))
    return Path(source)


def _where_else(path: Path) -> str:
    """What may have been meant by a path where nothing is."""
    with suppress(OSError):
        if near := get_close_matches(path.name, [beside.name for beside in path.parent.iterdir()], n=1, cutoff=0.8):
            return f"did you mean {path.parent / near[0]}?"
    return "give a path that is there, or hub:OWNER/NAME for a data set of the hub"


def find(source: str | Path) -> list[tuple[str, str, Path]]:
    """The datasets of a source (see `local`): teacher, generation, path. A folder `RELEASED` beside those of teachers is none.

    Raises:
        InputError: there is nothing at that place, or nothing readable in it; the hub cannot be reached.
    """
    path = local(source)
    if path.is_file():
        if suffix_of(path) not in SUFFIXES:
            raise InputError(f"{path}: trajectories are read from {', '.join(SUFFIXES)} files")
        return [(name_of(path), "", path)]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder: {_where_else(path)}")
    if is_whole(path):
        return [(path.resolve().name, "", path)]
    wholes, _ = _layout(path)
    if not wholes:
        raise InputError(f"{path}: holds no {', '.join(SUFFIXES)} file")
    for folder in dict.fromkeys(place.parent for place in wholes):
        refuse_splits(folder, (name_of(place) for place in wholes if place.parent == folder))
    places: dict[tuple[str, str], Path] = {}
    for place in wholes:
        folders = place.relative_to(path).parts[:-1]
        name = ("/".join(folders), name_of(place)) if folders else (name_of(place), "")
        if name in places:
            raise InputError(f"{places[name]} and {place} are the same teacher and generation: keep one of them")
        places[name] = place
    return [(teacher, generation, place) for (teacher, generation), place in places.items()]


def beside(source: str | Path) -> str:
    """The files of a folder that are no trajectories by their names, and are not read, in words; "" where there are none."""
    path = Path(source)
    if not path.is_dir() or is_whole(path):
        return ""
    names = [str(file.relative_to(path)) for file in _layout(path)[1]]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} beside it" if names else ""


def _layout(folder: Path) -> tuple[list[Path], list[Path]]:
    """What stands for the datasets of a folder, and its files that are of none, without what lies beside them; sorted.

    What is hidden is of none, and is left out, too, but for a file that has the ending of data.
    """
    present = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    files = [file for file in present if not _is_beside(file.relative_to(folder))]
    readable = [file for file in files if suffix_of(file) in SUFFIXES]
    hidden = [file for file in present if _is_hidden_data(file.relative_to(folder))]
    wholes = dict.fromkeys(place if folder in (place := whole(file)).parents else file for file in readable)
    jobs = {place for place in wholes if place.is_dir()}
    unread = [file for file in files if suffix_of(file) not in SUFFIXES] + hidden
    return (
        [place for place in wholes if not jobs & {*place.parents}],
        [file for file in unread if not jobs & {*file.parents}],
    )


def _is_hidden_data(path: Path) -> bool:
    return path.name.startswith(".") and suffix_of(path) in SUFFIXES and not _is_beside(path.parent)


def _is_beside(path: Path) -> bool:
    return path.name in BESIDE or any(part.startswith(".") or part == RELEASED for part in path.parts)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    place, _, revision = name.partition("@")
    owner, repository, *folders = place.split("/") if "/" in place else (place, "")
    inside = Path(*folders)
    # Of a file its shards too: what shares its name.
    part = inside.with_name(f"{name_of(inside)}*") if suffix_of(inside) in SUFFIXES else inside / "*"
    patterns = [f"{part.as_posix()}{suffix}" for suffix in SUFFIXES]
    try:
        found = snapshot_download(
            f"{owner}/{repository}",
            repo_type="dataset",
            revision=revision or None,
            allow_patterns=[*patterns, "*state.json"],
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"hub:{name}: cannot be downloaded ({reason}); a local copy can be given as a folder"
        ) from error
    return Path(found) / inside
