"""A short recording of the demo in a real browser, for the README: `python scripts/demo_gif.py RUN`.

RUN is a run's folder, as for `stn-train demo`. Chromium and its driver have to be on the path, and selenium installed.
"""

import base64
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import typer
from PIL import Image
from selenium import webdriver

SIZE = 1200, 1000
COLOURS = 160
WIDTH = 760
"""Of the recording, in pixels."""
FRAME, LAST = 80, 1500
"""Milliseconds that a picture is shown, and the last of a scene."""

# What is done, as expressions of the page's: how often each in a row.
SCENES = (
    (14, "adjust({ x: -0.9, y: 0.55 })"),
    (12, "adjust({ scale: 0.955 })"),
    (12, "adjust({ x: 1.6, y: -1.1 })"),
    (12, "adjust({ scale: 1.045, x: -1.3, y: 0.6 })"),
    (22, "adjust({ turn: 6 })"),
    (22, "adjust({ turn: -6.8 })"),
    (1, "at('again').click()"),
    (12, "adjust({ x: 0.5, y: 0.5 })"),
)


def pictures(driver: webdriver.Chrome) -> Iterator[tuple[Image.Image, int]]:
    """The page while a digit is dragged, scaled and turned, each picture with its duration."""
    area = driver.execute_script(
        "const box = document.querySelector('.stage').getBoundingClientRect();"
        "const top = document.querySelector('.mine').getBoundingClientRect();"
        "return { x: top.x - 8, y: top.y - 4, width: box.right - top.x + 16, height: box.height + 12, scale: 1 }"
    )
    two_frames = "const end = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(end));"
    for count, action in SCENES:
        for step in range(count):
            driver.execute_script(action)
            driver.execute_async_script(two_frames)
            shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": area})
            picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
            size = WIDTH, round(WIDTH * picture.height / picture.width)
            yield picture.resize(size, Image.Resampling.LANCZOS), LAST if step == count - 1 else FRAME


def main(run: Path, output: Path = Path("docs/demo.gif")) -> None:
    """Write the recording."""
    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size={},{}".format(*SIZE)):
        options.add_argument(option)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with tempfile.TemporaryDirectory() as folder, webdriver.Chrome(options, service) as driver:
        page = Path(folder, "demo.html")
        command = [sys.executable, "-m", "stn_train", "demo", str(run), "--no-open", "-o", str(page)]
        subprocess.run(command, check=True)
        driver.get(page.as_uri())
        shown, durations = zip(*pictures(driver), strict=True)
    few = shown[:: len(shown) // 8]  # of which the colours are taken
    sheet = Image.new("RGB", (few[0].width, few[0].height * len(few)))
    for number, picture in enumerate(few):
        sheet.paste(picture, (0, number * picture.height))
    palette = sheet.quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
    first, *others = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in shown)
    first.save(output, save_all=True, append_images=others, duration=list(durations), loop=0, optimize=True)
    print(f"{output}: {len(shown)} pictures, {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    typer.run(main)
