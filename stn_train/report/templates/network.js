"use strict";
// The layers that stn-train's networks are made of, as they are after training: what torch computes, in plain JavaScript.
//
// A map is {channels, height, width, data}: `data` lies channel by channel and row by row. A layer is an object whose
// `kind` is one of LAYERS' names; its numbers come from report/demo.py. Coordinates are the project's own: (x, y),
// normalised from -1 to 1 between the outer edges of the outer pixels; a transform leads from target to source.

const HORIZON = 0.01; // the least depth that a projective map divides by
const TINY = 1e-20; // of a squared distance, before its logarithm is taken

function newMap(channels, height, width, data = new Float32Array(channels * height * width)) {
  return { channels, height, width, data };
}

/** The normalised coordinate of the centre of pixel `index` of `count`. */
const pixelCentre = (index, count) => (2 * index + 1) / count - 1;

function softmax(values) {
  const highest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Float64Array.from(values, (value) => Math.exp(value - highest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

// --- matrix products and convolutions ------------------------------------------------------------------------------

/**
 * weights (rows x inner) times the transpose of patches (count x inner), plus a bias a row: rows x count, into `out`
 * from `start` on. Four rows and two patches at a time, so that a number that is read is used several times.
 */
function product(weights, first, rows, patches, count, inner, bias, out, start) {
  for (let row = 0; row < rows; row += 4) {
    const many = Math.min(4, rows - row);
    const a = (first + row) * inner;
    const b = a + (many > 1 ? inner : 0), c = a + (many > 2 ? 2 * inner : 0), d = a + (many > 3 ? 3 * inner : 0);
    for (let column = 0; column < count; column += 2) {
      const p = column * inner, q = column + 1 < count ? p + inner : p;
      let ap = 0, bp = 0, cp = 0, dp = 0, aq = 0, bq = 0, cq = 0, dq = 0;
      for (let k = 0; k < inner; k++) {
        const one = patches[p + k], two = patches[q + k];
        const wa = weights[a + k], wb = weights[b + k], wc = weights[c + k], wd = weights[d + k];
        ap += wa * one; bp += wb * one; cp += wc * one; dp += wd * one;
        aq += wa * two; bq += wb * two; cq += wc * two; dq += wd * two;
      }
      const sums = [ap, bp, cp, dp], beside = [aq, bq, cq, dq];
      for (let i = 0; i < many; i++) {
        const at = start + (row + i) * count + column, plus = bias ? bias[first + row + i] : 0;
        out[at] = sums[i] + plus;
        if (q > p) out[at + 1] = beside[i] + plus;
      }
    }
  }
}

let room = new Float32Array(0); // where patches are laid out, grown as needed and used again

/** What each output pixel reads of some channels: (height x width) x (channels x rows x columns). */
function patchesOf(layer, input, first, channels, height, width) {
  const [rows, columns] = layer.size, [down, across] = layer.stride, [top, left] = layer.padding;
  const inner = channels * rows * columns;
  if (room.length < height * width * inner) room = new Float32Array(height * width * inner);
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = first; channel < first + channels; channel++) {
        const plane = channel * input.height * input.width;
        for (let row = 0; row < rows; row++) {
          const from = y * down + row - top;
          const outside = from < 0 || from >= input.height;
          for (let column = 0; column < columns; column++) {
            let over = x * across + column - left;
            if (layer.wraps) over = (over + input.width) % input.width;
            const blank = outside || over < 0 || over >= input.width;
            room[at++] = blank ? 0 : input.data[plane + from * input.width + over];
          }
        }
      }
    }
  }
  return room;
}

function pooled(layer, input, start, join, finish) {
  const k = layer.size, height = Math.floor(input.height / k), width = Math.floor(input.width / k);
  const out = newMap(input.channels, height, width);
  let at = 0;
  for (let channel = 0; channel < input.channels; channel++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        let value = start;
        for (let row = 0; row < k; row++) {
          const from = (channel * input.height + y * k + row) * input.width + x * k;
          for (let column = 0; column < k; column++) value = join(value, input.data[from + column]);
        }
        out.data[at++] = finish(value);
      }
    }
  }
  return out;
}

const averaged = (input, size) => pooled({ size }, input, 0, (a, b) => a + b, (sum) => sum / (size * size));

// --- transforms: families, grids and the sampler ---------------------------------------------------------------------

/** The 3 x 3 matrix, row by row and in normalised coordinates, for a theta of a family of matrices. */
function matrixOf(family, theta, aspect) {
  const entry = { 0: 0, 1: 1 };
  family.numbers.forEach((name, index) => (entry[name] = theta[index]));
  if ("angle" in entry) Object.assign(entry, { cos: Math.cos(entry.angle), sin: Math.sin(entry.angle) });
  const nine = family.entries.map((name) => (name[0] === "-" ? -entry[name.slice(1)] : entry[name]));
  if (!family.normalised) { // both axes have one unit there, half the image's height
    nine[1] /= aspect;
    nine[2] /= aspect;
    nine[3] *= aspect;
  }
  return nine;
}

/** The solutions of linear equations for several right sides: Gauss' elimination, with pivots. */
function solved(matrix, sides) {
  const rows = matrix.map((row, index) => [...row, ...sides.map((side) => side[index])]), count = rows.length;
  for (let at = 0; at < count; at++) {
    let pivot = at;
    for (let row = at; row < count; row++) if (Math.abs(rows[row][at]) > Math.abs(rows[pivot][at])) pivot = row;
    [rows[at], rows[pivot]] = [rows[pivot], rows[at]];
    for (let row = 0; row < count; row++) {
      const factor = row === at ? 0 : rows[row][at] / rows[at][at];
      if (factor) for (let column = at; column < rows[at].length; column++) rows[row][column] -= factor * rows[at][column];
    }
  }
  return sides.map((_, side) => rows.map((row, index) => row[count + side] / row[index]));
}

/** The map of a family for theta: a function from (x, y) of the target to [x, y] of the source, all normalised. */
function mapOf(family, theta, aspect) {
  if (!family.control_points) {
    const [a, b, c, d, e, f, g, h, i] = matrixOf(family, theta, aspect);
    if (!family.projective) return (x, y) => [a * x + b * y + c, d * x + e * y + f];
    return (x, y) => {
      const depth = Math.max(g * x + h * y + i, HORIZON);
      return [(a * x + b * y + c) / depth, (d * x + e * y + f) / depth];
    };
  }
  // A thin plate spline: a weighted sum of radial terms, one for each control point, and of 1, x and y.
  const n = family.control_points, points = n * n;
  const line = Array.from({ length: n }, (_, index) => -1 + (2 * index) / (n - 1));
  const termsAt = (x, y) => {
    const terms = [];
    for (let point = 0; point < points; point++) {
      const awayX = (x - line[point % n]) * aspect, awayY = y - line[Math.floor(point / n)];
      const squared = awayX * awayX + awayY * awayY;
      terms.push(squared * Math.log(Math.max(squared, TINY)));
    }
    return [...terms, 1, x, y];
  };
  const equations = Array.from({ length: points }, (_, point) => termsAt(line[point % n], line[Math.floor(point / n)]));
  const bends = [0, 1, 2].map((term) => [...equations.map((terms) => terms[points + term]), 0, 0, 0]);
  const sides = (axis) => [...equations.map((_, point) => theta[2 * point + axis]), 0, 0, 0];
  const weights = solved([...equations, ...bends], [sides(0), sides(1)]);
  return (x, y) => {
    let sumX = 0, sumY = 0;
    termsAt(x, y).forEach((term, index) => {
      sumX += weights[0][index] * term;
      sumY += weights[1][index] * term;
    });
    return [sumX, sumY];
  };
}

/** Where an output of this size reads, pixel by pixel: x, y, x, y and so on. */
function gridOf(map, height, width) {
  const grid = new Float64Array(2 * height * width);
  let at = 0;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      [grid[at], grid[at + 1]] = map(pixelCentre(column, width), pixelCentre(row, height));
      at += 2;
    }
  }
  return grid;
}

/** Read a map at a grid: bilinear, with zeros outside (paper, equation 5). */
function sampled(input, grid, height, width) {
  const out = newMap(input.channels, height, width), count = height * width, plane = input.height * input.width;
  for (let point = 0; point < count; point++) {
    const x = ((grid[2 * point] + 1) * input.width - 1) / 2, y = ((grid[2 * point + 1] + 1) * input.height - 1) / 2;
    const left = Math.floor(x), top = Math.floor(y);
    for (const [row, down] of [[top, 1 - (y - top)], [top + 1, y - top]]) {
      if (!(row >= 0 && row < input.height)) continue;
      for (const [column, across] of [[left, 1 - (x - left)], [left + 1, x - left]]) {
        if (!(column >= 0 && column < input.width)) continue;
        const from = row * input.width + column, weight = down * across;
        for (let channel = 0; channel < input.channels; channel++) {
          out.data[channel * count + point] += weight * input.data[channel * plane + from];
        }
      }
    }
  }
  return out;
}

// --- the localisation network that turns with its input: see models/equivariant.py ---------------------------------------

/** The ink's centre (x, y) and radius of gyration, in half heights of the image. */
function inkPlace(input) {
  const { height, width } = input, plane = height * width;
  let mass = 0, x = 0, y = 0, squares = 0;
  for (let at = 0; at < input.data.length; at++) {
    const ink = Math.max(input.data[at], 0), pixel = at % plane;
    const across = pixelCentre(pixel % width, width) * (width / height);
    const down = pixelCentre(Math.floor(pixel / width), height);
    mass += ink;
    x += ink * across;
    y += ink * down;
    squares += ink * (across * across + down * down);
  }
  mass = Math.max(mass, 1e-6);
  [x, y, squares] = [x / mass, y / mass, squares / mass];
  return [x, y, Math.sqrt(Math.max(squares - x * x - y * y, (4 / height) ** 2))];
}

/** The angle where the network answers highest around the ink: theta of a rotation, or, with centre and size, of a similarity. */
function equivariant(layer, input, run) {
  const [x, y, radius] = inkPlace(input), aspect = input.width / input.height;
  const [radii, angles] = layer.polar, points = layer.points;
  const grid = Float64Array.from(points, (along, at) => (at % 2 ? y + radius * along : (x + radius * along) / aspect));
  const answers = through(layer.layers, sampled(input, grid, radii, angles), run).data;
  const highest = answers.indexOf(answers.reduce((a, b) => Math.max(a, b)));
  const offsets = Array.from({ length: 2 * layer.near + 1 }, (_, index) => index - layer.near);
  const shares = softmax(offsets.map((offset) => answers[(highest + offset + angles) % angles]));
  const mean = offsets.reduce((sum, offset, index) => sum + offset * shares[index], highest);
  const angle = mean * ((2 * Math.PI) / angles), scale = layer.reach * radius;
  if (layer.rotates) return newMap(1, 1, 1, Float32Array.of(angle));
  return newMap(4, 1, 1, Float32Array.of(scale * Math.cos(angle), scale * Math.sin(angle), x, y));
}

// --- the layers by their kinds -----------------------------------------------------------------------------------------

const LAYERS = {
  conv(layer, input) {
    const [rows, columns] = layer.size;
    const height = Math.floor((input.height + 2 * layer.padding[0] - rows) / layer.stride[0]) + 1;
    const width = Math.floor((input.width + 2 * layer.padding[1] - columns) / layer.stride[1]) + 1;
    const out = newMap(layer.filters, height, width), count = height * width;
    const channels = input.channels / layer.groups, filters = layer.filters / layer.groups;
    for (let group = 0; group < layer.groups; group++) {
      const patches = patchesOf(layer, input, group * channels, channels, height, width);
      const inner = channels * rows * columns, first = group * filters;
      product(layer.weight, first, filters, patches, count, inner, layer.bias, out.data, first * count);
    }
    return out;
  },

  /** Batch normalisation, of which a factor and a summand a channel are left after training. */
  scale(layer, input) {
    const out = newMap(input.channels, input.height, input.width), plane = input.height * input.width;
    for (let at = 0, channel = 0; channel < input.channels; channel++) {
      const factor = layer.factor[channel], summand = layer.summand[channel];
      for (const end = at + plane; at < end; at++) out.data[at] = input.data[at] * factor + summand;
    }
    return out;
  },

  relu: (layer, input) => ({ ...input, data: input.data.map((value) => (value > 0 ? value : 0)) }),

  max_pool: (layer, input) => pooled(layer, input, -Infinity, Math.max, (value) => value),

  average_pool: (layer, input) => averaged(input, layer.size),

  linear(layer, input) {
    const out = newMap(layer.outputs, 1, 1);
    product(layer.weight, 0, layer.outputs, input.data, 1, input.data.length, layer.bias, out.data, 0);
    return out;
  },

  /** Where each channel is highest: the mean position under its softmax, all x before all y. */
  soft_argmax(layer, input) {
    const out = newMap(2 * input.channels, 1, 1), plane = input.height * input.width;
    for (let channel = 0; channel < input.channels; channel++) {
      softmax(input.data.subarray(channel * plane, (channel + 1) * plane)).forEach((share, pixel) => {
        out.data[channel] += share * pixelCentre(pixel % input.width, input.width);
        out.data[input.channels + channel] += share * pixelCentre(Math.floor(pixel / input.width), input.height);
      });
    }
    return out;
  },

  equivariant,

  /** A spatial transformer. What it did is added to `run.warps`, in the order of the forward pass. */
  transformer(layer, input, run) {
    const own = layer.localisation.length ? through(layer.localisation, input, run).data : run.pose;
    const theta = run.thetas[run.warps.length] ?? own;
    const map = mapOf(layer.family, theta, input.width / input.height);
    const [height, width] = layer.size, k = layer.supersampling;
    let output = sampled(input, gridOf(map, height * k, width * k), height * k, width * k);
    if (k > 1) output = averaged(output, k);
    run.warps.push({ layer, input, theta, own, map, output });
    return output;
  },

  /** Transformers that read the same map; what they put out lies one after the other along the channels. */
  parallel: (layer, input, run) => joined(layer.transformers.map((each) => LAYERS.transformer(each, input, run))),
};

function joined(maps) {
  const channels = maps.reduce((sum, map) => sum + map.channels, 0);
  const out = newMap(channels, maps[0].height, maps[0].width);
  let at = 0;
  for (const map of maps) {
    out.data.set(map.data, at);
    at += map.data.length;
  }
  return out;
}

/** A map behind layers in a row. */
const through = (layers, input, run) => layers.reduce((map, layer) => LAYERS[layer.kind](layer, map, run), input);

/**
 * Where in the image, x and y, each pixel that a transformer puts out was sampled: two channels. Where they are
 * canonical, seen from the image's middle along the output's axes, in half heights (`along_output` in network.py).
 */
function coordinatesOf({ map, output: { height, width } }, canonical, aspect) {
  const grid = gridOf(map, height, width), out = newMap(2, height, width), count = height * width;
  let cosine = 1, sine = 0;
  if (canonical) {
    let across = 0, down = 0;
    for (let row = 0; row < height; row++) {
      const first = 2 * row * width, last = first + 2 * (width - 1);
      across += (grid[last] - grid[first]) * aspect;
      down += grid[last + 1] - grid[first + 1];
    }
    const length = Math.hypot(across, down) || 1;
    [cosine, sine] = [across / length, down / length];
  }
  for (let at = 0; at < count; at++) {
    const x = grid[2 * at] * (canonical ? aspect : 1), y = grid[2 * at + 1];
    out.data[at] = cosine * x + sine * y;
    out.data[count + at] = cosine * y - sine * x;
  }
  return out;
}

const ROTATION = { numbers: ["angle"], entries: ["cos", "-sin", "0", "sin", "cos", "0", "0", "0", "1"] };

/** The product of two 3 x 3 matrices, row by row. */
const times = (a, b) => a.map((_, at) => [0, 1, 2].reduce((sum, k) => sum + a[at - (at % 3) + k] * b[3 * k + (at % 3)], 0));

/** An image turned clockwise, and the pose of its digit with it. */
function rotated(image, pose, degrees) {
  const angle = (degrees * Math.PI) / 180, aspect = image.width / image.height;
  const grid = gridOf(mapOf(ROTATION, [-angle], aspect), image.height, image.width);
  return [sampled(image, grid, image.height, image.width), times(matrixOf(ROTATION, [angle], aspect), pose)];
}

/**
 * What a network makes of an image: {logits, probabilities, warps}. `pose` is the digit's true pose, all nine entries of
 * a matrix, for a network that is given it; `thetas` stand in for those of its transformers, by their numbers.
 */
function answer(network, image, pose, thetas = {}) {
  const run = { warps: [], thetas, pose };
  let read = through(network.front, image, run);
  if (network.coordinates) {
    const canonical = network.coordinates === "canonical";
    read = joined([read, coordinatesOf(run.warps[0], canonical, image.width / image.height)]);
  }
  const { data: logits } = through(network.classifier, read, run);
  return { logits, probabilities: softmax(logits), warps: run.warps };
}

/** The same of a network that reads the image also turned by some angles: the mean of its probabilities decides. */
function decided(network, image, pose, thetas) {
  const upright = answer(network, image, pose, thetas);
  const turned = network.tta_angles.map((degrees) => answer(network, ...rotated(image, pose, degrees)).probabilities);
  const sum = (index) => turned.reduce((total, each) => total + each[index], upright.probabilities[index]);
  return { ...upright, probabilities: upright.probabilities.map((_, index) => sum(index) / (1 + turned.length)) };
}
