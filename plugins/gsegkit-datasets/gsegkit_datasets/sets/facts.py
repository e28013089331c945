"""What is known about the published data sets: archives with sizes and checksums, and how many images a split has.

Sizes, checksums and counts are those that public readers and checksum lists print. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Archive:
    """A file that the data set is published as.

    Attributes:
        name: of the file.
        brings: what it unpacks to.
        size: bytes; 0 = unknown.
        md5: "" = unknown.
    """

    name: str
    brings: str
    size: int = 0
    md5: str = ""

    def __str__(self) -> str:
        known = [f"{self.size:,} bytes"] if self.size else []
        known += [f"md5 {self.md5}"] if self.md5 else []
        return self.name + (f" ({', '.join(known)})" if known else "")


@dataclass(frozen=True)
class Facts:
    """One data set.

    Attributes:
        title: as people call it.
        archives: what it is published as.
        counts: split -> number of images.
        notes: what a reader of results should know: leaks, doubtful masks.
        either: whether one of the archives is enough.
        absent: names of samples that some or all copies lack; they are left out and counted, not refused.
    """

    title: str
    archives: tuple[Archive, ...]
    counts: Mapping[str, int]
    notes: tuple[str, ...] = ()
    either: bool = False
    absent: frozenset[str] = field(default_factory=frozenset)

    def unpack(self, *brings: str) -> str:
        """A remedy: which archives bring what is missing, or all of them."""
        found = [archive for archive in self.archives if not brings or archive.brings in brings] or self.archives
        return f"unpack {(' or ' if self.either else ' and ').join(map(str, found))}"


CUB = Facts(
    "CUB-200-2011",
    (
        Archive("CUB_200_2011.tgz", "images", 1_150_585_339, "97eceeb196236b17998738112f37df78"),
        Archive("segmentations.tgz", "masks", 39_272_883, "4d47ba1228eae64f2fa547c47bc65255"),
    ),
    {
        "all": 11_788, "official-train": 5_994, "official-test": 5_794,
        "redo-train": 10_000, "redo-val": 788, "redo-test": 1_000,
    },
    ("some of its photographs are in ImageNet, which many generators were trained on",),
)  # fmt: skip
FLOWERS102 = Facts(
    "Oxford Flowers-102",
    (
        Archive("102flowers.tgz", "images", 344_862_509, "52808999861908f626f3c1f4e79d11fa"),
        Archive("102segmentations.tgz", "masks", 0, "51375996b6c4f367a4b9f4492d7ecef5"),
        Archive("setid.mat", "list", 14_989, "a5357ecc9cb78c4bef273ce3793fc85c"),
    ),
    {
        "all": 8_189, "official-train": 1_020, "official-val": 1_020, "official-test": 6_149,
        "redo-train": 6_149, "redo-val": 1_020, "redo-test": 1_020,
    },
    ("its masks come from an algorithm, not from people",),
)  # fmt: skip
FLOWERS17 = Facts(
    "Oxford Flowers-17",
    (
        Archive("17flowers.tgz", "images"),
        Archive("trimaps.tgz", "masks", 3_915_787),
        Archive("datasplits.mat", "list", 7_487),
    ),
    {},
    ("only some of its photographs have masks",),
)
OMRON = Facts(
    "DUT-OMRON",
    (
        Archive("DUT-OMRON-image.zip", "images", 0, "a8951db9297afacf78bc0e5079103cf1"),
        Archive("DUT-OMRON-gt-pixelwise.zip.zip", "masks"),
    ),
    {"all": 5_168},
    absent=frozenset({"sun_akxddynsopjifavt", "sun_barwtmnxkuxyttlj"}),
)
DUTS = Facts(
    "DUTS",
    (Archive("DUTS-TE.zip", "official-test"), Archive("DUTS-TR.zip", "official-train")),
    {"official-train": 10_553, "official-test": 5_019},
    ("DUTS-TR holds photographs of ImageNet, DUTS-TE some of its test set",),
    either=True,
)
ECSSD = Facts(
    "ECSSD",
    (Archive("images.zip", "images", 67_766_979), Archive("ground_truth_mask.zip", "masks", 1_571_109)),
    {"all": 1_000},
)
CELEBAMASK = Facts(
    "CelebAMask-HQ",
    (Archive("CelebAMask-HQ.zip", "images"),),
    {"all": 30_000, "official-train": 24_183, "official-val": 2_993, "official-test": 2_824},
    absent=frozenset({"4790"}),
)
CARS = Facts(
    "Stanford Cars",
    (
        Archive("cars_train.tgz", "images", 979_269_282, "065e5b463ae28d29e77c1b4b166cfe61"),
        Archive("cars_test.tgz", "images", 977_350_468, "4ce7ebf6a94d07f1952d94dd34c4d501"),
        Archive("car_devkit.tgz", "list", 330_960),
        Archive("cars_test_annos_withlabels.mat", "list", 185_758, "b0a2b23655a3edd16d84508592a98d10"),
    ),
    {"all": 16_185, "official-train": 8_144, "official-test": 8_041},
)
DOGS = Facts(
    "Stanford Dogs",
    (
        Archive("images.tar", "images", 793_579_520),
        Archive("annotation.tar", "boxes", 21_852_160),
        Archive("lists.tar", "list", 481_280),
    ),
    {"all": 20_580, "official-train": 12_000, "official-test": 8_580},
    ("all of its photographs are in the training set of ImageNet",),
)
APC = Facts("Amazon Picking Challenge, training set", (Archive("training.zip", "images"),), {})
VOC = Facts(
    "PASCAL VOC",
    (
        Archive("VOCtrainval_11-May-2012.tar", "2012", 1_999_639_040, "6cd6e144f989b92b3379bac3b3de84fd"),
        Archive("VOCtrainval_03-May-2010.tar", "2010", 0, "da459979d0c395079b5c75ee67908abb"),
        Archive("VOCtrainval_06-Nov-2007.tar", "2007", 0, "c52e279531787c972589f7e41ab4ae64"),
    ),
    {},
    either=True,
)
VOC_COUNTS: Mapping[str, Mapping[str, int]] = {
    "2012": {"official-train": 1_464, "official-val": 1_449, "official-trainval": 2_913},
}
PETS = Facts(
    "Oxford-IIIT Pets",
    (
        Archive("images.tar.gz", "images", 791_918_971, "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
        Archive("annotations.tar.gz", "masks", 19_173_078, "95a8c909bbe2e81eed6a22bccdf3f68f"),
    ),
    {"all": 7_349, "official-trainval": 3_680, "official-test": 3_669},
)
CUSTOM = Facts(
    "Labels4Free's custom set",
    (Archive("custom_dataset of the authors' code", "images"),),
    {"faces": 10, "cats": 10, "horses": 10, "cars": 10},
    ("its images are generated; its authors state no licence",),
)
