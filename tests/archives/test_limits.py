"""What an archive may take of time, memory and disk is bounded, whatever it says of itself."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.archives import check_archive
from sledgehammer_allennlp.archives.extraction import archive_folder, extract
from sledgehammer_allennlp.archives.limits import VARIABLE, Limits, limits_of_environment
from sledgehammer_allennlp.archives.tar_stream import CutOff, Refused, TarStream, Unreadable

GIB = 1 << 30


def header(name="a.txt", size=0, kind=tarfile.REGTYPE, link="") -> bytes:
    """The 512 bytes of a member, of which nothing needs to be true."""
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, link
    return member.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def attributes(*records: bytes, kind=tarfile.XHDTYPE) -> bytes:
    """A PAX header."""
    content = b""
    for record in records:
        length = len(record) + 2
        while len(str(length)) + len(record) + 2 != length:
            length = len(str(length)) + len(record) + 2
        content += b"%d %s\n" % (length, record)
    return header("attributes", len(content), kind) + padded(content)


END = bytes(1024)
FILE = header("a.txt", 3) + padded(b"abc")


def members(content: bytes, max_header: int = 1 << 20):
    stream = TarStream(io.BytesIO(content), max_header)
    found = []
    for member in stream:
        target = io.BytesIO()
        stream.copy_content(target)
        found.append((member.name, member.kind, target.getvalue() or member.link.encode()))
    return found


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        header("big.txt", 20 * GIB, tarfile.GNUTYPE_SPARSE),
        attributes(b"GNU.sparse.major=1", b"GNU.sparse.realsize=20000000000") + FILE,
        attributes(b"GNU.sparse.map=0,1", kind=tarfile.XGLTYPE) + FILE,
        attributes(b"GNU.sparse.numblocks=3", kind=tarfile.SOLARIS_XHDTYPE) + FILE,
    ],
)
def test_a_sparse_file_is_refused_before_anything_of_it_is_written(tmp_path, content):
    archive = write(tmp_path / "a.tar.gz", content + END)
    (problem,) = check_archive(archive).problems
    assert "is stored with holes" in problem and ": wanted whole files" in problem
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="is stored with holes"):
        extract(archive, tmp_path / "folder")
    assert not list((tmp_path / "folder").iterdir())


@pytest.mark.parametrize(
    "kind",
    [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK],
)
def test_a_header_of_a_gigabyte_is_refused_before_it_is_read(kind):
    file = io.BytesIO(header("long", GIB, kind) + bytes(10_000_000))
    with pytest.raises(Refused, match="headers of 1,073,741,824 bytes or more: wanted at most 1,0"):
        next(iter(TarStream(file, 1 << 20)))
    assert file.tell() == 512


def test_headers_that_follow_headers_without_end_are_refused():
    with pytest.raises(Refused, match="wanted at most 1,048,576, and few of them"):
        members(attributes(b"a=b") * 3000 + FILE + END)
    assert members(attributes(b"a=b") * 8 + FILE + END) == [("a.txt", "file", b"abc")]


@pytest.mark.parametrize("link", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_links_behind_a_large_file_do_not_unpack_it_again(tmp_path, monkeypatch, link):
    content = header("a.txt", 100_000) + padded(bytes(100_000))
    content += b"".join(header(f"{n}.txt", kind=link, link="a.txt") for n in range(300)) + END
    archive = write(tmp_path / "a.tar.gz", content)
    read = []
    read_some = gzip.GzipFile.read
    monkeypatch.setattr(
        gzip.GzipFile,
        "read",
        lambda file, size: (lambda part: read.append(len(part)) or part)(read_some(file, size)),
    )
    with archive_folder(archive) as folder:
        assert sum(read) == len(content)
        assert (folder / "299.txt").read_bytes() == bytes(100_000)
    with pytest.raises(ValueError, match="'2.txt' takes all files together to 400,000 bytes: w"):
        extract(archive, tmp_path, Limits(max_bytes=300_000))


def test_what_hardly_has_bytes_may_not_unpack_to_very_many(tmp_path):
    zeros = header("zeros.txt", 4_000_000) + bytes(4_000_000) + END
    archive = write(tmp_path / "a.tar.gz", zeros[:512] + padded(zeros[512:]))
    packed = archive.stat().st_size
    with pytest.raises(ValueError) as refused:
        extract(archive, tmp_path, Limits(any_ratio=1_000_000))
    assert f"4,000,000 bytes: wanted at most {max(packed * 100, 1_000_000):,} for an" in str(
        refused.value
    )
    extract(archive, tmp_path, Limits(any_ratio=4_000_000))
    assert (tmp_path / "zeros.txt").stat().st_size == 4_000_000


def test_bytes_that_no_file_has_are_bounded_too(tmp_path, monkeypatch):
    from sledgehammer_allennlp.archives import extraction

    monkeypatch.setattr(extraction, "_FOR_HEADERS", 10_000)
    archive = write(tmp_path / "a.tar.gz", FILE + END + bytes(1_000_000))
    with pytest.raises(ValueError, match="it has more than 20,000 bytes unpacked"):
        extract(archive, tmp_path, Limits(any_ratio=10_000, max_ratio=1))


def test_the_environment_sets_how_many_bytes_at_any_ratio(monkeypatch):
    assert limits_of_environment() == Limits()
    assert Limits().unpacked(10) == 64 << 20
    assert Limits().unpacked(10 << 20) == 1000 << 20
    assert Limits().unpacked(GIB) == 16 * GIB
    monkeypatch.setenv(VARIABLE, str(50 * GIB))
    assert limits_of_environment().unpacked(10) == 50 * GIB
    for wrong in ("1e9", "-1", "²", "9" * 19):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ValueError, match=f"{VARIABLE} is .*: wanted a number of bytes"):
            limits_of_environment()


@pytest.mark.parametrize(
    "content, error, message",
    [
        (b"", CutOff, "unexpected end of data"),
        (FILE, CutOff, "unexpected end of data"),  # cut off between two members
        (FILE[:600], CutOff, "unexpected end of data"),
        (attributes(b"a=b") + END, CutOff, "a header without its member"),
        (b"text", Unreadable, "shorter than any"),
        (b"x" * 512, Unreadable, "wanted a model.tar.gz"),
        (attributes(b"size=-1") + FILE + END, Unreadable, "has the size '-1': wanted a number"),
        (attributes(b"size=" + b"9" * 30) + FILE + END, Unreadable, "has the size '9999"),
        (attributes(b"path=b", kind=tarfile.XGLTYPE) + FILE + END, Refused, "for all members"),
        (header("x", 3, tarfile.XHDTYPE) + padded(b"abc") + FILE, Unreadable, "has no attributes"),
        (header("x", 9, tarfile.XHDTYPE) + padded(b"99999 a=b") + FILE, Unreadable, "has no attr"),
        (header("x", 7, tarfile.XHDTYPE) + padded(b"0 a=bc\n") + FILE, Unreadable, "has no attri"),
        (header("x", kind=b"Q") + END, Refused, "'x' is of no type that is read here"),
    ],
)
def test_what_is_no_whole_tar_file_says_so(content, error, message):
    with pytest.raises(error, match=message):
        members(content)


def test_a_size_below_zero_is_refused():
    block = bytearray(header("a.txt"))
    block[124:136] = b"\xff" * 11 + b"\x00"  # in base 256
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    with pytest.raises(Unreadable, match="has a size below 0"):
        members(bytes(block) + END)


def test_a_checksum_that_does_not_hold_is_found_at_the_end(tmp_path):
    archive = write(tmp_path / "a.tar.gz", FILE + END)
    content = bytearray(archive.read_bytes())
    content[-8] ^= 1
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"cut off or damaged.*\(CRC"):
        extract(archive, tmp_path)


@pytest.mark.parametrize(
    "names, other",
    [
        (["config.json", "Config.json"], "config.json"),
        (["vocabulary/a.txt", "Vocabulary/b.txt"], "vocabulary"),
        (["é.txt", "e\u0301.txt"], "é.txt"),
        (["ss.txt", "ß.txt"], "ss.txt"),
    ],
)
def test_names_that_some_systems_take_for_one_are_refused(tmp_path, names, other):
    content = b"".join(
        attributes(b"path=" + name.encode()) + header(size=1) + padded(b"x") for name in names
    )
    with pytest.raises(ValueError, match=f"differs from '{other}' only in case or in how letters"):
        extract(write(tmp_path / "a.tar.gz", content + END), tmp_path)


_names = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=90)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            _names,
            st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]),
            st.binary(max_size=1500),
            _names,
        ),
        max_size=6,
    ),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_it_reads_what_pythons_tarfile_writes(given_members, format):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name, kind, content, link in given_members:
            member = tarfile.TarInfo(name)
            member.type, member.mtime = kind, 1.5
            member.linkname = link if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(content))
    kinds = {
        tarfile.REGTYPE: "file",
        tarfile.DIRTYPE: "folder",
        tarfile.SYMTYPE: "soft link",
        tarfile.LNKTYPE: "hard link",
    }
    with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as tar:
        wanted = [
            (
                member.name,
                kinds[member.type],
                tar.extractfile(member).read() if member.isreg() else member.linkname.encode(),
            )
            for member in tar
        ]
    found = [(name.rstrip("/"), *rest) for name, *rest in members(file.getvalue())]
    assert found == [(name.rstrip("/"), *rest) for name, *rest in wanted]
