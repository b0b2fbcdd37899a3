// Drawing on canvas: every function takes its panel's canvas and the newest data, and draws all of it.

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let colours = {};

export function readColours() {
  for (const name of ["back", "panel", "line", "ink", "soft", "analog", "digital", "hybrid", "other", "good", "bad"]) {
    colours[name] = css(`--${name}`);
  }
}

export const colourOf = (scheme) => colours[scheme] ?? colours.other;

/** The context of a canvas at the screen's resolution, cleared, with its size in CSS pixels. */
function begin(canvas) {
  const scale = Math.min(window.devicePixelRatio || 1, 2);
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  context.lineWidth = 1.5;
  return { context, width, height };
}

/** Horizontal lines with their values at the left; returns the function from value to height. */
function grid({ context, width, height }, low, high, step, format = (value) => value) {
  const y = (value) => height - 14 - ((value - low) / (high - low)) * (height - 20);
  context.fillStyle = colours.soft;
  context.strokeStyle = colours.line;
  context.lineWidth = 1;
  context.beginPath();
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
    context.moveTo(26, y(value));
    context.lineTo(width, y(value));
    context.fillText(format(value), 0, y(value) + 4);
  }
  context.stroke();
  context.lineWidth = 1.5;
  return y;
}

function curve(context, values, x, y, colour) {
  context.strokeStyle = colour;
  context.beginPath();
  values.forEach((value, i) => (i ? context.lineTo(x(i), y(value)) : context.moveTo(x(i), y(value))));
  context.stroke();
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** levels: bytes of 0.5 dB from -110 dB; scale: {low, high} in dB */
export function drawSpectrum(canvas, levels, scale, band) {
  const frame = begin(canvas);
  const { context, width, height } = frame;
  const y = grid(frame, scale.low, scale.high, 10);
  const x = (i) => 26 + (i / (levels.length - 1)) * (width - 26);
  curve(context, Array.from(levels, (level) => clamp(level / 2 - 110, scale.low, scale.high)), x, y, colours.analog);
  context.fillStyle = colours.soft;
  [[-0.5, "left"], [0, "center"], [0.5, "right"]].forEach(([place, align]) => {
    context.textAlign = align;
    context.fillText(`${place ? (place * band / 1e6).toFixed(2) : "0"} MHz`, 26 + (place + 0.5) * (width - 26), height - 2);
  });
  context.textAlign = "left";
}

const CIVIDIS = ["#00204d", "#002a6c", "#2b446e", "#4f5f6e", "#6f7a73", "#8f9575", "#b4b16f", "#dccf5c", "#ffea46"];
const PALETTE = new Uint32Array(256);
for (let i = 0; i < 256; i++) {
  const at = (i / 255) * (CIVIDIS.length - 1), k = Math.min(Math.floor(at), CIVIDIS.length - 2);
  const part = (shift) => {
    const [low, high] = [CIVIDIS[k], CIVIDIS[k + 1]].map((text) => (parseInt(text.slice(1), 16) >> shift) & 255);
    return Math.round(low + (high - low) * (at - k));
  };
  PALETTE[i] = (255 << 24) | (part(0) << 16) | (part(8) << 8) | part(16);
}

const LINES = 160;

/** One more line on top of the waterfall. */
export function addLine(canvas, levels, scale) {
  if (canvas.width !== levels.length || canvas.height !== LINES) {
    canvas.width = levels.length;
    canvas.height = LINES;
  }
  const context = canvas.getContext("2d");
  context.drawImage(canvas, 0, 1);
  const image = context.createImageData(levels.length, 1);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < levels.length; i++) {
    pixels[i] = PALETTE[clamp(Math.round(((levels[i] / 2 - 110 - scale.low) / (scale.high - scale.low)) * 255), 0, 255)];
  }
  context.putImageData(image, 0, 0);
}

/** payload, control: bytes, I and Q in turn, 128 ± 127 for ±3.2 */
export function drawConstellation(canvas, payload, control) {
  const { context, width, height } = begin(canvas);
  const side = Math.min(width, height), left = (width - side) / 2, top = (height - side) / 2;
  context.strokeStyle = colours.line;
  context.strokeRect(left + 0.5, top + 0.5, side - 1, side - 1);
  context.beginPath();
  context.moveTo(left + side / 2, top);
  context.lineTo(left + side / 2, top + side);
  context.moveTo(left, top + side / 2);
  context.lineTo(left + side, top + side / 2);
  context.stroke();
  const size = clamp(side / 110, 2, 4);
  const dots = (values, colour, alpha, width) => {
    context.fillStyle = colour;
    context.globalAlpha = alpha;
    for (let i = 0; i < values.length; i += 2) {
      context.fillRect(left + (values[i] / 255) * side - width / 2, top + (1 - values[i + 1] / 255) * side - width / 2, width, width);
    }
    context.globalAlpha = 1;
  };
  dots(payload, colours.analog, 0.6, size);
  dots(control, colours.digital, 0.9, size * 1.2);
}

/** gains: bytes of 0.25 dB from -40 dB */
export function drawChannel(canvas, gains) {
  const frame = begin(canvas);
  const y = grid(frame, -25, 10, 10);
  const values = Array.from(gains, (gain) => clamp(gain / 4 - 40, -25, 10));
  curve(frame.context, values, (i) => 26 + (i / (values.length - 1)) * (frame.width - 26), y, colours.hybrid);
}

/** snrs: bytes of 0.25 dB from -20 dB; 0: nothing of the symbol is usable, 1: no payload in it */
export function drawSymbols(canvas, snrs) {
  const frame = begin(canvas);
  const { context, width, height } = frame;
  const y = grid(frame, -10, 30, 10);
  const step = (width - 28) / Math.max(1, snrs.length);
  snrs.forEach((snr, i) => {
    if (snr === 1) return;
    const top = y(clamp(snr / 4 - 20, -10, 30));
    context.fillStyle = snr ? colours.analog : colours.bad;
    context.fillRect(28 + i * step, snr ? top : height - 17, Math.max(1, step - 2), snr ? height - 14 - top : 3);
  });
}

/** series: [{scheme, layers: [{name, nmse_expected_db}]}] */
export function drawLayers(canvas, series) {
  const frame = begin(canvas);
  const { context, width, height } = frame;
  const known = series.filter(({ layers }) => layers.some((layer) => Number.isFinite(layer.nmse_expected_db)));
  const y = grid(frame, -40, 0, 10);
  if (!known.length) {
    context.fillText("a digital network has no error, or is lost", 32, height / 2);
    return;
  }
  const most = Math.max(...known.map(({ layers }) => layers.length));
  const group = (width - 28) / most, bar = Math.max(2, (group - 4) / known.length);
  known.forEach(({ scheme, layers }, k) => {
    context.fillStyle = colourOf(scheme);
    layers.forEach((layer, i) => {
      if (!Number.isFinite(layer.nmse_expected_db)) return;
      const top = y(clamp(layer.nmse_expected_db, -40, 0));
      context.fillRect(28 + i * group + k * bar, top, bar - 1, height - 14 - top);
    });
  });
  context.fillStyle = colours.soft;
  known[0].layers.forEach((layer, i) => {
    if (group > 24) context.fillText(String(layer.name).slice(0, Math.floor(group / 6)), 28 + i * group, height - 2);
  });
}

const SPAN_S = 60;

/** history: [{scheme, time, burst, accuracy}]; sent: accuracy as sent, by scheme */
export function drawHistory(canvas, history, sent, now) {
  const frame = begin(canvas);
  const { context, width, height } = frame;
  const y = grid(frame, 0, 100, 25);
  const x = (time) => width - 4 - ((now - time) / SPAN_S) * (width - 34);
  for (const [scheme, accuracy] of Object.entries(sent)) {
    if (accuracy === null) continue;
    context.strokeStyle = colourOf(scheme);
    context.setLineDash([4, 5]);
    context.beginPath();
    context.moveTo(28, y(100 * accuracy));
    context.lineTo(width, y(100 * accuracy));
    context.stroke();
    context.setLineDash([]);
  }
  const last = {};
  for (const { scheme, time, burst, accuracy, error } of history.filter(({ time }) => now - time < SPAN_S)) {
    const at = [x(time), y(100 * (accuracy ?? 0))];
    context.strokeStyle = context.fillStyle = colourOf(scheme);
    if (error) {
      context.fillText("✕", at[0] - 4, at[1] + 2);
    } else if (accuracy !== null) {
      if (last[scheme]?.burst === burst) {
        context.beginPath();
        context.moveTo(...last[scheme].at);
        context.lineTo(...at);
        context.stroke();
      }
      context.beginPath();
      context.arc(...at, 3, 0, 7);
      context.fill();
      last[scheme] = { burst, at };
    }
  }
  context.fillStyle = colours.soft;
  context.fillText(`${SPAN_S} s ago`, 28, height - 2);
}

/** A picture (channels, height, width) of bytes on a canvas of its own. */
export function picture(bytes, channels, height, width) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const image = canvas.getContext("2d").createImageData(width, height);
  const plane = width * height;
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = bytes[(channels === 3 ? c * plane : 0) + i];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
