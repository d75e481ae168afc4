// The page of a pool: asks the node that served it every few seconds and fills what the page names (data-from,
// data-field). Whatever the node says is shown as text, never as markup.
"use strict";

const EVERY_MS = 5000;
const CALLS = { node_status: [], pool_status: [], pool_payouts: [20] };
const NO_POOL = -32004;
const DASH = "\u2013";

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const exact = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** A number with a unit prefix: 1,234,000,000 is "1.23 G". */
function prefixed(value, unit) {
  const prefixes = ["", "k", "M", "G", "T", "P", "E"];
  let step = 0;
  while (value >= 999.5 && step < prefixes.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${exact.format(value)} ${prefixes[step]}${unit}`;
}

const percent = (share) => `${(share * 100).toFixed(share < 0.1 ? 2 : 1)} %`;
const short = (text) => (text.length > 20 ? `${text.slice(0, 9)}\u2026${text.slice(-7)}` : text);

/** How values are written; each gets the value and the whole that it is a part of. */
const WRITTEN = {
  text: (value) => String(value),
  count: (value) => grouped.format(value),
  length: (value) => grouped.format(value.length),
  yes: (value) => (value ? "yes" : "not yet"),
  id: short,
  macs: (value) => prefixed(value, "MAC"),
  rate: (value) => prefixed(value, "MAC/s"),
  ppm: (value) => percent(value / 1e6),
  basis: (value) => `${value / 100} %`,
  podl: (value) => (value / 1e6).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 6 }),
  part: (value, whole) => `${grouped.format(value)} of ${grouped.format(whole)}${whole ? ` (${percent(value / whole)})` : ""}`,
  // More digits than numbers keep.
  large: (value) => (value.length > 15 ? `${value[0]}.${value.slice(1, 3)}e${value.length - 1}` : grouped.format(value)),
  scheme: (value) => (typeof value === "string" ? value : Object.keys(value)[0]),
};
const AT_LEFT = new Set(["text", "id", "yes"]);

/** The part of an answer that a name with dots stands for; undefined where there is none. */
const part = (answer, name) => name.split(".").reduce((inner, key) => inner?.[key], answer);

function written(element, answer) {
  const { field, of, as = "text" } = element.dataset;
  const value = part(answer, field);
  return value === undefined || value === null ? DASH : WRITTEN[as](value, of && part(answer, of));
}

let answers = {};
const order = new Map();

/** Rows in the order of the column that was chosen. */
function sorted(rows, table) {
  const chosen = order.get(table);
  if (!chosen) return rows;
  const key = (row) => part(row, chosen.field) ?? -1;
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  return [...rows].sort((a, b) => chosen.sign * compare(key(a), key(b)));
}

function fillTable(table, rows) {
  const columns = [...table.querySelectorAll("th")];
  const body = document.createElement("tbody");
  for (const row of sorted(rows, table)) {
    const line = body.insertRow();
    if (row.state === "offline") line.className = "offline";
    for (const column of columns) {
      const { field, as = "text" } = column.dataset;
      const cell = line.insertCell();
      cell.textContent = written(column, row);
      if (as === "id" && row[field]) cell.title = row[field];
      cell.className = as === "id" ? "id" : AT_LEFT.has(as) ? "" : "number";
    }
  }
  table.tBodies[0].replaceWith(body);
}

function fillMiners(table, miners) {
  const wanted = document.getElementById("only").value.trim();
  fillTable(table, miners.filter((m) => m.peer_id.includes(wanted) || m.account.includes(wanted)));
  const count = (state) => miners.filter((m) => m.state === state).length;
  document.getElementById("online").textContent = ["online", "idle", "offline"].map((s) => `${count(s)} ${s}`).join(", ");
}

function fill() {
  for (const element of document.querySelectorAll("[data-from]")) {
    const answer = answers[element.dataset.from];
    if (!answer) continue;
    if (element.dataset.rows) fillMiners(element, part(answer, element.dataset.rows));
    else if (element.tagName === "TABLE") fillTable(element, answer);
    else if (element.tagName === "UL") fillUrls(element, answer.urls);
    else element.textContent = written(element, answer);
  }
}

function fillUrls(list, urls) {
  const items = urls.flatMap((url) => [`podl miner check ${url}`, `podl miner join ${url}`]);
  list.replaceChildren(...items.map((text) => {
    const item = document.createElement("li");
    item.appendChild(document.createElement("code")).textContent = text;
    return item;
  }));
}

function tell(text, isBad = false) {
  const notice = document.getElementById("notice");
  notice.textContent = text;
  notice.classList.toggle("bad", isBad);
}

/** Asks everything in one request. */
async function ask() {
  const names = Object.keys(CALLS);
  const calls = names.map((method, id) => ({ jsonrpc: "2.0", id, method, params: CALLS[method] }));
  const response = await fetch("/", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(calls),
    signal: AbortSignal.timeout(EVERY_MS * 2),
  });
  if (!response.ok) throw new Error((await response.text()).trim());
  const found = {};
  for (const { id, result, error } of await response.json()) {
    if (error) throw Object.assign(new Error(error.message), { code: error.code });
    found[names[id]] = result;
  }
  return found;
}

async function refresh() {
  try {
    answers = await ask();
    fill();
    document.querySelector("main").hidden = false;
    tell(`as of ${new Date().toLocaleTimeString()}`);
  } catch (error) {
    const why = error.code === NO_POOL ? "this node manages no pool" : `the node does not answer: ${error.message}`;
    tell(why, true);
  }
  setTimeout(refresh, EVERY_MS);
}

function prepare() {
  document.getElementById("here").textContent = location.host;
  const only = document.getElementById("only");
  // A miner can keep the address of the page that shows its own row.
  only.value = decodeURIComponent(location.hash.slice(1));
  only.addEventListener("input", () => {
    history.replaceState(null, "", `#${encodeURIComponent(only.value.trim())}`);
    fill();
  });
  for (const column of document.querySelectorAll("th")) {
    const button = document.createElement("button");
    button.textContent = column.textContent;
    column.replaceChildren(button);
    if (!AT_LEFT.has(column.dataset.as ?? "text")) column.className = "number";
    button.addEventListener("click", () => {
      const table = column.closest("table");
      const { field } = column.dataset;
      const before = order.get(table);
      order.set(table, { field, sign: before?.field === field ? -before.sign : -1 });
      fill();
    });
  }
}

prepare();
refresh();
