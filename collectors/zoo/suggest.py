"""Say which valid name a wrong one is nearest to."""

from collections.abc import Iterable
from difflib import get_close_matches

# Other programs' words, which no likeness of letters leads to ours.
_SYNONYMS = {
    "learning_rate": "lr",
    "learningrate": "lr",
    "bs": "batch_size",
    "batchsize": "batch_size",
    "wd": "weight_decay",
    "decay": "weight_decay",
    "model": "architecture",
    "network": "architecture",
    "opt": "optimizer",
    "aug": "augmentation",
    "sgdn": "nesterov",
    "momentum": "nesterov",
    "all-cnn": "allcnn",
    "fcnn": "fc",
    "resnet": "small-resnet",
    "wideresnet": "wrn-10-4-8",
}


def nearest(word: str, names: Iterable[str]) -> str:
    """``did you mean 'cnn'? (one of cnn, mlp)``: the nearest of `names`, then all of them.

    >>> nearest("mpl", ["cnn", "mlp"])
    "did you mean 'mlp'? It must be one of cnn, mlp"
    """
    valid = list(names)
    synonym = _SYNONYMS.get(word.lower(), "")
    if synonym not in valid:
        synonym = get_close_matches(word.lower(), valid, n=1, cutoff=0.0)[0]
    return f"did you mean {synonym!r}? It must be one of {', '.join(valid)}"
