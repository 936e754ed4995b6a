"""
Fuzzes the dataset reader: any bytes of a file, in several encodings, with and without exit layers.

    python -m fuzz.reader -max_total_time=60

Takes libFuzzer's arguments. The first byte of an input chooses the settings.
"""

import tempfile
from pathlib import Path

import atheris

from fuzz.harness import INSTRUMENTED, fuzz, make_reader, refused, save_pretrained

ENCODINGS = ("utf-8", "utf-16", "utf-16-le", "latin-1", "utf-7", "shift_jis", "unicode_escape")
SEEDS = [
    b"\x00pos\tthe film was good\nneg\tbad\n",
    b"\x00\xef\xbb\xbfpos\ta\tb\r\nneg\tc\td\r\n\n\n",
    b"\x01" + "pos\tgood\n".encode("utf-16"),
    b"\x04+2AA-\tgood\n",
    b"\x06\\ud800\tgood\n",
    b"\x07pos\t-1\tgood\nneg\t3\tbad\n",
    "\x00pos\t[SEP] \u2028 \x85 \x0b \x0c \0 \U0010ffff [PAD]\n".encode(),
]
WORDS = ["\t", "\n", "\r\n", "\ufeff", "\u2028", "\0", "[PAD]", "[SEP]", "label\ttext", "\t-1\t"]


def main() -> None:
    with atheris.instrument_imports(include=INSTRUMENTED):
        import sledgehammer_allennlp.data  # noqa: F401
    folder = Path(tempfile.mkdtemp())
    pretrained = save_pretrained(folder)
    readers = [
        make_reader(pretrained, encoding=encoding, with_exit_layers=with_exit_layers)
        for with_exit_layers in (False, True)
        for encoding in ENCODINGS
    ]
    path = folder / "data.tsv"

    def read(data: bytes) -> None:
        reader = readers[data[0] % len(readers)] if data else readers[0]
        path.write_bytes(data[1:])
        try:
            instances = list(reader.read(str(path)))
        except Exception as error:
            refused(error)
            if str(path) not in str(error):
                raise AssertionError("the file is not named") from error
            return
        rows = list(reader.rows(str(path)))
        assert len(instances) == len(rows) > 0
        for instance, row in zip(instances, rows):
            assert 2 <= len(instance["tokens"]) <= 64
            assert instance["label"].label == row.label == row.label.strip() != ""
            row.label.encode("utf-8")  # as a vocabulary's file must

    fuzz(read, SEEDS, WORDS)


if __name__ == "__main__":
    main()
