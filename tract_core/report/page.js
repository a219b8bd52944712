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
  const example = data.examples[sample.example];
  const target = document.getElementById("sample");
  const scores = make("p", undefined, "scores");
  scores.append(make("b", `Expected score ${number(sample.expected_score, 3)}`), make("span", `gold ${example.gold}`));
  const trained = sample.seed === null ? "not trained here" : `training seed ${sample.seed}`;
  target.replaceChildren(
    scores,
    make("p", `${example.bench}, ${example.id}; ${trained}, inference seed ${sample.run_seed}`, "legend"),
    field("Instruction", example.instruction),
    field("Response", example.response),
    field("Reference", example.reference),
    rubric(example, data),
    ...sample.cots.map((cot) => cotBox(cot, data)),
  );
}

function startBrowser(data) {
  const pickRow = document.getElementById("pick-row");
  const pickSample = document.getElementById("pick-sample");
  const samples = () => data.rows[pickRow.selectedIndex].samples;
  const show = () => showSample(samples()[pickSample.selectedIndex], data);
  const fill = (wanted) => {
    const names = samples().map((sample, place) => {
      const example = data.examples[sample.example];
      return make("option", `${place + 1}: ${example.bench}, gold ${example.gold}, ${example.id}`);
    });
    pickSample.replaceChildren(...names);
    pickSample.selectedIndex = Math.min(Math.max(wanted, 0), names.length - 1);
    show();
  };
  const step = (by) => {
    const count = samples().length;
    pickSample.selectedIndex = (pickSample.selectedIndex + by + count) % count;
    show();
  };
  pickRow.replaceChildren(...data.rows.map((entry) => make("option", entry.row)));
  // The next model opens at the same place, so that two judgements of one example are a click apart.
  pickRow.addEventListener("change", () => fill(pickSample.selectedIndex));
  pickSample.addEventListener("change", show);
  document.getElementById("previous").addEventListener("click", () => step(-1));
  document.getElementById("next").addEventListener("click", () => step(1));
  document.getElementById("controls").hidden = false;
  fill(0);
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
