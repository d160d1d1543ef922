// The heat map of a page: regions with a strength for each word, blurred on a small canvas that is stretched over the page.

const SIDE = 220; // cells along the longer side
const WARM = [[255, 236, 130], [255, 170, 30], [226, 60, 10]]; // from faint to strong, multiplied onto the page

const decode = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

export function unpack(heat) {
  if (!heat) return null;
  const boxes = new Uint16Array(decode(heat.boxes).buffer);
  const values = decode(heat.values);
  const n = boxes.length / 4;
  return { terms: heat.terms, boxes, n, row: (at) => values.subarray(at * n, (at + 1) * n) };
}

// Draws the maps of the words for which `shows(term)` is true; at each cell the strongest word counts. Returns whether any cell is visible.
export function paint(canvas, heat, ratio, shows) {
  const width = Math.round(ratio >= 1 ? SIDE : SIDE * ratio);
  const height = Math.round(ratio >= 1 ? SIDE / ratio : SIDE);
  Object.assign(canvas, { width, height });
  const cells = new Float32Array(width * height);
  heat.terms.forEach((term, at) => shows(term) && lay(cells, width, height, heat, heat.row(at)));
  const soft = blur(blur(cells, width, height), width, height);
  const image = new ImageData(width, height);
  let any = false;
  soft.forEach((value, i) => {
    const [red, green, blue] = colour(value);
    any ||= value > 0.05;
    image.data.set([red, green, blue, Math.round(255 * Math.min(1, value * 1.4))], i * 4);
  });
  canvas.getContext('2d').putImageData(image, 0, 0);
  return any;
}

function lay(cells, width, height, { boxes, n }, values) {
  for (let i = 0; i < n; i++) {
    if (!values[i]) continue;
    const [x0, y0, x1, y1] = boxes.subarray(i * 4, i * 4 + 4);
    const right = Math.max(1 + Math.floor(x0 / 65535 * width), Math.ceil(x1 / 65535 * width));
    const below = Math.max(1 + Math.floor(y0 / 65535 * height), Math.ceil(y1 / 65535 * height));
    for (let y = Math.floor(y0 / 65535 * height); y < Math.min(below, height); y++) {
      for (let x = Math.floor(x0 / 65535 * width); x < Math.min(right, width); x++) {
        cells[y * width + x] = Math.max(cells[y * width + x], values[i] / 255);
      }
    }
  }
}

function blur(cells, width, height, reach = 2) {
  const soft = new Float32Array(cells.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      let seen = 0;
      for (let v = Math.max(0, y - reach); v <= Math.min(height - 1, y + reach); v++) {
        for (let u = Math.max(0, x - reach); u <= Math.min(width - 1, x + reach); u++) {
          sum += cells[v * width + u];
          seen++;
        }
      }
      soft[y * width + x] = sum / seen;
    }
  }
  return soft;
}

function colour(value) {
  const at = Math.min(1, value) * (WARM.length - 1);
  const [low, high] = [WARM[Math.floor(at)], WARM[Math.ceil(at)]];
  return low.map((channel, i) => channel + (high[i] - channel) * (at - Math.floor(at)));
}
