"use strict";
// The image on the page of a demo: what it shows, how digits lie on it, and what networks make of it (see network.js).
//
// Poses are taken apart into parts, {rotation, scale, aspect, shear, x, y}: degrees clockwise, factors, a tangent, and
// pixels of the image from its middle. Matrices in pixels are [a, b, x, c, d, y]: two rows.

const ARRAYS = { uint8: Uint8Array, int32: Int32Array, float32: Float32Array };
const DATA = JSON.parse(document.getElementById("data").textContent, (key, value) => {
  const kind = value && Object.keys(ARRAYS).find((name) => typeof value[name] === "string");
  return kind ? new ARRAYS[kind](Uint8Array.from(atob(value[kind]), (letter) => letter.charCodeAt(0)).buffer) : value;
});
const { models: MODELS, dataset: DATASET, digits: DIGITS, names: NAMES, outlines: OUTLINES } = DATA;
const [HEIGHT, WIDTH] = DATASET.canvas, [TINTS, FRAME_HEIGHT, FRAME_WIDTH] = DATA.frame; // TINTS: channels of one digit
const COLOURS = ["#1f77b4", "#e8730c", "#2a8f2a", "#9467bd", "#8c564b", "#c2549d", "#6b7280", "#8a8a12"];
const MARGIN = 0.14; // of the image's side: the border around it, for windows that leave it
const NOTHING = { rotation: 0, scale: 1, aspect: 1, shear: 0, x: 0, y: 0 };
const DEGREE = Math.PI / 180;
const PEN = 1.25; // the radius of the pen's stroke, in pixels of the image

const at = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const within180 = (degrees) => ((((degrees + 180) % 360) + 360) % 360) - 180;
const percent = (share) => `${Math.round(100 * share)} %`;
const fixed = (value, digits) => value.toFixed(digits).replace(/^-(?=[0.]+$)/, "").replace("-", "−");

function made(name, attributes = {}, ...children) {
  const svg = ["path", "line", "circle", "text"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// --- poses -----------------------------------------------------------------------------------------------------------

function matrixFrom({ rotation, scale, aspect, shear, x, y }) {
  const cos = Math.cos(rotation * DEGREE), sin = Math.sin(rotation * DEGREE), root = Math.sqrt(aspect);
  const wide = scale * root, tall = scale / root;
  return [wide * cos, wide * cos * shear - tall * sin, x, wide * sin, wide * sin * shear + tall * cos, y];
}

function partsOf([a, b, x, c, d, y]) {
  const wide = Math.hypot(a, c), tall = (a * d - b * c) / wide;
  const scale = Math.sqrt(Math.abs(wide * tall)), aspect = Math.abs(wide / tall);
  return { rotation: Math.atan2(c, a) / DEGREE, scale, aspect, shear: (a * b + c * d) / (wide * wide), x, y };
}

const moved = ([a, b, x, c, d, y], u, v) => [a * u + b * v + x, c * u + d * v + y];

function after([a, b, x, c, d, y], [e, f, u, g, h, v]) {
  return [a * e + b * g, a * f + b * h, a * u + b * v + x, c * e + d * g, c * f + d * h, c * u + d * v + y];
}

function inverse([a, b, x, c, d, y]) {
  const area = a * d - b * c;
  return [d / area, -b / area, (b * y - d * x) / area, -c / area, a / area, (c * x - a * y) / area];
}

/** The affine map nearest to one of normalised coordinates, at 5 x 5 points, in pixels of the image. */
function nearestAffine(map) {
  const line = [0, 1, 2, 3, 4].map((index) => pixelCentre(index, 5)), found = [0, 0, 0, 0, 0, 0];
  const squares = 5 * line.reduce((sum, value) => sum + value * value, 0);
  for (const y of line) {
    for (const x of line) {
      map(x, y).forEach((value, axis) => {
        found[3 * axis] += (value * x) / squares;
        found[3 * axis + 1] += (value * y) / squares;
        found[3 * axis + 2] += value / 25;
      });
    }
  }
  const [a, b, x, c, d, y] = found;
  return [a, (b * WIDTH) / HEIGHT, (x * WIDTH) / 2, (c * HEIGHT) / WIDTH, d, (y * HEIGHT) / 2];
}

/** The theta of a family that is nearest to a window, which is a matrix in pixels; `theta` is what it was before. */
function thetaFrom(warp, matrix) {
  const { family } = warp.layer, theta = Array.from(warp.theta);
  if (family.control_points) { // all of them move as the window does
    const change = after(matrix, inverse(nearestAffine(warp.map)));
    for (let point = 0; point < theta.length; point += 2) {
      const [x, y] = moved(change, (theta[point] * WIDTH) / 2, (theta[point + 1] * HEIGHT) / 2);
      [theta[point], theta[point + 1]] = [(2 * x) / WIDTH, (2 * y) / HEIGHT];
    }
    return theta;
  }
  const [a, b, x, c, d, y] = matrix, along = family.normalised ? WIDTH : HEIGHT, stretch = along / HEIGHT;
  const entries = [a, b / stretch, (2 * x) / along, c * stretch, d, (2 * y) / HEIGHT];
  return family.numbers.map((name, index) => {
    if (name === "angle") return Math.atan2(c, a);
    const place = family.entries.indexOf(name);
    return place < 6 ? entries[place] : theta[index];
  });
}

// --- what is on the canvas ---------------------------------------------------------------------------------------------

/** The digits of an image: their pixels, their class (none where it is not known) and their pose. */
const figures = Array.from({ length: DATASET.addition ? 2 : 1 }, () => ({ pixels: null, label: null, pose: { ...NOTHING }, strokes: null }));
const state = { active: 0, patches: [], hands: false, grab: "digit", thetas: {}, chosen: 0, drawing: false, throws: 0 };
const figure = () => figures[state.active];

const WARPED = MODELS.flatMap((model, index) => transformersOf(model.front).map((layer, warp) => ({ index, warp, layer })));

function transformersOf(layers) {
  return layers.flatMap((layer) => layer.transformers ?? (layer.kind === "transformer" ? [layer] : []));
}

/** The map from the image to a digit's frame, both normalised. */
function frameMap(pose) {
  const back = inverse(matrixFrom(pose));
  return (x, y) => {
    const [u, v] = moved(back, (x * WIDTH) / 2, (y * HEIGHT) / 2);
    return [(2 * u) / FRAME_WIDTH, (2 * v) / FRAME_HEIGHT];
  };
}

/** The image as the networks read it. */
function imageNow() {
  const image = joined(figures.map(({ pixels, pose }) => {
    const frame = newMap(TINTS, FRAME_HEIGHT, FRAME_WIDTH, pixels);
    return sampled(frame, gridOf(frameMap(pose), HEIGHT, WIDTH), HEIGHT, WIDTH);
  }));
  const { size, blend } = DATASET.clutter ?? { size: 6, blend: "max" };
  for (const patch of state.patches.slice(0, Number(at("clutter").value))) {
    for (let cell = 0; cell < TINTS * size * size; cell++) {
      const column = cell % size, row = Math.floor(cell / size) % size, tint = Math.floor(cell / (size * size));
      const value = patch.pixels[(tint * FRAME_HEIGHT + patch.top + row) * FRAME_WIDTH + patch.left + column] / 255;
      const place = (tint * HEIGHT + patch.y + row) * WIDTH + patch.x + column, before = image.data[place];
      image.data[place] = blend === "add" ? Math.min(before + value, 1) : Math.max(before, value);
    }
  }
  return image;
}

/** The true pose of the active digit, from its frame to the image, both normalised: all nine entries. */
function truePose() {
  const [a, b, x, c, d, y] = matrixFrom(figure().pose), [w, h] = [FRAME_WIDTH, FRAME_HEIGHT];
  return [(a * w) / WIDTH, (b * h) / WIDTH, (2 * x) / WIDTH, (c * w) / HEIGHT, (d * h) / HEIGHT, (2 * y) / HEIGHT, 0, 0, 1];
}

function throwClutter() {
  state.throws += 1;
  const size = DATASET.clutter?.size ?? 6, below = (count) => Math.floor(Math.random() * count);
  const others = DIGITS.filter((digit) => digit.label !== figure().label);
  state.patches = Array.from({ length: 16 }, () => ({
    pixels: others[below(others.length)].image,
    top: below(FRAME_HEIGHT - size + 1), left: below(FRAME_WIDTH - size + 1),
    y: below(HEIGHT - size + 1), x: below(WIDTH - size + 1),
  }));
}

function choose(digit) {
  Object.assign(figure(), { pixels: Float32Array.from(digit.image, (value) => value / 255), label: digit.label, number: DIGITS.indexOf(digit), strokes: null });
}

/** The sum of what the digits show; null where one of them is not known. */
const label = () => figures.reduce((sum, each) => (each.label === null || sum === null ? null : sum + each.label), 0);

// --- writing a digit ------------------------------------------------------------------------------------------------------

/** Add a point (in pixels of the image) to the active digit's strokes, and make it what is written, in a frame around. */
function write(point, begins) {
  const one = figure(), matrix = matrixFrom(one.pose);
  const strokes = (one.strokes ?? []).map((stroke) => stroke.map(([x, y]) => moved(matrix, x, y)));
  if (begins) strokes.push([]);
  strokes[strokes.length - 1].push(point);
  const points = strokes.flat(), xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const fills = (20 / 28) * Math.min(FRAME_WIDTH, FRAME_HEIGHT); // as in MNIST
  const scale = clamp((Math.max(right - left, bottom - top) + 2 * PEN) / fills, 0.5, 3);
  one.pose = { ...NOTHING, scale, x: (left + right) / 2, y: (top + bottom) / 2 };
  const back = inverse(matrixFrom(one.pose));
  one.strokes = strokes.map((stroke) => stroke.map(([x, y]) => moved(back, x, y)));
  one.pixels = inked(one.strokes, PEN / scale);
}

/** Strokes in pixels of the frame, from its middle, as its pixels. */
function inked(strokes, radius) {
  const plane = FRAME_HEIGHT * FRAME_WIDTH, pixels = new Float32Array(TINTS * plane);
  for (const stroke of strokes) {
    stroke.forEach(([endX, endY], index) => {
      const [x, y] = stroke[Math.max(index - 1, 0)], [alongX, alongY] = [endX - x, endY - y];
      const squared = alongX * alongX + alongY * alongY;
      for (let pixel = 0; pixel < plane; pixel++) {
        const fromX = (pixel % FRAME_WIDTH) - (FRAME_WIDTH - 1) / 2 - x;
        const fromY = Math.floor(pixel / FRAME_WIDTH) - (FRAME_HEIGHT - 1) / 2 - y;
        const share = squared ? clamp((fromX * alongX + fromY * alongY) / squared, 0, 1) : 0;
        const away = Math.hypot(fromX - share * alongX, fromY - share * alongY);
        pixels[pixel] = Math.max(pixels[pixel], clamp(radius + 0.5 - away, 0, 1));
      }
    });
  }
  for (let tint = 1; tint < TINTS; tint++) pixels.copyWithin(tint * plane, 0, plane);
  return pixels;
}

// --- answers --------------------------------------------------------------------------------------------------------------

let now = null; // the image and what every model makes of it, as they are shown

function compute() {
  const image = imageNow(), pose = truePose();
  const answers = MODELS.map((model, index) => decided(model, image, pose, state.hands ? state.thetas[index] : {}));
  return { image, pose, answers };
}

/** The warp that the page speaks of, the model's index, and whether it reads the image itself. */
function chosenWarp() {
  const { index, warp } = WARPED[state.chosen];
  const found = now.answers[index].warps[warp];
  return { ...found, index, number: warp, direct: found.input.data === now.image.data };
}

/** From a transformer's output to the image, through those before it in a row; normalised. */
function windowMap(warps, warp) {
  const before = warps.find((other) => other.output === warp.input);
  if (!before) return warp.map;
  const map = windowMap(warps, before);
  return (x, y) => map(...warp.map(x, y));
}

/** Set the chosen window by hand, as a matrix in pixels. */
function setWindow(matrix) {
  const warp = chosenWarp();
  if (Math.abs(matrix[0] * matrix[4] - matrix[1] * matrix[3]) < 1e-4) return;
  setTheta(thetaFrom(warp, matrix));
}

function setTheta(theta) {
  const { index, number } = chosenWarp();
  state.thetas[index] = { ...state.thetas[index], [number]: theta };
  changed();
}
