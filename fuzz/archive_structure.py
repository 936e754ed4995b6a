"""
Fuzzes archives by their structure: members, headers and bytes of the tar file, the config, the
vocabulary, the tokenizer and the weights are changed at random, and each archive is checked and, if
that finds nothing, loaded, with AllenNLP and without.

    python -m fuzz.archive_structure --archives 10000 --seed 1

A finding is an error that is not in our words, 10 seconds of the processor, 2 GB of memory, a file
written outside of the temporary folder, or a connection. It is written to the current folder as an
archive, and becomes a test. Needs no atheris. Run it where the network is closed: `unshare -rn`.
"""

import argparse
import copy
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import socket
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RUST_BACKTRACE"] = "0"
os.environ.setdefault("ALLENNLP_LOG_LEVEL", "ERROR")  # a line for every setting doubles the time
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

MAX_SECONDS = 10
MAX_BYTES = 2 << 30
REPORT_EVERY = 500

VALUES: List[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 75, 10**6, 10**9, 10**30, -(10**9), 0.5, 1e308, -0.0),
    *("", "a", "..", "/etc/passwd", "../../x", "a" * 1000, "é\u0301", "\ud800", "\0", "C:\\x"),
    *("os.mkdir", "spacy", "from_archive", "pretrained_transformer", "labels", "mean", "ngrams"),
    *([], {}, [1], {"type": "os.mkdir"}, {"_pretrained": {"archive_file": "x"}}, [[[[]]]]),
    *("(a+)+$", {"Regex": "(a|aa)+$"}, {"String": ""}, {"content": "a" * 3000}, "Sequence"),
]
KEYS = ["type", "_pretrained", "auto_map", "tokenizer_class", "vocab_file", "model_type", "model"]
NAMES = [
    *("config.json", "CONFIG.JSON", "meta.json", "weights.th", "best.th", "vocabulary", "../x"),
    *("/x", "a/" * 40 + "b", "a" * 300, "vocabulary/labels.txt", "vocabulary/.transformers/x/y"),
    *(".allennlp_plugins", "évil.py", "e\u0301vil.py", "vocabulary/other_tags.txt", ".", "a\\b"),
]
KINDS = [*(bytes([code]) for code in b"0123456789LKSxgXV"), b"\0", b"Q"]

Members = List[Tuple[str, bytes]]


def changed_json(random_: random.Random, content: bytes) -> bytes:
    """With one value or key changed, or one taken away or added."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return changed_bytes(random_, content)
    places = list(_places(found)) if isinstance(found, (dict, list)) else []
    if not places:
        return content
    inside, key = random_.choice(places)
    value = copy.deepcopy(random_.choice(VALUES))
    action = random_.randrange(4)
    if action == 0:
        inside[key] = value
    elif action == 1:
        del inside[key]
    elif action == 2 and isinstance(inside, dict):
        inside[random_.choice(KEYS)] = value
    elif isinstance(inside[key], (int, float)):
        inside[key] = inside[key] * random_.choice([-1, 0, 10, 10**6]) + random_.choice([0, 1])
    else:
        inside[key] = {"type": inside[key]} if random_.random() < 0.5 else [inside[key]] * 3
    text = json.dumps(found)
    if random_.random() < 0.1:
        text = text[:-1] + ', "model": 1}'  # which may be there twice
    return text.encode()


def _places(found: Any) -> Iterator[Tuple[Any, Any]]:
    parts = found.items() if isinstance(found, dict) else enumerate(found or ())
    for key, value in list(parts):
        yield found, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def changed_bytes(random_: random.Random, content: bytes) -> bytes:
    """With some bytes changed, doubled, taken away or cut off."""
    changed = bytearray(content)
    for _ in range(random_.choice([1, 1, 2, 10])):
        if not changed:
            break
        at = random_.randrange(len(changed))
        length = random_.choice([1, 1, 4, 100, 1000])
        action = random_.randrange(4)
        if action == 0:
            changed[at] = random_.randrange(256)
        elif action == 1:
            del changed[at : at + length]
        elif action == 2:
            changed[at:at] = changed[at : at + length]
        else:
            del changed[at:]
    return bytes(changed)


def changed_members(random_: random.Random, members: Members) -> Members:
    """With the content of one file changed, or a file taken away, added or named otherwise."""
    changed = list(members)
    at = random_.randrange(len(changed))
    name, content = changed[at]
    action = random_.randrange(10)
    if action < 5:
        jsons = [n for n, (name, _) in enumerate(changed) if name.endswith(".json")]
        at = random_.choice(jsons or [at])
        name, content = changed[at]
        changed[at] = (name, changed_json(random_, content))
    elif action < 7:
        changed[at] = (name, changed_bytes(random_, content))
    elif action == 7:
        del changed[at]
    elif action == 8:
        changed.insert(at, (random_.choice(NAMES), content))
    else:
        changed[at] = (random_.choice(NAMES), content)
    return changed


def packed(random_: random.Random, members: Members) -> bytes:
    """A tar file of them, of which some headers or bytes may be changed."""
    file = io.BytesIO()
    form = random_.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    at = random_.randrange(len(members) * 3) if members else 0
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for number, (name, content) in enumerate(members):
            member = tarfile.TarInfo(name.encode("utf-8", "replace").decode())
            member.size = len(content)
            if number == at:
                member.type = random_.choice(KINDS)
                member.linkname = random_.choice(NAMES)
                if random_.random() < 0.3:
                    member.pax_headers = {"GNU.sparse.major": "1", "size": "99999999999"}
                if random_.random() < 0.3:
                    tar.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))
                    continue
            tar.addfile(member, io.BytesIO(content))
    content = file.getvalue()
    if random_.random() < 0.2:
        content = changed_bytes(random_, content)
    if random_.random() < 0.05:
        return content
    content = gzip.compress(content, 1)
    return changed_bytes(random_, content) if random_.random() < 0.1 else content


class Finding(Exception):
    """What should not be."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Looks for archives that break check or loading.")
    parser.add_argument("--archives", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output-dir", type=Path, default=Path())
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # So that what takes all memory is a finding, not the end.
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))

    from tests.tiny import write_tsv
    from tests.tiny_runs import train_and_move_pretrained

    home = Path(tempfile.mkdtemp(prefix="fuzz-"))
    (home / "trained").mkdir()
    tsv = write_tsv(home)
    run = train_and_move_pretrained(home / "trained", tsv)["run"]
    members = [
        (str(path.relative_to(run)).replace("best.th", "weights.th"), path.read_bytes())
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name in FILES
    ]
    counts = fuzz(arguments, members, home)
    print(_text(counts))
    shutil.rmtree(home)
    sys.exit(1 if counts["findings"] else 0)


FILES = {
    *("config.json", "meta.json", "best.th", "labels.txt", "non_padded_namespaces.txt"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"),
}


def fuzz(arguments: argparse.Namespace, members: Members, home: Path) -> "Counter[str]":
    """Makes and tries archives: how many were refused, loaded and are findings."""
    inside = home / "temporary"
    inside.mkdir()
    tempfile.tempdir = str(inside)
    archive = home / "model.tar.gz"
    watched = [home, Path.cwd()]
    _no_connections()
    try_ = _trial()
    counts: Counter[str] = Counter()
    for number in range(arguments.first, arguments.first + arguments.archives):
        random_ = random.Random(f"{arguments.seed}-{number}")
        changed = members
        for _ in range(random_.choice([1, 1, 1, 2, 3])):
            changed = changed_members(random_, changed) or members
        archive.write_bytes(packed(random_, changed))
        before = {folder: sorted(os.listdir(folder)) for folder in watched}
        started = time.process_time()
        try:
            counts[try_(archive)] += 1
            _check_after(started, before, inside)
        except Finding as finding:
            counts["findings"] += 1
            kept = arguments.output_dir / f"finding-{arguments.seed}-{number}.tar.gz"
            kept.write_bytes(archive.read_bytes())
            print(f"{kept}: {finding}", flush=True)
        if (number + 1) % REPORT_EVERY == 0:
            print(f"number {number + 1:,}: {_text(counts)}", flush=True)
    return counts


def _text(counts: "Counter[str]") -> str:
    return ", ".join(f"{name}: {number:,}" for name, number in sorted(counts.items()))


def _check_after(started: float, before: Dict[Path, List[str]], inside: Path) -> None:
    seconds = time.process_time() - started  # which others' work does not lengthen
    if seconds > MAX_SECONDS:
        raise Finding(f"it took {seconds:.1f} seconds of the processor")
    for folder, names in before.items():
        if sorted(os.listdir(folder)) != names:
            raise Finding(f"files of '{folder}' are others than before")
    left = [name for name in os.listdir(inside)]
    for name in left:
        shutil.rmtree(inside / name, ignore_errors=True)
    if left:
        raise Finding(f"temporary files stay: {left}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    if memory > MAX_BYTES:
        raise Finding(f"the process has taken {memory:,} bytes")


def _no_connections() -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise Finding("a connection was asked for")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.getaddrinfo = refuse

    def too_long(*args: Any) -> None:
        raise Finding(f"it took more than {6 * MAX_SECONDS} seconds")

    signal.signal(signal.SIGALRM, too_long)


def _trial() -> Callable[[Path], str]:
    from allennlp.common.checks import ConfigurationError

    from sledgehammer_allennlp.archives import check_archive, load_archived_classifier
    from sledgehammer_allennlp.models import checked_archive

    ways = (
        (check_archive, load_archived_classifier),
        (checked_archive.check_archive, checked_archive.load_checked_archive),
    )

    def predict(loaded: Any) -> None:
        classifier = getattr(loaded, "predict", None)
        if classifier is not None and loaded.tokenizer is not None:
            classifier(["the film was good", "a" * 300, ""])

    def try_(archive: Path) -> str:
        outcome = ""
        signal.alarm(6 * MAX_SECONDS)
        try:
            for check, load in ways:
                problems = check(archive).problems
                for problem in problems:
                    if len(problem) > 5000:
                        raise Finding(f"a problem of {len(problem):,} characters")
                try:
                    predict(load(archive))
                    if problems:
                        raise Finding(f"it is loaded, although {problems}")
                    outcome = outcome or "loaded"
                except Finding:
                    raise
                except (ValueError, ConfigurationError) as error:
                    if type(error) not in (ValueError, ConfigurationError):
                        raise Finding(f"{type(error).__name__}: {str(error)[:300]}") from error
                    if len(str(error)) > 20_000:
                        raise Finding(f"an error of {len(str(error)):,} characters") from error
                    outcome = "refused by check" if problems else "refused by loading only"
                except BaseException as error:
                    if isinstance(error, (KeyboardInterrupt, SystemExit)):
                        raise
                    raise Finding(f"{type(error).__name__}: {str(error)[:300]}") from error
        except (Finding, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise Finding(f"in check: {type(error).__name__}: {str(error)[:300]}") from error
        finally:
            signal.alarm(0)
        return outcome

    return try_


if __name__ == "__main__":
    main()
