"""
Writes the pictures of the documentation, as SVG and PNG, and `captions.json`: the caption and the
alternative text of each. What there are no numbers of is left out.
"""

import argparse
import json
from pathlib import Path
from typing import Any, List

from scripts.pictures.accuracy import draw_accuracies
from scripts.pictures.early_exit import draw_early_exit
from scripts.pictures.load import draw_load
from scripts.pictures.picture import Picture, style, write_picture
from scripts.pictures.thinning import draw_thinning
from sledgehammer_allennlp.files import write_text_whole

CAPTIONS_FILE = "captions.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("docs/results"), metavar="DIR")
    parser.add_argument("--output-dir", type=Path, default=Path("docs/pictures"), metavar="DIR")
    arguments = parser.parse_args()
    pictures = draw_pictures(arguments.results)
    for picture in pictures:
        write_picture(picture, arguments.output_dir)
        print(f"{arguments.output_dir / picture.name}.svg and .png")
    captions = {one.name: {"caption": one.caption, "alt": one.alt} for one in pictures}
    text = json.dumps(captions, indent=1, ensure_ascii=False) + "\n"
    write_text_whole(arguments.output_dir / CAPTIONS_FILE, text)


def draw_pictures(results: Path) -> List[Picture]:
    """
    All pictures that there are numbers of.

    # Parameters

    results : `Path`
        The folder of `demo.json`, `serving.json` and `recipes/results/*.json`.
    """
    with style():
        pictures = [draw_early_exit()]
        if (results / "demo.json").exists():
            pictures.append(draw_thinning(_read(results / "demo.json")))
        recipes = sorted((results / "recipes" / "results").glob("*.json"))
        pictures += draw_accuracies([_read(path) for path in recipes])
        if (results / "serving.json").exists():
            pictures.append(draw_load(_read(results / "serving.json")))
    return pictures


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SystemExit(f"'{path}' is no JSON: {error}") from error


if __name__ == "__main__":
    main()
