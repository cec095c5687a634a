"""The comparison at the same bytes: its numbers, its table, its picture, and what it refuses."""

from __future__ import annotations

import io
import math
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lightning_modules.classical.comparison import Comparison, Outcome
from lightning_modules.classical.comparison_figure import clearest_window, draw_comparison
from lightning_modules.classical.comparison_table import comparison_table
from lightning_modules.classical.measuring import compare, find_pictures
from lightning_modules.classical.pillow_codecs import ClassicalCodec, MissingCodec, standard_codecs
from lightning_modules.errors import CodingError
from lightning_modules.metrics.psnr import psnr

INSTALLED = {codec.name: codec for codec in standard_codecs() if isinstance(codec, ClassicalCodec)}
FAST = [INSTALLED["JPEG"], INSTALLED["WebP"]]


def photograph(name: str, box: tuple[int, int, int, int]) -> Image.Image:
    package = find_spec("skimage")
    assert package is not None
    assert package.origin is not None
    with Image.open(Path(package.origin).parent / "data" / name) as image:
        return image.crop(box)


class Job(NamedTuple):
    """Folders as a compress and a decompress job leave them."""

    originals: Path
    files: Path
    decoded: Path

    def add(self, name: str, image: Image.Image, quality: int = 30, decoded: str = "") -> None:
        """WebP plays our codec: the comparison looks at a file's length only."""
        original, file = self.originals / name, self.files / f"{name}.lpc"
        target = self.decoded / (decoded or name)
        for path in (original, file, target):
            path.parent.mkdir(parents=True, exist_ok=True)
        image.save(original)
        image = Image.open(original)
        coded = io.BytesIO()
        image.save(coded, "WEBP", quality=quality, method=6)
        file.write_bytes(coded.getvalue())
        with Image.open(coded) as result:
            result.convert(image.mode).save(target)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A colour and a gray picture, 80 x 64 and 64 x 64."""
    job = Job(tmp_path / "in", tmp_path / "files", tmp_path / "png")
    job.add("sub/face.png", photograph("astronaut.png", (190, 60, 270, 124)))
    job.add("camera.jpg", photograph("camera.png", (220, 80, 284, 144)), decoded="camera.jpg.png")
    return job


class Shown(NamedTuple):
    outcome: Outcome
    text: str


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """One whole run with all codecs and one that is missing."""
    folder = tmp_path_factory.mktemp("demo")
    job = Job(folder / "in", folder / "files", folder / "png")
    job.add("face.png", photograph("astronaut.png", (190, 60, 270, 124)))
    job.add("camera.png", photograph("camera.png", (220, 80, 284, 144)))
    job.add("fur.png", photograph("chelsea.png", (120, 80, 190, 140)))
    console = Console(file=io.StringIO(), width=100)
    codecs: list[ClassicalCodec | MissingCodec] = [*INSTALLED.values(), MissingCodec("VVC", "not installed")]
    outcome = Comparison(codecs, crop_size=(48, 40), num_pictures=2, console=console).run(*job, folder / "out")
    assert isinstance(console.file, io.StringIO)
    return Shown(outcome, console.file.getvalue())


def test_psnr_is_the_formula_over_rgb_pixels() -> None:
    generator = np.random.default_rng(0)
    first, second = (generator.integers(0, 256, (7, 5, 3), dtype=np.uint8) for _ in range(2))
    mse = sum((int(a) - int(b)) ** 2 for a, b in zip(first.ravel(), second.ravel(), strict=True)) / 105
    expected = 10 * math.log10(255**2 / mse)
    assert psnr(Image.fromarray(first), Image.fromarray(second)) == pytest.approx(expected, abs=1e-9)


def test_psnr_of_gray_pictures_is_that_of_their_single_channel() -> None:
    first, second = Image.new("L", (4, 4), 100), Image.new("L", (4, 4), 110)
    assert psnr(first, second) == pytest.approx(20 * math.log10(255 / 10))
    assert psnr(first, first) == math.inf


def test_files_find_their_original_and_their_decoded_picture_by_name(job: Job) -> None:
    (job.files / ".latentpress").mkdir()
    (job.files / ".latentpress" / "claim.lpc").touch()
    camera, face = find_pictures(*job)
    assert camera == (
        "camera.jpg",
        job.originals / "camera.jpg",
        job.files / "camera.jpg.lpc",
        camera.decoded,
    )
    assert camera.decoded == job.decoded / "camera.jpg.png"
    assert (face.name, face.decoded) == ("sub/face.png", job.decoded / "sub" / "face.png")


def test_our_numbers_are_file_length_and_psnr_of_the_decoded_png(job: Job) -> None:
    _, face = compare(find_pictures(*job), FAST)
    size = (job.files / "sub/face.png.lpc").stat().st_size
    assert face.image_size == (64, 80)
    assert face.ours.num_bytes == size
    assert face.bpp == pytest.approx(8 * size / (64 * 80))
    original, decoded = Image.open(job.originals / "sub/face.png"), Image.open(job.decoded / "sub/face.png")
    assert face.ours.psnr == psnr(original, decoded)


def test_a_codec_like_ours_reaches_our_psnr_within_our_bytes(job: Job) -> None:
    for row in compare(find_pictures(*job), FAST):
        webp, jpeg = row.classical["WebP"], row.classical["JPEG"]
        assert webp is not None
        assert jpeg is not None
        assert webp.psnr == pytest.approx(row.ours.psnr, abs=0.4)
        assert webp.fits
        assert 0.95 * row.ours.num_bytes <= webp.num_bytes <= row.ours.num_bytes
        assert jpeg.num_bytes <= row.ours.num_bytes or not jpeg.fits


def test_alpha_and_metadata_cost_the_classical_side_nothing(job: Job) -> None:
    opaque = photograph("astronaut.png", (190, 60, 270, 124)).convert("RGB")
    path = job.originals / "sub/face.png"
    before = compare(find_pictures(*job), FAST)[1]
    opacity = Image.effect_noise(opaque.size, 90)
    opaque.putalpha(opacity)
    opaque.save(path, icc_profile=bytes(3000), exif=b"Exif\x00\x00" + bytes(3000))
    after = compare(find_pictures(*job), FAST)[1]
    assert [v and v[:3] for v in before.classical.values()] == [v and v[:3] for v in after.classical.values()]
    assert after.ours[:3] == before.ours[:3]


def test_the_original_is_turned_upright_as_our_codec_does(tmp_path: Path) -> None:
    job = Job(tmp_path / "in", tmp_path / "files", tmp_path / "png")
    image = photograph("astronaut.png", (190, 60, 270, 124)).convert("RGB")
    job.add("turned.png", image)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(job.originals / "turned.png", exif=exif)
    (row,) = compare(find_pictures(*job), [])
    assert row.image_size == (64, 80)
    assert row.ours.psnr > 25


def test_the_table_holds_every_picture_codec_mean_and_setting(shown: Shown) -> None:
    lines = shown.text.splitlines()
    for row in shown.outcome.rows:
        (line,) = (line for line in lines if line.split()[:1] == [row.name])
        cells = line.replace(",", "").split()
        assert cells[1:4] == [str(row.ours.num_bytes), f"{row.bpp:.3f}", f"{row.ours.psnr:.2f}"]
        assert [cell.rstrip("*") for cell in cells[4:]] == [f"{v.psnr:.2f}" for v in row.classical.values() if v]
        assert [not cell.endswith("*") for cell in cells[4:]] == [v.fits for v in row.classical.values() if v]
    (mean,) = (line.replace(",", "").split() for line in lines if line.split()[:1] == ["mean"])
    rows = shown.outcome.rows
    assert mean[1] == f"{sum(row.ours.num_bytes for row in rows) / 3:.0f}"
    assert mean[3] == f"{sum(row.ours.psnr for row in rows) / 3:.2f}"
    (header,) = (line for line in lines if "bpp" in line)
    for name, codec in INSTALLED.items():
        assert name in header
        assert f"{name}: {codec.settings[:30]}" in shown.text
    assert "VVC is left out: not installed" in shown.text


def test_the_gain_is_our_mean_minus_the_codecs(shown: Shown) -> None:
    (line,) = (line for line in shown.text.splitlines() if "ours above it" in line)
    gains = [float(cell) for cell in line.split()[3:]]
    for name, gain in zip(INSTALLED, gains, strict=True):
        differences = [row.ours.psnr - v.psnr for row in shown.outcome.rows if (v := row.classical[name])]
        assert gain == pytest.approx(sum(differences) / 3, abs=0.0051)


def test_the_run_ends_with_the_path_of_a_picture_that_holds_every_crop(shown: Shown) -> None:
    path = shown.outcome.picture
    assert path.name == "comparison.png"
    assert shown.text.rstrip().endswith(str(path))
    assert [entry.name for entry in path.parent.iterdir()] == ["comparison.png"]
    with Image.open(path) as image:
        drawn = np.asarray(image.convert("RGB"))
    crops = 0
    for row in shown.outcome.rows:
        box = clearest_window(Image.open(row.original), (48, 40))[1]
        versions = [row.ours, *(version for version in row.classical.values() if version)]
        pictures = [Image.open(row.original), *(version.open() for version in versions)]
        crops += sum(_holds(drawn, np.asarray(picture.convert("RGB").crop(box))) for picture in pictures)
    assert crops == 2 * (2 + len(INSTALLED))


def _holds(drawn: np.ndarray, crop: np.ndarray) -> bool:
    """Whether `crop`, each pixel 2 x 2, is in `drawn`."""
    large = crop.repeat(2, axis=0).repeat(2, axis=1)
    height, width = large.shape[:2]
    candidates = np.argwhere((drawn == large[0, 0]).all(-1))
    return any(np.array_equal(drawn[y : y + height, x : x + width], large) for y, x in candidates)


def test_panels_stand_in_columns_on_paper_that_nothing_crosses(job: Job) -> None:
    rows = compare(find_pictures(*job), FAST)
    one, two = (np.asarray(draw_comparison(rows, (64, 64), count)) for count in (1, 2))
    assert two.shape[1] == one.shape[1]
    assert two.shape[0] > one.shape[0] + 128
    for drawn in (one, two):
        frame = np.concatenate([drawn[:40].reshape(-1, 3), drawn[-40:].reshape(-1, 3), drawn[:, -40:].reshape(-1, 3)])
        assert (frame == frame[0]).all()
        assert frame[0].min() > 240


def test_the_clearest_window_frames_a_shape_and_not_the_noise_beside_it() -> None:
    pixels = np.random.default_rng(0).integers(100, 156, (60, 120), dtype=np.uint8)
    pixels[:, 60:] = 128
    pixels[20:40, 85:100] = 30
    score, (left, top, right, bottom) = clearest_window(Image.fromarray(pixels), (30, 40))
    assert (right - left, bottom - top) == (40, 30)
    assert left <= 85 < 100 <= right
    assert top <= 20 < 40 <= bottom
    noise_score, _ = clearest_window(Image.fromarray(pixels[:, :60]), (30, 40))
    assert score > 3 * noise_score


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 3), (12, 9)])
def test_pictures_smaller_than_the_crop_are_shown_whole(size: tuple[int, int]) -> None:
    score, window = clearest_window(Image.new("RGB", size, "red"), (48, 40))
    assert score == 0
    assert window == (0, 0, min(size[0], 40), min(size[1], 48))


def test_files_smaller_than_a_codec_can_make_are_marked_with_their_true_size(tmp_path: Path) -> None:
    job = Job(tmp_path / "in", tmp_path / "files", tmp_path / "png")
    job.add("dot.png", Image.new("RGB", (1, 1), "red"))
    rows = compare(find_pictures(*job), [INSTALLED["JPEG"]])
    jpeg = rows[0].classical["JPEG"]
    assert jpeg is not None
    assert not jpeg.fits
    assert jpeg.num_bytes > rows[0].ours.num_bytes
    text = _printed(rows, [INSTALLED["JPEG"]])
    assert f"{jpeg.psnr:.2f}*" in text
    assert "* its lowest quality, and still more bytes than ours" in text


def test_a_codec_that_cannot_code_a_picture_leaves_a_dash_and_no_crop(job: Job) -> None:
    def refuse(image: Image.Image, quality: int) -> bytes:
        raise ValueError("too wide")

    codecs = [*FAST, ClassicalCodec("Narrow", "", range(3), refuse, lambda data: Image.new("L", (1, 1)))]
    rows = compare(find_pictures(*job), codecs)
    assert [row.classical["Narrow"] for row in rows] == [None, None]
    assert "- cannot code this picture" in _printed(rows, codecs)
    assert (
        draw_comparison(rows, (32, 32), 2).size == draw_comparison(compare(find_pictures(*job), FAST), (32, 32), 2).size
    )


def test_perfect_copies_on_both_sides_are_no_gain(tmp_path: Path) -> None:
    job = Job(tmp_path / "in", tmp_path / "files", tmp_path / "png")
    flat = Image.new("L", (16, 16), 128)
    job.add("flat.png", flat)
    flat.save(job.decoded / "flat.png")
    (job.files / "flat.png.lpc").write_bytes(bytes(5000))
    lines = _printed(compare(find_pictures(*job), FAST), FAST).splitlines()
    (gain,) = (line for line in lines if "ours above it" in line)
    assert gain.split()[3:] == ["+0.00", "+0.00"]


def _printed(rows, codecs) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(comparison_table(rows, codecs))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_name_with_markup_is_printed_as_it_is(tmp_path: Path) -> None:
    job = Job(tmp_path / "in", tmp_path / "files", tmp_path / "png")
    job.add("[red]a[/b].png", Image.new("RGB", (8, 8)))
    assert "[red]a[/b].png" in _printed(compare(find_pictures(*job), FAST), FAST)


def test_a_folder_without_files_is_refused_in_one_line(job: Job) -> None:
    with pytest.raises(CodingError, match=r"in: holds no \.lpc file to compare; compress"):
        Comparison(FAST).run(job.originals, job.originals, job.decoded, job.files)


@pytest.mark.parametrize("part", ["originals", "decoded"])
def test_a_missing_counterpart_is_named(job: Job, part: str) -> None:
    missing = getattr(job, part) / "sub/face.png"
    missing.unlink()
    with pytest.raises(CodingError) as error:
        compare(find_pictures(*job), [])
    assert str(error.value) == f"{missing}: no such file; give the folder that holds it"


def test_a_damaged_picture_is_named(job: Job) -> None:
    (job.decoded / "sub/face.png").write_bytes(b"no picture")
    with pytest.raises(CodingError, match=r"png/sub/face\.png: cannot be read \(.*\); make it again"):
        compare(find_pictures(*job), [])


def test_a_decoded_picture_of_another_size_is_refused(job: Job) -> None:
    Image.new("RGB", (3, 2)).save(job.decoded / "sub/face.png")
    with pytest.raises(CodingError, match=r"face\.png: is 3 x 2 pixels, its original 80 x 64; decode"):
        compare(find_pictures(*job), [])


def test_an_output_that_cannot_be_written_is_named(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    console = Console(file=io.StringIO())
    with pytest.raises(CodingError, match=r"file/comparison\.png: cannot be written: "):
        Comparison(FAST, (8, 8), console=console).run(*job, tmp_path / "file")


@pytest.mark.parametrize(("crop_size", "num_pictures"), [((0, 5), 1), ((5, 5), 0)])
def test_sizes_below_one_are_refused(crop_size: tuple[int, int], num_pictures: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        Comparison(FAST, crop_size, num_pictures)
