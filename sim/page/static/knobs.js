// Knobs made from their description: label, kind, bounds and choices come from the server, and nowhere else.

function number(about, turn) {
  const step = about.whole ? 1 : about.high - about.low <= 60 ? 0.5 : (about.high - about.low) / 200;
  const wide = about.high - about.low > 1e6 || about.low > 1e6; // typed, not slid
  const box = Object.assign(document.createElement("input"), { type: "number", min: about.low, max: about.high, step: "any" });
  const slide = Object.assign(document.createElement("input"), { type: "range", min: about.low, max: about.high, step });
  slide.setAttribute("aria-label", about.label);
  slide.hidden = wide;
  let due = 0;
  slide.addEventListener("input", () => {
    box.value = slide.value;
    clearTimeout(due);
    due = setTimeout(() => turn(Number(slide.value)), 120);
  });
  let typing = false; // what is being typed stays
  box.addEventListener("input", () => (typing = true));
  box.addEventListener("blur", () => (typing = false));
  box.addEventListener("change", () => {
    typing = false;
    turn(Number(box.value));
  });
  const show = (value) => {
    if (!typing) box.value = Math.round(value * 100) / 100;
    if (document.activeElement !== slide || !due) slide.value = value;
    else due = 0;
  };
  return { label: box, parts: [box, slide], show };
}

function choice(about, turn) {
  const select = document.createElement("select");
  about.choices.forEach((name) => select.add(new Option(name)));
  select.addEventListener("change", () => turn(select.value));
  return { label: select, parts: [select], show: (value) => (select.value = value) };
}

function several(about, turn) {
  const group = Object.assign(document.createElement("span"), { className: "several" });
  const boxes = about.choices.map((name) => {
    const label = document.createElement("label"), box = Object.assign(document.createElement("input"), { type: "checkbox" });
    box.addEventListener("change", () => turn(about.choices.filter((_, i) => boxes[i].checked)));
    label.append(box, ` ${name}`);
    group.append(label);
    return box;
  });
  const show = (values) => boxes.forEach((box, i) => (box.checked = values.includes(about.choices[i])));
  return { label: null, parts: [group], show };
}

const KINDS = { number, choice, several };

/** Adds knobs to an element; returns the function that shows their values. `turn(name, value)` is called for each turn. */
export function addKnobs(parent, described, turn) {
  const shown = described.filter((about) => KINDS[about.kind]).map((about) => {
    const made = KINDS[about.kind](about, (value) => turn(about.name, value));
    const row = Object.assign(document.createElement("div"), { className: "knob" });
    const label = Object.assign(document.createElement("label"), { textContent: about.label });
    if (made.label) {
      made.label.id = `knob-${crypto.randomUUID?.() ?? Math.random()}`;
      label.htmlFor = made.label.id;
    }
    row.dataset.knob = about.name;
    row.append(label, ...made.parts);
    parent.append(row);
    return [about.name, made.show];
  });
  return (values) => shown.forEach(([name, show]) => name in values && show(values[name]));
}
