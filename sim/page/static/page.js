// The page: one WebSocket; every binary frame is a byte that names its kind, and its content.
import { addKnobs } from "./knobs.js";
import * as plots from "./plots.js";

const [STATE, SCOPE, DETAIL, PICTURES, REPLY] = [0, 1, 2, 3, 4];
const [SPECTRUM, PAYLOAD, CONTROL, CHANNEL, SYMBOLS] = [1, 2, 3, 4, 5];
const ORDER = ["analog", "digital", "hybrid"];
const $ = (id) => document.getElementById(id);
const canvasOf = (id) => $(id).querySelector("canvas");
const text = new TextDecoder();

/** What the page knows; tests read it. */
const lab = (globalThis.lab = {
  state: null, detail: null, watched: 0, scheme: "analog", connected: false,
  updates: { state: 0, spectrum: 0, waterfall: 0, constellation: 0, channel: 0, symbols: 0, layers: 0, history: 0, pictures: 0 },
  parts: {}, scale: { low: -80, high: -20 }, lastReply: null, skew: 0,
});
let socket = null, pictures = [], dirty = new Set(), noticed = 0, showKnobs = null, built = "";

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    lab.connected = true;
    if (lab.watched) command({ watch: lab.watched });
  };
  socket.onmessage = ({ data }) => take(new Uint8Array(data));
  socket.onclose = () => {
    lab.connected = false;
    status("the lab is gone", "off");
    setTimeout(connect, 1000);
  };
}

const command = (lab.command = (asked) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(asked)));

function take(bytes) {
  const content = bytes.subarray(1);
  const kinds = {
    [STATE]: () => takeState(JSON.parse(text.decode(content))),
    [SCOPE]: () => takeScope(content),
    [DETAIL]: () => { lab.detail = JSON.parse(text.decode(content)); dirty.add("layers").add("history").add("pictures"); },
    [PICTURES]: () => takePictures(content),
    [REPLY]: () => takeReply(JSON.parse(text.decode(content))),
  };
  kinds[bytes[0]]?.();
  if (dirty.size && !lab.asked) {
    lab.asked = true;
    requestAnimationFrame(draw);
  }
}

function takeScope(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 3 <= bytes.length; ) {
    const size = view.getUint16(at + 1, true);
    lab.parts[bytes[at]] = bytes.slice(at + 3, at + 3 + size);
    if (bytes[at] === SPECTRUM) {
      fitScale(lab.parts[SPECTRUM]);
      plots.addLine($("waterfall"), lab.parts[SPECTRUM], lab.scale);
      lab.updates.waterfall++;
      dirty.add("spectrum");
    }
    if (bytes[at] === PAYLOAD) dirty.add("constellation");
    if (bytes[at] === CHANNEL) dirty.add("channel");
    if (bytes[at] === SYMBOLS) dirty.add("symbols");
    at += 3 + size;
  }
}

/** The scale follows the weakest and the strongest bins slowly. */
function fitScale(levels) {
  const sorted = Float32Array.from(levels, (level) => level / 2 - 110).sort();
  const low = sorted[Math.floor(sorted.length / 20)] - 8, high = Math.max(sorted[sorted.length - 1] + 6, low + 30);
  const follow = (value, target) => (Math.abs(value - target) > 25 ? target : value + 0.05 * (target - value));
  lab.scale = { low: follow(lab.scale.low, low), high: follow(lab.scale.high, high) };
}

function takePictures(bytes) {
  if (bytes.length < 8) return;
  const [num, channels, height, width] = new Uint16Array(bytes.slice(0, 8).buffer);
  const size = channels * height * width;
  pictures = Array.from({ length: num }, (_, i) => plots.picture(bytes.subarray(8 + i * size, 8 + (i + 1) * size), channels, height, width));
  dirty.add("pictures");
}

function takeReply(reply) {
  lab.lastReply = reply;
  if (reply.error) return notice(reply.error, "error");
  if (reply.saved) {
    notice("saved ");
    for (const name of reply.saved) {
      const link = Object.assign(document.createElement("a"), { href: `/reports/${name}`, textContent: name, target: "_blank" });
      $("notice").append(link, " ");
    }
  }
}

function notice(content, kind = "") {
  $("notice").textContent = content;
  $("notice").className = `shown ${kind}`;
  clearTimeout(notice.due);
  notice.due = setTimeout(() => ($("notice").className = ""), 6000);
}

function status(content, kind) {
  $("status").textContent = content;
  $("status").className = `pill ${kind}`;
}

const DRAWN = {
  spectrum: () => plots.drawSpectrum($("spectrum"), lab.parts[SPECTRUM], lab.scale, watched().rate_hz ?? 0),
  constellation: () => plots.drawConstellation(canvasOf("p-constellation"), lab.parts[PAYLOAD], lab.parts[CONTROL] ?? []),
  channel: () => plots.drawChannel(canvasOf("p-channel"), lab.parts[CHANNEL]),
  symbols: () => plots.drawSymbols(canvasOf("p-symbols"), lab.parts[SYMBOLS]),
  layers: () => plots.drawLayers(canvasOf("p-layers"), ORDER.filter((s) => lab.detail?.schemes[s]).map((s) => ({ scheme: s, layers: lab.detail.schemes[s].layers }))),
  history: () => plots.drawHistory(canvasOf("p-history"), lab.detail.history, sentBy(), Date.now() / 1000 + lab.skew),
  pictures: drawPictures,
};

const watched = () => lab.state?.receivers[lab.watched] ?? { results: {} };
const sentBy = () => Object.fromEntries(Object.entries(watched().results).map(([scheme, result]) => [scheme, result.accuracy_sent]));

function draw() {
  lab.asked = false;
  for (const name of dirty) {
    if (["layers", "history", "pictures"].includes(name) && !lab.detail) continue;
    DRAWN[name]();
    lab.updates[name]++;
  }
  dirty.clear();
}

function drawPictures() {
  const guessed = lab.detail?.schemes[lab.scheme];
  const lost = !guessed?.guesses?.length;
  $("pictured").textContent = lost ? `(${lab.scheme}: nothing arrived)` : `(${lab.scheme})`;
  $("pictures").replaceChildren(...pictures.slice(0, 12).map((image, i) => {
    const item = document.createElement("li");
    const wrong = lost || guessed.guesses[i] !== guessed.labels[i];
    const name = lost ? "?" : (lab.state?.classes[guessed.guesses[i]] ?? guessed.guesses[i]);
    item.className = wrong ? "wrong" : "right";
    item.append(image, `${wrong ? "✗" : "✓"}${name}`);
    return item;
  }));
}

function takeState(state) {
  lab.state = state;
  lab.skew = state.time - Date.now() / 1000; // the server's clock
  lab.updates.state++;
  build(state);
  const flowing = state.receivers.some((receiver) => receiver.flowing);
  if (state.mode !== "feed" && !state.running) status("STOPPED", "off");
  else if (state.knobs.sender.muted) status("MUTED", "off");
  else if (!flowing) status(state.sender.alive || state.mode === "feed" ? "NO SAMPLES" : "NO SENDER", "off");
  else status("ON AIR", "on");
  $("start").textContent = state.running ? "Stop" : "Start";
  for (const [id, on] of [["mute", state.knobs.sender.muted], ["feedback", state.feedback], ["record", state.receivers.some((r) => r.recording)]]) {
    $(id).setAttribute("aria-pressed", String(on));
  }
  const plans = Object.entries(state.sender.plans ?? {});
  const widths = plans.find(([, plan]) => plan.widths?.length)?.[1].widths;
  const wrong = Object.entries(state.sender.errors ?? {}).map(([scheme, error]) => `${scheme}: ${error}`);
  $("plan").textContent = state.tour ? `tour: ${state.tour}` : wrong.length ? wrong.join("; ")
    : state.sender.planning ? "planning …"
    : plans.length ? `planned for ${state.knobs.sender.plan_snr_db} dB${widths ? `, analog member ${widths.join("-")}` : ""}` : "";
  $("plan").title = plans.map(([scheme, plan]) => `${scheme}: ${plan.lines.join("; ")}`).join("\n");
  showKnobs?.(state);
  showSchemes(state);
  showNumbers(watched());
  for (const told of state.notices.filter(({ number }) => number > noticed)) {
    if (lab.updates.state > 1) notice(told.text);
    noticed = told.number;
  }
  if (lab.detail) dirty.add("history");
}

/** The knobs and the receivers' cards, made once for each set of receivers. */
function build(state) {
  const key = JSON.stringify([state.mode, state.receivers.map(({ name }) => name)]);
  if (key === built) return;
  built = key;
  const shows = [];
  for (const [what, modes] of [["air", ["simulated"]], ["boards", ["boards"]], ["sender", ["simulated", "boards"]]]) {
    const box = $(what);
    box.hidden = !modes.includes(state.mode);
    box.querySelectorAll(".knob").forEach((row) => row.remove());
    const described = state.described[what].filter(({ name }) => state.mode === "simulated" || name !== "pace_hz");
    const show = addKnobs(box, described, (name, value) => command({ turn: what, to: { [name]: value } }));
    shows.push((state) => show(state.knobs[what]));
  }
  $("receivers").querySelectorAll(".receiver").forEach((card) => card.remove());
  state.receivers.forEach((receiver, number) => {
    const card = Object.assign(document.createElement("div"), { className: "receiver" });
    const button = document.createElement("button"), row = Object.assign(document.createElement("div"), { className: "row" });
    const name = Object.assign(document.createElement("span"), { textContent: `${number + 1} ${receiver.name}` });
    const says = Object.assign(document.createElement("span"), { className: "state" });
    button.append(name, says);
    button.addEventListener("click", () => watch(number));
    card.append(button, row);
    const show = state.mode === "simulated"
      ? addKnobs(card, state.described.receiver, (knob, value) => command({ turn: "receiver", number, to: { [knob]: value } })) : () => {};
    $("receivers").append(card);
    shows.push((state) => {
      const now = state.receivers[number];
      card.classList.toggle("watched", number === lab.watched);
      card.classList.toggle("silent", !now.flowing);
      button.setAttribute("aria-pressed", String(number === lab.watched));
      says.textContent = !now.alive ? "ended" : now.flowing ? `${number_(now.snr_db, 1)} dB` : !now.fresh ? "starting" : now.air ? "no samples" : "air stopped";
      says.title = now.alive ? "" : now.why;
      row.replaceChildren(...ORDER.filter((scheme) => now.results[scheme]).map((scheme) => {
        const result = now.results[scheme], part = document.createElement("b");
        part.textContent = result.error ? "lost" : headline(result);
        part.style.color = plots.colourOf(scheme);
        part.title = scheme;
        return part;
      }));
      show(now.knobs);
    });
  });
  showKnobs = (state) => shows.forEach((show) => show(state));
  lab.watched = Math.min(lab.watched, Math.max(0, state.receivers.length - 1));
}

const number_ = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
const headline = ({ accuracy, metrics }) =>
  accuracy !== null ? percent(accuracy) : Object.values(metrics).length ? number_(Object.values(metrics)[0], 3) : "arrived";
const percent = (value) => (Number.isFinite(value) ? `${(100 * value).toFixed(1)} %` : "–");

function watch(number) {
  if (!(number in (lab.state?.receivers ?? []))) return;
  lab.watched = number;
  lab.detail = null;
  lab.parts = {};
  command({ watch: number });
  takeState(lab.state);
}

function showSchemes(state) {
  const results = watched().results;
  const schemes = [...ORDER.filter((scheme) => state.mode === "feed" ? results[scheme] : state.knobs.sender.schemes.includes(scheme)),
    ...Object.keys(results).filter((scheme) => !ORDER.includes(scheme))];
  const parent = $("schemes");
  if (parent.children.length !== schemes.length || schemes.some((scheme, i) => parent.children[i].dataset.scheme !== scheme)) {
    parent.replaceChildren(...schemes.map((scheme) => {
      const tile = document.createElement("button");
      tile.className = `scheme ${ORDER.includes(scheme) ? scheme : "unknown"}`;
      tile.dataset.scheme = scheme;
      tile.append(...["name", "value", "about"].map((name) => Object.assign(document.createElement("span"), { className: name })));
      tile.addEventListener("click", () => { lab.scheme = scheme; takeState(lab.state); dirty.add("pictures"); requestAnimationFrame(draw); });
      return tile;
    }));
  }
  if (!schemes.includes(lab.scheme) && schemes.length) lab.scheme = schemes[0];
  for (const tile of parent.children) {
    const scheme = tile.dataset.scheme, result = results[scheme], lost = result && result.error;
    const plan = state.sender.plans?.[scheme];
    tile.classList.toggle("lost", Boolean(lost));
    tile.setAttribute("aria-pressed", String(scheme === lab.scheme));
    const [name, value, about] = tile.children;
    name.textContent = scheme;
    value.textContent = !result ? "…" : lost ? "LOST" : headline(result);
    const sent = plan?.accuracy ?? result?.accuracy_sent;
    const of = state.mode === "feed" ? "" : `/${state.knobs.sender.cycles}`;
    about.textContent = !result ? "not heard yet" : `${Number.isFinite(sent) ? `sent ${percent(sent)} · ` : ""}cycle ${result.cycles}${of}`;
    tile.title = result?.error ?? (result?.images ? `on the first ${result.images} test images` : "");
  }
}

function showNumbers(receiver) {
  const values = [
    ["SNR", `${number_(receiver.snr_db, 1)} dB`], ["CFO", `${number_(receiver.cfo_hz / 1e3, 2)} kHz`],
    ["clock", `${number_(receiver.sco_ppm, 2)} ppm`], ["frames heard", receiver.heard ?? "–"], ["lost", receiver.lost ?? "–"],
    ["erased symbols", receiver.erased ?? "–"],
    ["DSP", receiver.seconds_dsp ? `${(receiver.samples / receiver.seconds_dsp / 1e6).toFixed(1)} MS/s` : "–"],
  ];
  if ($("numbers").children.length !== values.length) {
    $("numbers").replaceChildren(...values.map(([name]) => {
      const pair = document.createElement("div");
      pair.append(Object.assign(document.createElement("dt"), { textContent: name }), document.createElement("dd"));
      return pair;
    }));
  }
  values.forEach(([, value], i) => ($("numbers").children[i].lastChild.textContent = value));
  $("band").textContent = receiver.rate_hz ? `${(receiver.freq_hz / 1e9).toFixed(4)} GHz, ${(receiver.rate_hz / 1e6).toFixed(2)} MS/s` : "";
}

const ACTIONS = {
  start: () => command({ do: lab.state.running ? "stop" : "start" }),
  mute: () => command({ turn: "sender", to: { muted: !lab.state.knobs.sender.muted } }),
  feedback: () => command({ do: "feedback", on: !lab.state.feedback }),
  record: () => command({ do: "record", number: lab.watched }),
  report: () => command({ do: "report", number: lab.watched, scheme: lab.scheme }),
  theme: () => setTheme(document.documentElement.dataset.theme === "light" ? "dark" : "light"),
};
const KEYS = { s: "start", m: "mute", f: "feedback", r: "record", p: "report", t: "theme" };

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  plots.readColours();
  dirty = new Set(Object.keys(DRAWN).filter((name) => !["spectrum", "constellation", "channel", "symbols"].includes(name)));
  if (lab.parts[SPECTRUM]) dirty.add("spectrum");
  requestAnimationFrame(draw);
}

setTheme(matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
for (const [id, action] of Object.entries(ACTIONS)) $(id).addEventListener("click", () => lab.state && action());
document.addEventListener("keydown", ({ key, target, ctrlKey, metaKey, altKey }) => {
  if (ctrlKey || metaKey || altKey || /^(INPUT|SELECT)$/.test(target.tagName) || !lab.state) return;
  if (key in KEYS) ACTIONS[KEYS[key]]();
  else if (/^[1-5]$/.test(key)) watch(Number(key) - 1);
});
connect();
