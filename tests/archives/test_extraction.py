"""Nothing of an archive is written outside of its folder, nor anything but files and folders."""

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from sledgehammer_allennlp.archives import extraction
from sledgehammer_allennlp.archives.extraction import archive_folder
from sledgehammer_allennlp.archives.limits import Limits


def pack(path: Path, *members) -> Path:
    """An archive of (name, content) and (name, type, link) members."""
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, *link in members:
            member = tarfile.TarInfo(name)
            if isinstance(kind, str):
                member.size, member.mode = len(kind), 0o4777
                tar.addfile(member, io.BytesIO(kind.encode()))
            else:
                member.type, member.linkname = kind, "".join(link)
                tar.addfile(member)
    return path


def content(archive: Path, limits=None):
    with archive_folder(archive, limits) as folder:
        return {
            str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*.txt")
        }, [file for file in folder.rglob("*") if file.is_symlink() or file.stat().st_nlink > 2]


@pytest.mark.parametrize(
    "members, name, message",
    [
        ([("../out.txt", "x")], "../out.txt", "would be elsewhere"),
        ([("a/b/../../../out.txt", "x")], "a/b/../../../out.txt", "would be elsewhere"),
        ([("OUT", "x")], "OUT", "would be elsewhere"),
        ([("a\\..\\out.txt", "x")], r"a\\..\\out.txt", "would be elsewhere"),
        ([("l", tarfile.SYMTYPE, "../out.txt"), ("l", "x")], "l", "is a link to '../out.txt'"),
        ([("l", tarfile.SYMTYPE, ".."), ("l/out.txt", "x")], "l", "is a link to '..'"),
        ([("l", tarfile.SYMTYPE, "/etc/passwd")], "l", "is a link to '/etc/passwd'"),
        ([("l", tarfile.LNKTYPE, "/etc/passwd")], "l", "is a link to '/etc/passwd'"),
        ([("l", tarfile.LNKTYPE, "../out.txt")], "l", "is a link to '../out.txt'"),
        ([("l", tarfile.SYMTYPE, "l")], "l", "is a link to 'l'"),
        ([("p", tarfile.FIFOTYPE)], "p", "is a device or a pipe"),
        ([("c", tarfile.CHRTYPE)], "c", "is a device or a pipe"),
        ([("b", tarfile.BLKTYPE)], "b", "is a device or a pipe"),
    ],
)
def test_a_member_that_leads_elsewhere_is_refused_by_name(
    tmp_path, monkeypatch, members, name, message
):
    inside = tmp_path / "temporary"
    inside.mkdir()
    monkeypatch.setattr(extraction.tempfile, "tempdir", str(inside))
    outside = str(tmp_path / "out.txt")
    members = [(outside if first == "OUT" else first, *rest) for first, *rest in members]
    name = outside if name == "OUT" else name
    archive = pack(tmp_path / "evil.tar.gz", ("good.txt", "x"), *members)
    with pytest.raises(ValueError) as error:
        content(archive)
    assert f"evil.tar.gz' is refused: its member '{name}' {message}" in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.tar.gz", "temporary"]
    assert not list(inside.iterdir())


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python refuses it by itself")
def test_allennlp_alone_would_write_it_elsewhere(tmp_path, monkeypatch):
    archival = pytest.importorskip("allennlp.models.archival")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(archival.tempfile, "tempdir", str(tmp_path / "temporary"))
    archive = pack(tmp_path / "evil.tar.gz", ("../../out.txt", "x"))
    with archival.extracted_archive(str(archive)):
        assert (tmp_path / "out.txt").exists()


def test_files_that_are_in_each_others_way_are_refused(tmp_path):
    for members in ([("a", "x"), ("a/b", "x")], [("a/b", "x"), ("a", "x")]):
        with pytest.raises(ValueError, match="cannot read the archive"):
            content(pack(tmp_path / "a.tar.gz", *members))


def test_links_to_files_of_the_archive_become_files(tmp_path):
    archive = pack(
        tmp_path / "a.tar.gz",
        ("v/a.txt", "x"),
        ("hard.txt", tarfile.LNKTYPE, "./v/a.txt"),
        ("v/soft.txt", tarfile.SYMTYPE, "../hard.txt"),
        ("./b.txt", "y"),
    )
    found, links = content(archive)
    assert found == {"v/a.txt": "x", "hard.txt": "x", "v/soft.txt": "x", "b.txt": "y"}
    assert not links


def test_special_rights_are_not_taken_over(tmp_path):
    with archive_folder(pack(tmp_path / "a.tar.gz", ("a.txt", "x"))) as folder:
        assert (folder / "a.txt").stat().st_mode & 0o7111 == 0
    assert not folder.exists()


def test_too_many_members_or_bytes_are_refused(tmp_path, monkeypatch):
    archive = pack(tmp_path / "a.tar.gz", ("a.txt", "x" * 60), ("b.txt", "x" * 60))
    usage = type("Usage", (), {"free": 100})
    with monkeypatch.context() as patch:
        patch.setattr(extraction.shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(ValueError, match="member 'b.txt' takes .* to 120 bytes: .* the 100"):
            content(archive)
    with pytest.raises(ValueError, match="member 'b.txt' is number 2: wanted at most 1"):
        content(archive, Limits(max_members=1))


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_an_archive_that_is_cut_off_says_what_to_do(tmp_path, share, mode):
    with tarfile.open(tmp_path / "a.tar.gz", mode) as tar:
        for number in range(30):
            member = tarfile.TarInfo(f"{number}.txt")
            member.size = 3000
            tar.addfile(member, io.BytesIO(os.urandom(3000)))
    whole = (tmp_path / "a.tar.gz").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(whole[: int(share * len(whole))])
    if mode == "w" and share == 0.999:
        return  # only zeros are missing there
    with pytest.raises(ValueError, match=r"cannot read the archive '.*a\.tar\.gz'") as error:
        content(tmp_path / "a.tar.gz")
    assert share == 0.001 or "interrupted while it was written" in str(error.value)
    assert share == 0.001 or "--recover makes it anew" in str(error.value)


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "a.tar.gz").write_text("text")
    with pytest.raises(ValueError, match="cannot read the archive .*: wanted a model.tar.gz"):
        content(tmp_path / "a.tar.gz")
    with pytest.raises(ValueError, match="there is no archive"):
        content(tmp_path / "none.tar.gz")


def test_of_members_of_one_name_the_last_counts(tmp_path):
    # AllenNLP makes such archives, for `include_in_archive: ["*.json"]`.
    archive = pack(tmp_path / "a.tar.gz", ("a.txt", "x"), ("n 1:30.txt", "z"), ("./a.txt", "y"))
    with archive_folder(archive) as folder:
        assert (folder / "a.txt").read_text() == "y"
        assert (folder / "n 1:30.txt").read_text() == "z"
