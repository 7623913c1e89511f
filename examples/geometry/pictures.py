"""Every picture of the first paper, drawn from the digits.

python examples/geometry/pictures.py
inpca report digits.ensemble
"""

from pathlib import Path

from digits_ensemble import distances_of, from_command_line

import inpca
from inpca.plotting.gallery import available, draw
from inpca.plotting.report import write_figure
from inpca.plotting.settings import Settings
from inpca.plotting.subject import Subject


def main() -> None:
    ensemble = from_command_line(__doc__)
    embedding = inpca.InPCA(10).fit(distances_of(ensemble, "train"))
    embedding.join("test", distances_of(ensemble, "test"))
    embedding.save(ensemble.embeddings_path("train"), overwrite=True)

    folder = Path(f"{ensemble.path.stem}-pictures")
    folder.mkdir(exist_ok=True)
    # None of these small networks is as far from truth as the paper's 2 nats.
    subject = Subject(ensemble, color="architecture", settings=Settings(away=0.5))
    for name in available(subject):
        print(write_figure(draw(name, subject), folder / f"{name}.png"))


if __name__ == "__main__":
    main()
