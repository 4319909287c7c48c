"use strict";
// What one touches on the page of a demo, and what follows from it: demo_image.js has the image, demo_view.js what is seen.

const ANGLES = Array.from({ length: 72 }, (_, index) => 5 * index - 180);
const LONGEST = 8; // milliseconds of a frame that the dial may take
const REST = 120; // milliseconds without a change after which the dial goes on

// --- all angles ------------------------------------------------------------------------------------------------------------

let dial = { key: "", next: 0, right: [] };

/** What the dial depends on: all but the rotation of the digit that it turns. */
function dialKey() {
  const poses = figures.map(({ pose, number, strokes }) => ({ ...pose, number, strokes, rotation: 0 }));
  return JSON.stringify([poses, state.active, label(), at("clutter").value, state.throws]);
}

function resetDial() {
  const key = dialKey();
  if (key === dial.key) return;
  dial = { key, next: 0, right: MODELS.map(() => []) };
  document.querySelectorAll("#dial path.angle").forEach((path) => path.setAttribute("class", "angle unknown"));
}

/** Ask the networks about some more angles; nearest to the upright digit first. */
function fillDial(until) {
  const order = [...ANGLES].sort((a, b) => Math.abs(a) - Math.abs(b)), before = figure().pose;
  while (dial.next < order.length && performance.now() < until) {
    const rotation = order[dial.next++];
    figure().pose = { ...before, rotation };
    const image = imageNow(), pose = truePose();
    MODELS.forEach((model, index) => {
      const { probabilities } = decided(model, image, pose, {});
      const right = probabilities.indexOf(Math.max(...probabilities)) === label();
      if (label() === null) return;
      dial.right[index].push(right);
      at(`angle-${index}-${rotation}`).setAttribute("class", right ? "angle right" : "angle wrong");
    });
  }
  figure().pose = before;
  MODELS.forEach((model, index) => {
    const right = dial.right[index].filter(Boolean).length, of = dial.right[index].length;
    const said = label() === null ? "say what you wrote" : `right at ${right} of ${of} angles`;
    at("counts").children[index].lastChild.textContent = `${model.name}: ${said}`;
  });
}

function arc(from, to, radius) {
  const point = (degrees) => `${radius * Math.sin(degrees * DEGREE)} ${-radius * Math.cos(degrees * DEGREE)}`;
  return `M ${point(from)} A ${radius} ${radius} 0 ${to - from > 180 ? 1 : 0} 1 ${point(to)}`;
}

function layDial() {
  const svg = at("dial");
  MODELS.forEach((model, index) => {
    const radius = 94 - (index * 72) / Math.max(MODELS.length, 3);
    for (const angle of ANGLES) {
      const path = made("path", { id: `angle-${index}-${angle}`, class: "angle unknown", d: arc(angle - 2.2, angle + 2.2, radius), stroke: colourOf(index) });
      svg.append(path);
    }
    at("counts").append(made("li", { style: `--colour: ${colourOf(index)}` }, ""));
  });
  const [low, high] = DATASET.rotation ?? [0, 0];
  svg.append(made("path", { class: "range", d: arc(low, Math.min(high, low + 359.9), 107) }));
  svg.append(made("line", { id: "hand", x1: 0, y1: 0, x2: 0, y2: -102 }), made("circle", { r: 4 }), made("text", { id: "angle-said", y: 26 }));
  const turnTo = (event) => {
    const box = svg.getBoundingClientRect();
    const angle = Math.atan2(event.clientX - box.x - box.width / 2, box.y + box.height / 2 - event.clientY) / DEGREE;
    figure().pose.rotation = Math.round(angle);
    changed();
  };
  svg.addEventListener("pointerdown", (event) => (svg.setPointerCapture(event.pointerId), turnTo(event)));
  svg.addEventListener("pointermove", (event) => svg.hasPointerCapture(event.pointerId) && turnTo(event));
  svg.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: -5, ArrowDown: -5, ArrowRight: 5, ArrowUp: 5, PageDown: -45, PageUp: 45 }[event.key];
    if (!turn) return;
    event.preventDefault();
    figure().pose.rotation = within180(figure().pose.rotation + turn);
    changed();
  });
}

function showHand() {
  const angle = Math.round(within180(figure().pose.rotation));
  at("hand").setAttribute("transform", `rotate(${angle})`);
  at("angle-said").textContent = `${fixed(angle, 0)}°`;
  at("dial").setAttribute("aria-valuenow", angle);
  at("dial").setAttribute("aria-valuetext", `${angle} degrees`);
}

// --- from change to change ---------------------------------------------------------------------------------------------------

let stale = false, asked = false, lastChange = 0;

/** Something has changed: everything is computed and drawn once more in the next frame. */
function changed() {
  stale = true;
  lastChange = performance.now();
  if (!asked) asked = Boolean(requestAnimationFrame(nextFrame));
}

function nextFrame() {
  asked = false;
  const began = performance.now();
  if (stale) {
    stale = false;
    show();
  }
  if (dial.next < ANGLES.length) {
    if (performance.now() - lastChange > REST || began - lastChange > REST) fillDial(began + LONGEST);
    asked = Boolean(requestAnimationFrame(nextFrame));
  }
}

function show() {
  now = compute();
  drawImage();
  drawOutputs();
  showAnswers();
  showPose();
  showTheta();
  showHand();
  resetDial();
  tell();
}

// --- the image held by pointers, wheel and keys -----------------------------------------------------------------------------

const pointers = new Map(); // where each pointer is, in pixels of the screen
let grip = null; // what the pointer holds: "move", "turn" or "scale"

function onCanvas(event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.x, event.clientY - box.y];
}

/** From pixels of the screen to pixels of the image, from its middle. */
function onImage([x, y]) {
  const span = 1 + 2 * MARGIN;
  return [(x / canvas.clientWidth - 0.5) * span * WIDTH, (y / canvas.clientHeight - 0.5) * span * HEIGHT];
}

const apart = ([x, y], [u, v]) => Math.hypot(u - x, v - y);
const direction = ([x, y], [u, v]) => Math.atan2(v - y, u - x) / DEGREE;

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, onCanvas(event));
  canvas.classList.add("held");
  if (state.drawing) {
    write(onImage(onCanvas(event)), true);
    changed();
    return;
  }
  const { turn, scale } = handles(), near = (handle) => apart(handle, onCanvas(event)) < HANDLE;
  grip = near(turn) ? "turn" : near(scale) ? "scale" : "move";
});

canvas.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId), here = onCanvas(event);
  if (!before) return;
  pointers.set(event.pointerId, here);
  if (state.drawing) {
    write(onImage(here), false);
    changed();
    return;
  }
  const [x, y] = onImage(here).map((value, axis) => value - onImage(before)[axis]);
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  const { middle } = handles(), about = other ?? middle; // two fingers turn and scale at once
  const turn = within180(direction(about, here) - direction(about, before));
  const scale = apart(about, here) / Math.max(apart(about, before), 1);
  if (other) adjust({ turn, scale, x: x / 2, y: y / 2 });
  else if (grip === "turn") adjust({ turn });
  else if (grip === "scale") adjust({ scale });
  else adjust({ x, y });
});

for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => {
    pointers.delete(event.pointerId);
    canvas.classList.remove("held");
  });
}

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const by = event.deltaY || event.deltaX; // Shift makes some browsers scroll sideways
  adjust(event.shiftKey ? { turn: Math.sign(by) * 3 } : { scale: Math.exp(-Math.sign(by) * 0.04) });
}, { passive: false });

const KEYS = {
  ArrowLeft: { x: -1 }, ArrowRight: { x: 1 }, ArrowUp: { y: -1 }, ArrowDown: { y: 1 },
  "+": { scale: 1.05 }, "=": { scale: 1.05 }, "-": { scale: 1 / 1.05 },
  "[": { turn: -5 }, "]": { turn: 5 }, "<": { shear: -0.05 }, ">": { shear: 0.05 },
};

canvas.addEventListener("keydown", (event) => {
  const change = KEYS[event.key];
  if (!change || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  adjust(change);
});

// --- controls ----------------------------------------------------------------------------------------------------------------

/** Which part of a slider's range training has shown, as percent of its length. */
function trained(key, { low, high }) {
  const room = Math.max((WIDTH - FRAME_WIDTH * (DATASET.scale?.[0] ?? 1)) / 2, 0);
  const shear = DATASET.shear?.map((degrees) => Math.tan(degrees * DEGREE));
  const ranges = { rotation: DATASET.rotation, scale: DATASET.scale, shear, x: DATASET.translation?.map((share) => share * room) };
  const range = ranges[key === "y" ? "x" : key];
  return range ? range.map((value) => `${(100 * (clamp(value, low, high) - low)) / (high - low)}%`) : ["0%", "0%"];
}

function layPose() {
  for (const [key, part] of Object.entries(PARTS)) {
    const [from, to] = trained(key, part), { low: min, high: max, step } = part;
    const range = made("input", { type: "range", id: `pose-${key}`, min, max, step, style: `--from: ${from}; --to: ${to}` });
    range.addEventListener("input", () => {
      figure().pose[key] = Number(range.value);
      changed();
    });
    at("pose").append(made("div", { class: "slider" }, made("label", { for: range.id }, part.name), range, made("output", { for: range.id })));
  }
}

function layParts() {
  for (const [key, { name, low: min, high: max, step }] of Object.entries(PARTS)) {
    const range = made("input", { type: "range", id: `window-${key}`, min, max, step, "aria-label": `${name} of the window` });
    range.addEventListener("input", () => {
      const parts = partsOf(nearestAffine(chosenWarp().map));
      setWindow(matrixFrom({ ...parts, [key]: Number(range.value) }));
    });
    const cell = made("div", {}, range, made("output", { id: `said-${key}`, for: range.id }));
    at("parts").append(made("tr", {}, made("th", { scope: "row" }, name), made("td", { id: `digit-${key}` }), made("td", {}, cell), made("td", { id: `left-${key}` })));
  }
}

function layDigits() {
  const labels = [...new Set(DIGITS.map((digit) => digit.label))];
  for (const of of labels) {
    const few = DIGITS.filter((digit) => digit.label === of);
    let next = 0;
    const button = made("button", { type: "button", "aria-label": `a ${NAMES[of]}`, "aria-pressed": "false" });
    const paint = () => button.replaceChildren(picture(newMap(TINTS, FRAME_HEIGHT, FRAME_WIDTH, few[next % few.length].image), 255));
    button.addEventListener("click", () => {
      if (figure().label === of && !figure().strokes) next += 1; // once more: the next of its class
      paint();
      draw(false);
      choose(few[next % few.length]);
      changed();
    });
    paint();
    at("digits").append(button);
    at("label").append(made("option", { value: of }, NAMES[of]));
  }
  at("label").prepend(made("option", { value: "" }, "?"));
  at("label").addEventListener("change", () => {
    figure().label = at("label").value === "" ? null : Number(at("label").value);
    changed();
  });
  if (figures.length > 1) {
    at("which").hidden = false;
    at("which").append("Hold the ", made("select", { id: "active", "aria-label": "Which digit is held" }, ...figures.map((_, index) => made("option", { value: index }, ["red", "blue"][index]))), " one");
    at("active").addEventListener("change", () => {
      state.active = Number(at("active").value);
      changed();
    });
  }
}

/** Begin or end to write a digit on the image. */
function draw(on) {
  state.drawing = on;
  at("draw").textContent = on ? "Move it" : "✎ Write one";
  canvas.classList.toggle("drawing", on);
  if (on && !figure().strokes) wipe();
}

function wipe() {
  Object.assign(figure(), { strokes: [], pixels: new Float32Array(TINTS * FRAME_HEIGHT * FRAME_WIDTH), label: null, pose: { ...NOTHING } });
  changed();
}

function layAnswers() {
  at("answers").style.setProperty("--longest", `${Math.max(...NAMES.map((name) => name.length))}ch`);
  MODELS.forEach((model, index) => {
    const reads = transformersOf(model.front).length ? "through its window" : "reads the whole image";
    const kind = model.given ? "is given the true pose" : reads + (model.transforms && !model.front.length ? ", transforms inside" : "");
    const rows = NAMES.map((name) =>
      made("tr", {}, made("th", { scope: "row" }, name), made("td", {}, made("div", { class: "bar" }, made("i"))), made("td")));
    const heading = made("h3", { id: `name-${index}` }, made("b"), made("span", {}, ...model.name.split(/(?<=_)/).flatMap((part) => [part, made("wbr")]), made("span")));
    const table = made("table", { "aria-labelledby": `name-${index}` }, made("tbody", {}, ...rows));
    at("answers").append(made("article", { class: "answer", style: `--colour: ${colourOf(index)}` }, heading, made("p", { class: "small" }, kind), table));
  });
}

function layWindows() {
  if (!WARPED.length) {
    for (const id of ["of-output", "of-theta"]) at(id).closest("section").hidden = true;
    return;
  }
  WARPED.forEach(({ index, warp, layer: { size: [height, width] } }, which) => {
    const several = WARPED.filter((other) => other.index === index).length > 1;
    const name = several ? `${MODELS[index].name}, transformer ${warp + 1}` : MODELS[index].name;
    const colour = OUTLINES[warp % OUTLINES.length];
    at("chosen").append(made("option", { value: which }, name));
    const seen = made("canvas", { role: "img", "aria-label": `What the transformer of ${name} puts out` });
    at("outputs").append(made("div", { "data-index": index, "data-warp": warp, style: `--aspect: ${width / height}; --with: ${colour}` }, seen));
  });
  at("chosen-row").hidden = WARPED.length < 2;
  at("chosen").addEventListener("change", () => {
    state.chosen = Number(at("chosen").value);
    layTheta();
    changed();
  });
  at("hands").addEventListener("change", () => {
    state.hands = at("hands").checked;
    state.thetas = {}; // from where the network had them
    if (state.hands) WARPED.forEach(({ index, warp }) => (state.thetas[index] = { ...state.thetas[index], [warp]: now.answers[index].warps[warp].own }));
    for (const radio of document.querySelectorAll("[name=grab]")) radio.disabled = !state.hands;
    grab(state.hands ? "window" : "digit");
  });
  for (const radio of document.querySelectorAll("[name=grab]")) radio.addEventListener("change", () => grab(radio.value));
}

function grab(what) {
  state.grab = what;
  document.querySelector(`[name=grab][value=${what}]`).checked = true;
  changed();
}

/** Buttons that show something: a pose, of which x and y are shares of the room, or clutter. */
function layTries() {
  for (const button of document.querySelectorAll(".tries button")) {
    button.addEventListener("click", () => {
      if (button.dataset.clutter !== undefined) at("clutter").value = button.dataset.clutter;
      if (button.dataset.pose) {
        const pose = { ...START, ...JSON.parse(button.dataset.pose) };
        if ("x" in JSON.parse(button.dataset.pose)) Object.assign(pose, { x: (pose.x * (WIDTH - 0.71 * FRAME_WIDTH * pose.scale)) / 2, y: (pose.y * (HEIGHT - 0.71 * FRAME_HEIGHT * pose.scale)) / 2 });
        figure().pose = { ...pose, shear: Math.tan(pose.shear * DEGREE) };
      }
      if (button.dataset.clutter === "0" && state.hands) at("hands").click(); // all as it was
      draw(false);
      changed();
    });
  }
}

// --- through training ----------------------------------------------------------------------------------------------------------

/** The digits that a training was watched with, epoch by epoch: of the model whose window is looked at. */
function layTraining() {
  const { training } = DATA;
  if (!training) return;
  const { height, width, output_height: tall, output_width: wide } = training, count = training.label.length;
  const part = (array, index, size, h, w) => ({ channels: size / (h * w), height: h, width: w, data: array.subarray(index * size, (index + 1) * size) });
  const figures_ = Array.from(training.label, (of) => {
    const [image, output, caption] = [made("canvas", { role: "img" }), made("canvas", { role: "img" }), made("figcaption")];
    image.style.aspectRatio = width / height;
    output.style.aspectRatio = wide / tall;
    at("training").append(made("figure", {}, image, output, caption));
    return { image, output, caption, of };
  });
  const range = at("epoch");
  range.max = training.frames.length - 1;
  const showEpoch = () => {
    const frame = training.frames[Number(range.value)], last = training.frames[training.frames.length - 1].epoch[0];
    const said = frame.epoch[0] ? `epoch ${frame.epoch[0]} of ${last}` : "before training";
    at("epoch-said").textContent = said;
    range.setAttribute("aria-valuetext", said);
    figures_.forEach(({ image, output, caption, of }, index) => {
      const seen = brush(image), made_ = brush(output), place = placed(seen.width, seen.height, MARGIN);
      const [left, top] = place(-1, -1), [right, bottom] = place(1, 1);
      seen.context.drawImage(picture(part(training.image, index, training.image.length / count, height, width), 255), left, top, right - left, bottom - top);
      const outline = Array.from(part(frame.outline, index, frame.outline.length / count, 1, 1).data);
      const points = Array.from({ length: outline.length / 2 }, (_, point) => place((2 * outline[2 * point] + 1) / width - 1, (2 * outline[2 * point + 1] + 1) / height - 1));
      seen.context.strokeStyle = OUTLINES[0];
      seen.context.lineWidth = 2;
      drawPath(seen.context, points, true);
      dot(seen.context, points[0], 3, OUTLINES[0]);
      made_.context.drawImage(picture(part(frame.output, index, frame.output.length / count, tall, wide), 255), 0, 0, made_.width, made_.height);
      caption.textContent = frame.predicted[index] === of ? NAMES[of] : `${NAMES[of]} → ${NAMES[frame.predicted[index]]}`;
      caption.classList.toggle("wrong", frame.predicted[index] !== of);
      image.setAttribute("aria-label", `a ${NAMES[of]}, and where the window lies`);
      output.setAttribute("aria-label", `what lies in the window, read as ${NAMES[frame.predicted[index]]}`);
    });
  };
  range.addEventListener("input", showEpoch);
  range.value = range.max;
  at("play").addEventListener("click", () => {
    range.value = 0;
    const step = () => {
      showEpoch();
      if (range.value === range.max) return;
      setTimeout(() => (range.stepUp(), step()), 450);
    };
    step();
  });
  addEventListener("resize", showEpoch);
  showEpoch();
}

// --- the beginning -----------------------------------------------------------------------------------------------------------------

const START = { ...NOTHING, rotation: 20, scale: 0.9, x: 0.12 * WIDTH, y: -0.08 * HEIGHT };
document.querySelector(".square").style.setProperty("--aspect", WIDTH / HEIGHT);
figures.forEach((each, index) => {
  state.active = figures.length - 1 - index;
  choose(DIGITS.find((digit) => digit.label === [4, 2][state.active]) ?? DIGITS[0]);
  figure().pose = { ...START, x: START.x * (state.active ? -1 : 1), y: START.y * (state.active ? -1 : 1) };
});
throwClutter();
layPose();
layDigits();
layAnswers();
layWindows();
layParts();
layTheta();
layDial();
layTries();
layTraining();
at("clutter").addEventListener("input", changed);
at("again").addEventListener("click", () => {
  if (at("clutter").value === "0") at("clutter").value = DATASET.clutter?.patches ?? 6;
  throwClutter();
  changed();
});
at("draw").addEventListener("click", () => (draw(!state.drawing), changed()));
at("clear").addEventListener("click", wipe);
addEventListener("resize", changed);
show();
changed();
