"use strict";

// ---- the choice: plain data, no page needed -------------------------------------------------------------------------
// A state is {votes: photograph -> candidate, names: candidate -> [name of each class]}, both by their places.

/** Places of the candidates by votes, the most first; of equal ones the first. Candidates without a vote are left out. */
function ranking(votes) {
  const counts = new Map();
  for (const candidate of Object.values(votes)) counts.set(candidate, (counts.get(candidate) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
}

function cleanName(text) {
  return text.replace(/\s+/g, " ").trim().slice(0, 100);
}

/** Names of a candidate's classes: those that were typed, else its own. */
function namesOf(state, data, candidate) {
  const own = data.candidates[candidate].classes, typed = state.names[candidate] ?? [];
  return own.map((name, place) => cleanName(typed[place] ?? "") || name);
}

/** The text of choice.json; "" while nothing is chosen, or every class has one name. */
function choiceText(state, data) {
  const first = ranking(state.votes)[0];
  if (!first) return "";
  const names = namesOf(state, data, first[0]);
  if (new Set(names).size < 2) return "";
  const choice = { format: data.format, comparison: data.comparison, candidate: data.candidates[first[0]].id, names };
  return JSON.stringify(choice, null, 2) + "\n";
}

// ---- the page -------------------------------------------------------------------------------------------------------

function start(data) {
  const at = (id) => document.getElementById(id);
  const state = { votes: {}, names: {} };
  let unsaved = false, shown = null;

  function make(tag, properties = {}, ...children) {
    const { style, ...rest } = properties, element = Object.assign(document.createElement(tag), rest);
    for (const [name, value] of Object.entries(style ?? {})) element.style[name] = value;
    element.append(...children);
    return element;
  }

  function vote(photograph, candidate) {
    if (state.votes[photograph] === candidate) delete state.votes[photograph];
    else state.votes[photograph] = candidate;
    unsaved = true;
    paint();
  }

  function voteAll(candidate) {
    data.photographs.forEach((_, place) => { state.votes[place] = candidate; });
    unsaved = true;
    paint();
  }

  const head = make("tr", {}, make("th", { scope: "col", textContent: "photograph" }));
  const counters = data.candidates.map((candidate, place) => {
    const count = make("small", { className: "soft" });
    const all = make("button", { type: "button", className: "all", textContent: "take for all" });
    all.setAttribute("aria-label", `Take ${candidate.title}, ${candidate.view}, for all photographs`);
    all.addEventListener("click", () => voteAll(place));
    const title = make("span", { textContent: `${candidate.title} · ${candidate.view}` });
    const labels = make("small", { className: "soft", textContent: ` labels: ${candidate.labels || "none"} ` });
    head.append(make("th", { scope: "col" }, title, make("br"), labels, make("br"), all, " ", count));
    return { title, count };
  });
  at("head").append(head);
  const buttons = data.photographs.map((photograph, row) => {
    const line = make("tr"), ratio = `${photograph.width} / ${photograph.height}`, image = `url("${photograph.image}")`;
    const plain = make("span", { className: "plain", style: { backgroundImage: image, aspectRatio: ratio } });
    line.append(make("th", { scope: "row" }, photograph.name, plain));
    const picks = data.candidates.map((candidate, place) => {
      const button = make("button", { type: "button", className: "pick", style: { backgroundImage: image, aspectRatio: ratio } });
      button.setAttribute("aria-label", `${candidate.title}, ${candidate.view}, on ${photograph.name}`);
      button.append(make("img", { src: candidate.masks[row], alt: "" }));
      button.addEventListener("click", () => vote(row, place));
      line.append(make("td", {}, button));
      return button;
    });
    at("body").append(line);
    return picks;
  });

  function showParts(candidate) {
    if (candidate === shown) return;
    shown = candidate;
    at("parts").replaceChildren();
    if (candidate === null) return;
    const one = data.candidates[candidate];
    one.classes.forEach((name, place) => {
      const input = make("input", { type: "text", maxLength: 100, value: (state.names[candidate] ?? [])[place] ?? name });
      input.setAttribute("aria-label", `Name of class ${place}, ${name}`);
      input.addEventListener("input", () => {
        state.names[candidate] = one.classes.map((own, i) => (i === place ? input.value : (state.names[candidate] ?? [])[i] ?? own));
        unsaved = true;
        paint();
      });
      const swatch = make("span", { className: "swatch", style: { backgroundColor: one.colours[place] } });
      at("parts").append(make("li", {}, swatch, make("small", { textContent: `${(100 * one.shares[place]).toFixed(1)} %` }), input));
    });
  }

  function paint() {
    const ranked = ranking(state.votes), first = ranked[0]?.[0] ?? null;
    buttons.forEach((picks, row) => picks.forEach((button, place) => {
      button.setAttribute("aria-pressed", String(state.votes[row] === place));
    }));
    counters.forEach(({ title, count }, place) => {
      const votes = ranked.find(([candidate]) => candidate === place)?.[1] ?? 0;
      title.className = place === first ? "winner" : "";
      count.textContent = votes ? `${votes} of ${data.photographs.length}` : "";
    });
    showParts(first);
    const text = choiceText(state, data);
    at("save").disabled = !text;
    at("json").value = text;
    const one = first === null ? null : data.candidates[first];
    at("status").textContent = one === null
      ? "Nothing is chosen yet: click the best answer in each row."
      : `${one.title}, ${one.view}: ${ranked[0][1]} of ${data.photographs.length} photographs.${text ? "" : " Give its classes at least two names."}`;
  }

  at("save").addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([choiceText(state, data)], { type: "application/json" }));
    make("a", { href: url, download: "choice.json" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    unsaved = false;
  });
  at("command").textContent = data.command;
  window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
  paint();
}

if (typeof document === "undefined") module.exports = { ranking, namesOf, choiceText, cleanName };
else start(JSON.parse(document.getElementById("data").textContent));
