"use strict";
// What one sees on the page of a demo: the image with its windows, the answers, theta; all of what `now` holds.

const WHITE = [[1, 1, 1]], TWO = [[1, 0.35, 0.3], [0.2, 0.8, 1]], COLOUR = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
const CHANNELS = DATASET.addition ? TWO : TINTS === 3 ? COLOUR : WHITE; // a channel's red, green and blue
const HANDLE = 22; // how near to a handle a pointer has to be, in pixels of the screen
const colourOf = (index) => COLOURS[index % COLOURS.length];

// --- drawing maps and windows ----------------------------------------------------------------------------------------

/** A map, or some of an array's bytes, as a small canvas of its own pixels. */
function picture({ channels, height, width, data }, brightest = 1) {
  const canvas = made("canvas", { width, height }), image = new ImageData(width, height), plane = height * width;
  for (let pixel = 0; pixel < plane; pixel++) {
    for (let channel = 0; channel < channels; channel++) {
      const colour = (channels > 1 ? CHANNELS : WHITE)[channel % CHANNELS.length];
      for (let part = 0; part < 3; part++) {
        image.data[4 * pixel + part] += (data[channel * plane + pixel] / brightest) * 255 * colour[part];
      }
    }
    image.data[4 * pixel + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** A canvas's context, as many pixels as the screen shows, in units of the screen; and its size there. */
function brush(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas, ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio)) [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = false;
  return { context, width, height };
}

/** From normalised coordinates of an image with a margin to a canvas of this width. */
function placed(width, height, margin) {
  const inner = 1 / (1 + 2 * margin);
  return (x, y) => [(width * (1 + x * inner)) / 2, (height * (1 + y * inner)) / 2];
}

function drawPath(context, points, closed) {
  context.beginPath();
  points.forEach(([x, y]) => context.lineTo(x, y));
  if (closed) context.closePath();
  context.stroke();
}

const EDGE = [[-1, -1, 1, -1], [1, -1, 1, 1], [1, 1, -1, 1], [-1, 1, -1, -1]].flatMap(([x, y, u, v]) =>
  Array.from({ length: 16 }, (_, step) => [x + ((u - x) * step) / 16, y + ((v - y) * step) / 16]));

/** The sampling grid of a window: every few of the output's pixels a line, and its edge with a dot at one corner. */
function drawGrid(context, place, map, colour) {
  const line = Array.from({ length: 17 }, (_, step) => step / 8 - 1);
  context.strokeStyle = colour;
  context.lineWidth = 0.8;
  context.globalAlpha = 0.55;
  for (const across of line.filter((_, step) => step % 2 === 0)) {
    drawPath(context, line.map((along) => place(...map(across, along))));
    drawPath(context, line.map((along) => place(...map(along, across))));
  }
  context.globalAlpha = 1;
  context.lineWidth = 2.5;
  drawPath(context, EDGE.map(([x, y]) => place(...map(x, y))), true);
  dot(context, place(...map(-1, -1)), 5, colour);
}

function dot(context, [x, y], radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

// --- the image, and what can be held on it ---------------------------------------------------------------------------

const canvas = at("image");
const imagePlace = () => placed(canvas.clientWidth, canvas.clientHeight, MARGIN);

/** What the pointer moves: the digit, or the window that is set by hand. Its pose in pixels, and half its frame's side. */
function held() {
  const byHand = state.hands && state.grab === "window" && WARPED.length && chosenWarp().direct;
  if (!byHand) return { matrix: matrixFrom(figure().pose), halves: [FRAME_WIDTH / 2, FRAME_HEIGHT / 2], set: setDigit };
  return { matrix: nearestAffine(chosenWarp().map), halves: [WIDTH / 2, HEIGHT / 2], set: setWindow };
}

function setDigit(matrix) {
  const parts = partsOf(matrix);
  const scale = clamp(parts.scale, 0.2, 3), shear = clamp(parts.shear, -1.2, 1.2);
  const x = clamp(parts.x, -WIDTH / 2, WIDTH / 2), y = clamp(parts.y, -HEIGHT / 2, HEIGHT / 2);
  figure().pose = { rotation: parts.rotation, aspect: 1, scale, shear, x, y };
  changed();
}

/** The held thing turned (degrees), scaled (factor), sheared (tangent) and moved (pixels). */
function adjust({ turn = 0, scale = 1, shear = 0, x = 0, y = 0 }) {
  const { matrix, set } = held(), parts = partsOf(matrix);
  set(matrixFrom({ ...parts, rotation: parts.rotation + turn, scale: parts.scale * scale, shear: parts.shear + shear, x: parts.x + x, y: parts.y + y }));
}

/** On the screen: the corners of what is held, its middle, and the handles that turn and scale it. */
function handles() {
  const { matrix, halves: [wide, tall] } = held(), place = imagePlace();
  const onScreen = (u, v) => {
    const [x, y] = moved(matrix, u * wide, v * tall);
    return place((2 * x) / WIDTH, (2 * y) / HEIGHT);
  };
  const middle = onScreen(0, 0), top = onScreen(0, -1), length = Math.max(Math.hypot(top[0] - middle[0], top[1] - middle[1]), 1);
  const stalk = 1 + 26 / length;
  const turn = [middle[0] + (top[0] - middle[0]) * stalk, middle[1] + (top[1] - middle[1]) * stalk];
  const inside = ([x, y]) => [clamp(x, 10, canvas.clientWidth - 10), clamp(y, 10, canvas.clientHeight - 10)];
  return { corners: [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([u, v]) => onScreen(u, v)), middle, top, turn: inside(turn), scale: inside(onScreen(1, 1)) };
}

function drawImage() {
  const { context, width, height } = brush(canvas), place = imagePlace();
  const [left, top] = place(-1, -1), [right, bottom] = place(1, 1);
  context.drawImage(picture(now.image), left, top, right - left, bottom - top);
  WARPED.forEach(({ index, warp: number }, which) => {
    const { warps } = now.answers[index];
    const chosen = which === state.chosen, sibling = index === WARPED[state.chosen].index;
    if (sibling) drawGrid(context, place, windowMap(warps, warps[number]), OUTLINES[number % OUTLINES.length]);
    else if (!chosen) {
      context.strokeStyle = colourOf(index);
      context.lineWidth = 1;
      drawPath(context, EDGE.map(([x, y]) => place(...windowMap(warps, warps[number])(x, y))), true);
    }
  });
  if (!state.drawing) drawHandles(context);
}

function drawHandles(context) {
  const { corners, top, turn, scale } = handles();
  context.strokeStyle = context.fillStyle = "#6cc4ff";
  context.lineWidth = 1.2;
  context.setLineDash([4, 4]);
  drawPath(context, corners, true);
  context.setLineDash([]);
  drawPath(context, [top, turn]);
  for (const draw of [() => context.arc(...turn, 7, 0, 2 * Math.PI), () => context.rect(scale[0] - 6, scale[1] - 6, 12, 12)]) {
    context.beginPath();
    draw();
    context.fillStyle = "#0b2a40";
    context.lineWidth = 2.5;
    context.fill();
    context.stroke();
  }
}

// --- what is beside it -------------------------------------------------------------------------------------------------

function drawOutputs() {
  const model = WARPED[state.chosen]?.index;
  [...at("outputs").children].forEach((box) => {
    box.hidden = Number(box.dataset.index) !== model;
    if (box.hidden) return;
    const { output } = now.answers[model].warps[box.dataset.warp], { context, width, height } = brush(box.firstChild);
    context.drawImage(picture(output), 0, 0, width, height);
    dot(context, [7, 7], 5, OUTLINES[box.dataset.warp % OUTLINES.length]);
  });
}

/** The likeliest class of each model, how likely it is, and whether it is right (null: not known). */
function verdicts() {
  return now.answers.map(({ probabilities }) => {
    const share = Math.max(...probabilities), read = probabilities.indexOf(share);
    return { read, share, right: label() === null ? null : read === label() };
  });
}

function showAnswers() {
  verdicts().forEach(({ read, share, right }, index) => {
    const card = at("answers").children[index], { probabilities } = now.answers[index];
    card.classList.toggle("wrong", right === false);
    card.querySelector("b").textContent = NAMES[read];
    card.querySelector("h3 span span").textContent = `${percent(share)}${right === null ? "" : right ? " · right" : " · wrong"}`;
    card.querySelectorAll("tr").forEach((row, digit) => {
      row.classList.toggle("true", digit === label());
      row.querySelector("i").style.transform = `scaleX(${probabilities[digit]})`;
      row.lastChild.textContent = percent(probabilities[digit]);
    });
  });
}

const PARTS = {
  rotation: { name: "rotation", low: -180, high: 180, step: 1, said: (value) => `${fixed(value, 0)}°` },
  scale: { name: "scale", low: 0.3, high: 2, step: 0.01, said: (value) => `× ${fixed(value, 2)}` },
  shear: { name: "shear", low: -1.2, high: 1.2, step: 0.01, said: (value) => `${fixed(Math.atan(value) / DEGREE, 0)}°` },
  x: { name: "x, right", low: -WIDTH / 2, high: WIDTH / 2, step: 0.1, said: (value) => `${fixed(value, 1)} px` },
  y: { name: "y, down", low: -HEIGHT / 2, high: HEIGHT / 2, step: 0.1, said: (value) => `${fixed(value, 1)} px` },
};

/** How a digit lies in the chosen window, against how digits usually lie there; null where that is not known. */
function left(warp, map) {
  const usual = MODELS[warp.index].usual[warp.number];
  if (!usual) return null;
  const [rotation, scale, , shear, x, y] = usual;
  const toFrame = [FRAME_WIDTH / WIDTH, 0, 0, 0, FRAME_HEIGHT / HEIGHT, 0]; // of an output as large as a digit's frame
  const seen = partsOf(after(toFrame, after(inverse(nearestAffine(map)), matrixFrom(figure().pose))));
  const [turned, scaled] = [within180(seen.rotation - rotation), seen.scale / scale];
  return { rotation: turned, scale: scaled, shear: seen.shear - shear, x: (seen.x - x) / scale, y: (seen.y - y) / scale };
}

/** Theta as its family writes it: the rows of a matrix, or a list; of many numbers only how many. */
function thetaSaid({ layer: { family }, theta }) {
  if (theta.length > 9) return `theta\n${theta.length} numbers: where\n${theta.length / 2} points go`;
  const numbers = Array.from(theta, (value) => fixed(value, 2).padStart(5));
  const rows = family.normalised ? [numbers.slice(0, 3), numbers.slice(3, 6), numbers.slice(6)] : [numbers.slice(0, 2), numbers.slice(2)];
  return ["theta", ...rows.map((row) => row.join(" "))].join("\n");
}

function showTheta() {
  if (!WARPED.length) return;
  const warp = chosenWarp(), map = windowMap(now.answers[warp.index].warps, warp);
  const parts = partsOf(nearestAffine(map)), rest = left(warp, map);
  for (const [key, { said }] of Object.entries(PARTS)) {
    const [digit, range, value, leftover] = ["digit", "window", "said", "left"].map((part) => at(`${part}-${key}`));
    digit.textContent = said(figure().pose[key]);
    range.disabled = !(state.hands && warp.direct);
    if (document.activeElement !== range || range.disabled) range.value = parts[key];
    value.textContent = said(parts[key]);
    leftover.textContent = rest ? said(rest[key]) : "–";
  }
  at("numbers").textContent = thetaSaid(warp);
  [...at("theta").children].forEach((row, index) => {
    const range = row.querySelector("input");
    range.disabled = !state.hands;
    if (document.activeElement !== range || range.disabled) range.value = warp.theta[index];
    row.lastChild.textContent = fixed(warp.theta[index], 3);
  });
}

/** Sliders for the numbers of the chosen transformer's theta. */
function layTheta() {
  if (!WARPED.length) return;
  const { family } = WARPED[state.chosen].layer;
  const names = family.numbers ?? Array.from(family.identity, (_, index) => `${"xy"[index % 2]}${(index >> 1) + 1}`);
  at("theta").replaceChildren(...names.map((name, index) => {
    const most = name === "angle" ? 3.15 : 1.5;
    const range = made("input", { type: "range", id: `theta-${index}`, min: -most, max: most, step: 0.005 });
    range.addEventListener("input", () => {
      const theta = Array.from(chosenWarp().theta);
      theta[index] = Number(range.value);
      setTheta(theta);
    });
    return made("div", { class: "slider" }, made("label", { for: range.id }, name), range, made("output", { for: range.id }));
  }));
}

function showPose() {
  for (const [key, { said }] of Object.entries(PARTS)) {
    const value = figure().pose[key], range = at(`pose-${key}`);
    range.value = value;
    range.setAttribute("aria-valuetext", said(value));
    range.parentElement.lastChild.textContent = said(value);
  }
  at("clutter").parentElement.lastChild.textContent = at("clutter").value;
  document.querySelectorAll("#digits button").forEach((button, index) => {
    button.setAttribute("aria-pressed", String(figure().strokes === null && index === figure().label));
  });
  at("label").value = figure().label ?? "";
  at("label").disabled = at("clear").disabled = figure().strokes === null;
}

let telling = 0;

/** What the networks read, in a sentence; told once nothing has changed for a while, so that it can be listened to. */
function tell() {
  clearTimeout(telling);
  telling = setTimeout(() => {
    if (figure().strokes?.length === 0) {
      at("said").textContent = "The image is empty: write a digit. Until then, what the networks read means nothing.";
      return;
    }
    const known = label() === null ? "Say what it is, and you are told who is right." : `It is a ${NAMES[label()]}.`;
    const sentences = verdicts().map(({ read, share, right }, index) => {
      const judged = right === null ? "" : right ? ", rightly" : ", wrongly";
      return `${MODELS[index].name} reads ${NAMES[read]}${judged} (${percent(share)})`;
    });
    at("said").textContent = `${known} ${sentences.join("; ")}.${state.hands ? " The window is yours." : ""}`;
  }, 250);
}
