"use strict";
// Everything from data enters the page through textContent and never as HTML.

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function number(value, digits) {
  return value === null ? "none" : value.toFixed(digits);
}

function field(name, text) {
  const box = make("div", undefined, "field");
  box.append(make("h4", name), make("pre", text === null ? "(none)" : text));
  return box;
}

function rubric(example, data) {
  const box = make("div", undefined, "field");
  const list = make("dl");
  example.descriptions.forEach((description, place) => {
    if (description === "") return; // the rubric says nothing of this score
    list.append(make("dt", data.labels[place] ?? String(place + 1)), make("dd", description));
  });
  box.append(make("h4", "Rubric"), make("pre", example.criteria), list);
  return box;
}

function bars(probs, data) {
  const table = make("table", undefined, "bars");
  table.append(make("caption", "Probability of each score"));
  const body = make("tbody");
  probs.forEach((value, place) => {
    const line = make("tr");
    const head = make("th", data.labels[place] ?? String(place + 1));
    head.scope = "row";
    const track = make("td", undefined, "track");
    const bar = make("div", undefined, "bar");
    bar.style.width = `${Math.max(0, Math.min(1, value ?? 0)) * 100}%`;
    track.append(bar);
    line.append(head, track, make("td", number(value, 3)));
    body.append(line);
  });
  table.append(body);
  return table;
}

function cotBox(cot, data) {
  const box = make("article", undefined, "cot");
  box.append(make("h4", `CoT ${cot.k + 1}`));
  const expected = cot.probs === null ? null : cot.probs.reduce((sum, p, i) => sum + p * data.values[i], 0);
  const facts = [
    `status ${cot.status}`,
    `finish reason ${cot.finish_reason}`,
    `expected score ${number(expected, 3)}`,
    `label mass ${number(cot.label_mass, 3)}`,
    `sampled score ${cot.sampled_score === null ? "none" : cot.sampled_score}`,
  ];
  box.append(make("p", facts.join("; ")), make("pre", cot.cot === "" ? "(empty)" : cot.cot));
  box.append(cot.probs === null ? make("p", "No probabilities: the score could not be read.") : bars(cot.probs, data));
  return box;
}

function showSample(sample, data) {
  const target = document.getElementById("sample");
  target.scrollTop = 0;
  if (sample === undefined) {
    target.replaceChildren(make("p", "No example fits the search and the filters.", "absent"));
    return;
  }
  const example = data.examples[sample.example];
  const scores = make("p", undefined, "scores");
  scores.append(make("b", `Expected score ${number(sample.expected_score, 3)}`), make("span", `gold ${example.gold}`));
  if (sample.spread !== null) scores.append(make("span", `spread ${number(sample.spread, 2)}`));
  if (errorOf(sample, data) !== null) scores.append(make("span", `error ${signed(errorOf(sample, data))}`));
  const trained = sample.seed === null ? "not trained here" : `training seed ${sample.seed}`;
  target.replaceChildren(
    scores,
    make("p", `${example.bench}, ${example.id}; ${trained}, inference seed ${sample.run_seed}`, "legend"),
    field("Instruction", example.instruction),
    field("Response", example.response),
    ...(example.reference === null ? [] : [field("Reference", example.reference)]),
    rubric(example, data),
    ...sample.cots.map((cot) => cotBox(cot, data)),
  );
}

function errorOf(sample, data) {
  return sample.expected_score === null ? null : sample.expected_score - data.examples[sample.example].gold;
}

function signed(value) {
  return `${value < 0 ? "" : "+"}${value.toFixed(2)}`;
}

// Each order: its name, and a number for a sample, the largest first. Without a score a sample stands last.
const ORDERS = [
  ["worst errors first", (error) => Math.abs(error)],
  ["judge too high first", (error) => error],
  ["judge too low first", (error) => -error],
  ["best first", (error) => -Math.abs(error)],
  ["gold, lowest first", (error, example) => -example.gold],
  ["id", null],
];
const CHOSEN = { all: "all", spaced: "evenly spaced", worst: "worst errors" };

function ordered(samples, order, data) {
  const weight = ORDERS[order][1];
  if (weight === null) return samples;
  const weighed = samples.map((sample) => {
    const error = errorOf(sample, data);
    return [error === null ? -Infinity : weight(error, data.examples[sample.example]), sample];
  });
  return weighed.sort((a, b) => (a[0] === b[0] ? 0 : b[0] - a[0])).map((entry) => entry[1]);
}

const texts = new Map();

function textOf(sample, data) {
  if (!texts.has(sample)) {
    const { id, instruction, response, reference, criteria } = data.examples[sample.example];
    const parts = [id, instruction, response, reference ?? "", criteria, ...sample.cots.map((cot) => cot.cot)];
    texts.set(sample, parts.join("\n").toLowerCase());
  }
  return texts.get(sample);
}

function fits(sample, wanted, data) {
  const example = data.examples[sample.example];
  const picked = ["bench", "gold", "chosen"].every((name) => wanted[name] === "" || String(example[name]) === wanted[name]);
  return picked && wanted.words.every((word) => textOf(sample, data).includes(word));
}

function entryLine(sample, place, data) {
  const example = data.examples[sample.example];
  const line = make("div", undefined, "entry");
  const error = errorOf(sample, data);
  line.id = `entry-${place}`;
  line.role = "option";
  line.append(
    make("b", error === null ? "no score" : signed(error)),
    make("span", `judge ${number(sample.expected_score, 2)}, gold ${example.gold}`),
    make("span", example.response.slice(0, 120) || "(empty)", "excerpt"),
  );
  return line;
}

function fillPicker(id, all, choices) {
  const pick = document.getElementById(id);
  const options = choices.map(([value, text]) => Object.assign(make("option", text), { value }));
  if (all) options.unshift(Object.assign(make("option", all), { value: "" }));
  pick.replaceChildren(...options);
  pick.parentElement.hidden = choices.length < 2;
}

function fillPickers(data) {
  const distinct = (name) => [...new Set(data.examples.map((example) => example[name]))];
  const named = (values) => values.map((value) => [String(value), String(value)]);
  fillPicker("pick-row", "", data.rows.map((entry, place) => [String(place), entry.row]));
  fillPicker("pick-bench", "all", named(distinct("bench")));
  fillPicker("pick-gold", "all", named(distinct("gold").sort((a, b) => a - b)));
  fillPicker("pick-chosen", "both", distinct("chosen").map((value) => [value, CHOSEN[value]]));
  fillPicker("pick-order", "", ORDERS.map(([name], place) => [String(place), name]));
}

function startBrowser(data) {
  const get = (id) => document.getElementById(id);
  const list = get("entries");
  let samples = [];
  let current = 0;

  function select(place) {
    current = Math.min(Math.max(place, 0), samples.length - 1);
    list.querySelector("[aria-selected]")?.removeAttribute("aria-selected");
    const line = list.children[current];
    if (line) {
      line.setAttribute("aria-selected", "true");
      list.setAttribute("aria-activedescendant", line.id);
      // Not scrollIntoView: that would scroll the page, too.
      if (line.offsetTop < list.scrollTop) list.scrollTop = line.offsetTop;
      const below = line.offsetTop + line.offsetHeight - list.clientHeight;
      if (below > list.scrollTop) list.scrollTop = below;
    }
    showSample(samples[current], data);
  }

  function refresh() {
    const kept = samples[current]?.example;
    const words = get("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = { bench: get("pick-bench").value, gold: get("pick-gold").value, chosen: get("pick-chosen").value, words };
    const all = data.rows[Number(get("pick-row").value)].samples;
    samples = ordered(all.filter((sample) => fits(sample, wanted, data)), Number(get("pick-order").value), data);
    list.removeAttribute("aria-activedescendant");
    list.replaceChildren(...samples.map((sample, place) => entryLine(sample, place, data)));
    get("count").textContent = `${samples.length} of ${all.length} examples.`;
    return samples.findIndex((sample) => sample.example === kept);
  }

  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
  list.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    select(current + steps[event.key]);
  });
  list.addEventListener("click", (event) => {
    const line = event.target.closest(".entry");
    if (line !== null) select([...list.children].indexOf(line));
  });
  get("previous").addEventListener("click", () => select(current - 1));
  get("next").addEventListener("click", () => select(current + 1));
  // Another row opens at the same example, so that two judgements of it are a click apart.
  get("pick-row").addEventListener("change", () => select(refresh()));
  for (const id of ["pick-bench", "pick-gold", "pick-chosen", "pick-order"]) {
    get(id).addEventListener("change", () => { refresh(); select(0); });
  }
  get("search").addEventListener("input", () => { refresh(); select(0); });
  fillPickers(data);
  get("controls").hidden = false;
  refresh();
  select(0);
}

function startOrigins() {
  const box = document.getElementById("origin");
  document.addEventListener("click", (event) => {
    const cell = event.target.closest("td[title]");
    if (cell === null) return;
    document.getElementById("origin-text").textContent = cell.title;
    box.hidden = false;
  });
  document.getElementById("close").addEventListener("click", () => { box.hidden = true; });
}

const data = JSON.parse(document.getElementById("samples").textContent);
if (data.rows.length > 0) startBrowser(data);
startOrigins();
