"""The Korean suite: which benchmarks there are, where people get them, and on what terms."""

from __future__ import annotations

from kmm_jax.evaluation.suite import published
from kmm_jax.evaluation.suite.benchmark import Benchmark, Captions, Learned, Retrieval, ZeroShot
from kmm_jax.evaluation.suite.forms import (
    CLASS,
    TFDS,
    AsPublished,
    ClassFolders,
    KnownSet,
    NamedByClass,
    Table,
)
from kmm_jax.evaluation.suite.sentences import KLUE, PairTable
from kmm_jax.text.classnames import class_set

_IMAGENET = class_set("imagenet1k").keys
_RESEARCH = "non-commercial research"


def _wnid(stem: str) -> str:
    return stem.partition("_")[0]


def _breed(stem: str) -> str:
    """Of ``american_bulldog_12``."""
    return stem.rpartition("_")[0]


_IMAGENETS = (
    Benchmark(
        name="imagenet",
        title="ImageNet-1k",
        forms=(
            ClassFolders(paths=("imagenet/val", "ILSVRC2012/val", "imagenet1k/val")),
            TFDS(name="imagenet2012", split="validation"),
        ),
        zero_shot=(ZeroShot(classes="imagenet1k"),),
        get="image-net.org (ILSVRC2012_img_val.tar, sorted into a folder a class)",
        licence=_RESEARCH,
    ),
    Benchmark(
        name="imagenet_v2",
        title="ImageNet-V2, matched frequency",
        forms=(
            ClassFolders(
                paths=("imagenetv2-matched-frequency-format-val", "imagenet_v2"),
                numbered=_IMAGENET,
            ),
            TFDS(name="imagenet_v2", split="test"),
        ),
        zero_shot=(ZeroShot(classes="imagenet1k"),),
        get="github.com/modestyachts/ImageNetV2",
        licence="MIT (code); photos of Flickr users",
    ),
    Benchmark(
        name="imagenet_r",
        title="ImageNet-R",
        forms=(ClassFolders(paths=("imagenet-r",)), TFDS(name="imagenet_r", split="test")),
        zero_shot=(ZeroShot(classes="imagenet1k", candidates="present"),),
        get="github.com/hendrycks/imagenet-r",
        licence="MIT (list); art of its makers",
        note="chosen among its 200 classes",
    ),
    Benchmark(
        name="objectnet",
        title="ObjectNet",
        forms=(
            AsPublished(
                folders=("objectnet-1.0", "objectnet"),
                signs=("images", "mappings/objectnet_to_imagenet_1k.json"),
                read=published.objectnet,
            ),
        ),
        zero_shot=(ZeroShot(classes="imagenet1k", candidates="present"),),
        get="objectnet.dev",
        licence="CC BY 4.0, for evaluation alone: no parameter may be tuned on it",
        note="the 113 classes shared with ImageNet, chosen among ImageNet's classes for them",
    ),
    Benchmark(
        name="imagenet_sketch",
        title="ImageNet-Sketch",
        forms=(
            ClassFolders(paths=("imagenet-sketch", "sketch")),
            TFDS(name="imagenet_sketch", split="test"),
        ),
        zero_shot=(ZeroShot(classes="imagenet1k"),),
        get="github.com/HaohanWang/ImageNet-Sketch",
        licence="MIT (list); drawings of their makers",
    ),
    Benchmark(
        name="imagenet_a",
        title="ImageNet-A",
        forms=(ClassFolders(paths=("imagenet-a",)), TFDS(name="imagenet_a", split="test")),
        zero_shot=(ZeroShot(classes="imagenet1k", candidates="present"),),
        get="github.com/hendrycks/natural-adv-examples",
        licence="MIT (list); photos of their makers",
        note="chosen among its 200 classes",
    ),
    Benchmark(
        name="imagenet_sample",
        title="ImageNet sample, one photo a class",
        forms=(
            NamedByClass(paths=("imagenet-sample-images",), key=_wnid),
            Table(paths=("photos/imagenet_sample_ko.tsv",), labels={CLASS: "wnid"}),
        ),
        zero_shot=(ZeroShot(classes="imagenet1k"),),
        get="github.com/EliSchwartz/imagenet-sample-images",
        licence=_RESEARCH,
        note="photos of ImageNet's training part: a first look, not comparable with ImageNet",
    ),
    Benchmark(
        name="tiny_imagenet",
        title="Tiny-ImageNet",
        forms=(
            AsPublished(
                folders=("tiny-imagenet-200/val",),
                signs=("val_annotations.txt", "images"),
                read=published.tiny_imagenet,
            ),
            Table(paths=("photos/tiny_imagenet_ko_train.tsv",), labels={CLASS: "wnid"}),
        ),
        zero_shot=(ZeroShot(classes="imagenet1k", candidates="present"),),
        get="cs231n.stanford.edu/tiny-imagenet-200.zip",
        licence=_RESEARCH,
        note="64 x 64 pixels, chosen among the classes that occur",
    ),
)

_PHOTOS = (
    Benchmark(
        name="cifar10",
        title="CIFAR-10",
        forms=(
            TFDS(name="cifar10", split="test"),
            KnownSet(name="cifar10", split="test", labels={CLASS: "type"}),
        ),
        train=(
            TFDS(name="cifar10", split="train"),
            KnownSet(name="cifar10", split="train", labels={CLASS: "type"}),
        ),
        zero_shot=(ZeroShot(classes="cifar10"),),
        learned=(Learned(),),
        get="cs.toronto.edu/~kriz/cifar.html, or TensorFlow Datasets",
        licence="none stated; research",
        note="where only the training part is at hand, tested on every tenth of its images",
    ),
    Benchmark(
        name="cifar100",
        title="CIFAR-100",
        forms=(TFDS(name="cifar100", split="test"), ClassFolders(paths=("cifar100/test",))),
        train=(TFDS(name="cifar100", split="train"), ClassFolders(paths=("cifar100/train",))),
        zero_shot=(ZeroShot(classes="cifar100"),),
        learned=(Learned(),),
        get="cs.toronto.edu/~kriz/cifar.html, or TensorFlow Datasets",
        licence="none stated; research",
    ),
    Benchmark(
        name="food101",
        title="Food-101",
        forms=(
            AsPublished(
                folders=("food-101",), signs=("meta/test.txt", "images"), read=published.food101
            ),
            TFDS(name="food101", split="validation"),
        ),
        train=(
            AsPublished(
                folders=("food-101",),
                signs=("meta/train.txt", "images"),
                read=published.food101_train,
            ),
            TFDS(name="food101", split="train"),
        ),
        zero_shot=(ZeroShot(classes="food101"),),
        learned=(Learned(),),
        get="data.vision.ee.ethz.ch/cvl/datasets_extra/food-101",
        licence="photos of foodspotting.com; research",
    ),
    Benchmark(
        name="oxford_iiit_pet",
        title="Oxford-IIIT Pet",
        forms=(
            NamedByClass(
                paths=("oxford-iiit-pet/images",), key=_breed, listed="../annotations/test.txt"
            ),
            TFDS(name="oxford_iiit_pet", split="test"),
        ),
        train=(
            NamedByClass(
                paths=("oxford-iiit-pet/images",), key=_breed, listed="../annotations/trainval.txt"
            ),
            TFDS(name="oxford_iiit_pet", split="train"),
        ),
        zero_shot=(ZeroShot(classes="oxford_iiit_pet"),),
        learned=(Learned(),),
        get="robots.ox.ac.uk/~vgg/data/pets",
        licence="CC BY-SA 4.0",
    ),
    Benchmark(
        name="oxford_flowers102",
        title="Oxford 102 Flowers",
        forms=(
            TFDS(name="oxford_flowers102", split="test"),
            ClassFolders(paths=("oxford_flowers102/test",)),
        ),
        train=(
            TFDS(name="oxford_flowers102", split="train"),
            ClassFolders(paths=("oxford_flowers102/train",)),
        ),
        zero_shot=(ZeroShot(classes="oxford_flowers102"),),
        learned=(Learned(),),
        get="robots.ox.ac.uk/~vgg/data/flowers/102",
        licence="none stated; research",
    ),
)

_FASHION = (
    Benchmark(
        name="clothing",
        title="Clothing dataset (small)",
        forms=(
            ClassFolders(paths=("clothing-dataset-small/test",)),
            Table(
                paths=("fashion/clothing_photos.tsv",),
                labels={CLASS: "class_en"},
                only=("split", "validation"),
            ),
        ),
        train=(
            ClassFolders(paths=("clothing-dataset-small/train",)),
            Table(
                paths=("fashion/clothing_photos.tsv",),
                labels={CLASS: "class_en"},
                only=("split", "train"),
            ),
        ),
        zero_shot=(ZeroShot(classes="clothing"),),
        learned=(Learned(),),
        get="github.com/alexeygrigorev/clothing-dataset-small",
        licence="free for any purpose",
    ),
    Benchmark(
        name="fashion_products",
        title="Fashion Product Images (Small)",
        forms=(
            KnownSet(
                name="fashion_products",
                split="test",
                labels={
                    name: name
                    for name in ("type", "color", "gender", "sub_category", "usage", "season")
                },
                texts={"ko": "product_name", "en": "product_name_en", "caption": "caption"},
            ),
        ),
        train=(
            KnownSet(
                name="fashion_products",
                split="train",
                labels={"type": "type", "color": "color", "gender": "gender"},
            ),
        ),
        zero_shot=(
            ZeroShot(classes="fashion_article_types", label="type"),
            ZeroShot(classes="fashion_colours", label="color"),
            ZeroShot(classes="fashion_genders", label="gender"),
            ZeroShot(classes="fashion_sub_categories", label="sub_category"),
            ZeroShot(classes="fashion_usage", label="usage"),
            ZeroShot(classes="fashion_seasons", label="season"),
        ),
        learned=(Learned(label="type"), Learned(label="color"), Learned(label="gender")),
        retrieval=Retrieval(style="shopping"),
        captions=Captions(texts={"ko": "caption"}),
        get="kaggle.com/datasets/paramaggarwal/fashion-product-images-small",
        licence="MIT as published; photos from Myntra",
        note="every tenth image by its hash; Korean texts written from the attributes",
    ),
)

_CAPTIONED = (
    Benchmark(
        name="coco_ko",
        title="COCO-ko, Karpathy's 5,000 test images",
        forms=(
            AsPublished(
                folders=("coco_ko", "coco"),
                signs=("dataset_coco.json", "MSCOCO_train_val_Korean.json", "images"),
                read=published.coco_korean,
            ),
        ),
        retrieval=Retrieval(),
        captions=Captions(),
        get="cocodataset.org (images), Karpathy's splits, and aihub.or.kr (Korean captions)",
        licence="images CC BY by photo; captions CC BY 4.0; Korean ones on AI Hub's terms",
    ),
    Benchmark(
        name="xtd10",
        title="XTD10",
        forms=(
            AsPublished(
                folders=("xtd10", "XTD10"),
                signs=("test_image_names.txt", "test_1kcaptions_ko.txt", "images"),
                read=published.xtd10,
            ),
        ),
        retrieval=Retrieval(),
        captions=Captions(),
        get="github.com/adobe-research/Cross-lingual-Test-Dataset-XTD10 and cocodataset.org",
        licence="captions: see there; images CC BY by photo",
    ),
    Benchmark(
        name="crossmodal_3600",
        title="Crossmodal-3600",
        forms=(
            AsPublished(
                folders=("crossmodal_3600", "xm3600", "crossmodal-3600"),
                signs=("captions.jsonl", "images"),
                read=published.crossmodal_3600,
            ),
        ),
        retrieval=Retrieval(),
        captions=Captions(),
        get="google.github.io/crossmodal-3600",
        licence="CC BY 4.0",
    ),
    Benchmark(
        name="flickr30k_ko",
        title="Flickr30k-ko, Karpathy's 1,000 test images",
        forms=(
            AsPublished(
                folders=("flickr30k_ko", "flickr30k"),
                signs=("dataset_flickr30k.json", "flickr30k_ko.json", "images"),
                read=published.flickr30k_korean,
            ),
        ),
        retrieval=Retrieval(),
        captions=Captions(),
        get="shannon.cs.illinois.edu/DenotationGraph (images), Karpathy's splits; translate the "
        "captions, or take a translation, as IMAGE to list of captions",
        licence=_RESEARCH,
    ),
    Benchmark(
        name="flickr8k",
        title="Flickr8k",
        forms=(
            Table(
                paths=("flickr8k/flickr8k.tsv", "photos/flickr8k_subset.tsv"),
                texts={"ko": "caption_ko", "en": "caption_en"},
            ),
        ),
        retrieval=Retrieval(),
        captions=Captions(texts={"en": "en", "ko": "ko"}),
        get="hockenmaier.cs.illinois.edu/Framing_Image_Description",
        licence=_RESEARCH,
        note="all the images in the table, not Karpathy's test split",
    ),
)

_SENTENCES = (
    Benchmark(
        name="korsts",
        title="KorSTS",
        pairs=(
            PairTable(
                paths=("KorSTS/sts-test.tsv", "text/sts/korsts-test.tsv"),
                columns={"ko": ("sentence1", "sentence2")},
            ),
        ),
        get="github.com/kakaobrain/kor-nlu-datasets",
        licence="CC BY-SA 4.0",
    ),
    Benchmark(
        name="korsts_dev",
        title="KorSTS, development part",
        pairs=(
            PairTable(
                paths=("text/sts/korsts_dev_with_english.tsv",),
                columns={"ko": ("ko1", "ko2"), "en": ("en1", "en2")},
            ),
            PairTable(
                paths=("KorSTS/sts-dev.tsv", "text/sts/korsts-dev.tsv"),
                columns={"ko": ("sentence1", "sentence2")},
            ),
        ),
        get="github.com/kakaobrain/kor-nlu-datasets",
        licence="CC BY-SA 4.0",
        note="not comparable with figures of the test part",
    ),
    Benchmark(
        name="klue_sts",
        title="KLUE-STS, development part",
        pairs=(KLUE(paths=("klue-sts-v1.1/klue-sts-v1.1_dev.json", "klue-sts-v1.1_dev.json")),),
        get="github.com/KLUE-benchmark/KLUE",
        licence="CC BY-SA 4.0",
        note="the test part is not published",
    ),
)

SUITE: tuple[Benchmark, ...] = (*_IMAGENETS, *_PHOTOS, *_FASHION, *_CAPTIONED, *_SENTENCES)

ROBUSTNESS = (
    "imagenet",
    "imagenet_v2",
    "imagenet_r",
    "objectnet",
    "imagenet_sketch",
    "imagenet_a",
)
"""The table of slide 3.1, in its order."""
