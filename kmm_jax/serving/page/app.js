// The search page: one query, composed of a text, a picture or a document, and conditions.

import * as address from "/page/address.js";
import { Cropper } from "/page/cropper.js";
import * as terms from "/page/terms.js";
import { TAGS, WORDS } from "/page/words.js";

const $ = (id) => document.getElementById(id);
const PARTS = { words: "words", text: "titles", image: "pictures" };
const FACETS = 8; // columns that are counted, at most
const VALUES = 12; // values of each that are shown
const LARGEST = 1024; // pixels: larger pictures are made smaller before they are sent

const BLANK = { text: "", picture: null, like: null, where: {}, weight: 0.5, terms: [], box: null, locate: "" };
const query = structuredClone(BLANK);
const MOST_TERMS = 16;
let language = localStorage.getItem("language") ?? (navigator.language.startsWith("ko") ? "ko" : "en");
let collection = null;
let asked = null; // the AbortController of the search under way
let last = null; // the last response, to draw it again in another language
let retry = 0;
let named = null; // the AbortController of the naming under way

const say = (name, ...given) => {
  const word = WORDS[language][name] ?? name;
  return typeof word === "function" ? word(...given) : word;
};

const tagged = (name) => TAGS[language][name] ?? name;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// --- the service

class Refused extends Error {
  constructor(response, reason) {
    super(reason?.message ?? response.statusText);
    this.status = response.status;
    this.code = reason?.code;
    this.after = Number(response.headers.get("retry-after")) || 1;
  }
}

async function call(path, { body, signal } = {}) {
  const headers = {};
  const key = sessionStorage.getItem("key");
  if (key) headers["x-api-key"] = key;
  if (body) headers["content-type"] = "application/json";
  const response = await fetch(path, {
    method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body),
  });
  if (response.ok) return response;
  let reason = null;
  try { reason = (await response.json()).error; } catch { /* no JSON: the status says it */ }
  throw new Refused(response, reason);
}

// Pictures need the key too, which an <img> cannot send.
async function show(image, url, side = 480, again = true) {
  if (!collection?.pictures) return;
  const place = `${url}&side=${side}`;
  // A busy service refuses; it may have room a moment later.
  image.onerror = again ? () => setTimeout(show, 2000, image, url, side, false) : null;
  if (!sessionStorage.getItem("key")) { image.src = place; return; }
  try {
    image.src = URL.createObjectURL(await (await call(place)).blob());
    image.onload = () => URL.revokeObjectURL(image.src);
  } catch { image.onerror?.(); }
}

// --- the query

// Asks anew. What is changed in small steps makes no step of its own in the browser's history.
function changed({ small = false } = {}) {
  remember(small);
  drawChips();
  search();
}

function remember(small) {
  const place = location.pathname + address.write(query, BLANK);
  const keep = (state) => {
    if (small || place === location.pathname + location.search) history.replaceState(state, "", place);
    else history.pushState(state, "", place);
  };
  // Browsers limit what is kept; then the picture is what going back does not bring back.
  try { keep(structuredClone(query)); } catch { keep({ ...structuredClone(query), picture: null }); }
}

// The query of an address, as this browser kept it or as a link says it.
function recall(state) {
  Object.assign(query, state ?? address.read(location.search, BLANK));
  $("text").value = query.text;
  $("weight").value = query.weight;
}

// A link names documents by their ids: here are their titles and pictures.
async function recognise() {
  const like = query.like && query.like.url === undefined ? [query.like] : [];
  const some = [...like, ...query.terms.filter((each) => each.like && each.url === undefined)];
  await Promise.all(some.map(async (each) => {
    try {
      const { title, images } = await (await call(`/v1/document?${new URLSearchParams({ id: each.like ?? each.id })}`)).json();
      Object.assign(each, { title: title || each.title, label: title || each.label, url: images[0]?.url ?? null });
    } catch { /* the search says what is wrong with it */ }
  }));
  if (some.length) drawChips();
}

async function search() {
  asked?.abort();
  clearTimeout(retry);
  if (!query.text && !query.picture && !query.like && !query.terms.length) { last = null; drawResults(); status(""); return; }
  asked = new AbortController();
  status(say("searching"));
  const body = { text: query.text, k: 48, text_weight: query.weight, where: query.where, facets: columns(), fusion: collection?.learned ? "learned" : "rrf" };
  if (query.picture) body.image = query.picture;
  if (query.like) body.like = query.like.id;
  recognise();
  if (query.terms.length) body.terms = query.terms.map(terms.asked);
  if (query.box) body.box = query.box;
  else if (query.locate) body.locate = query.locate;
  try {
    const response = await call("/v1/search", { body, signal: asked.signal });
    last = await response.json();
    drawResults();
    if ($("cropper").open && last.box) cropper.set(last.box);
    name();
    const partly = last.complete ? "" : ` · ${say("partly")}`;
    status((last.hits.length ? say("found", last.hits.length, Math.round(last.milliseconds)) : say("nothing")) + partly);
  } catch (error) { failed(error, search); }
}

// What the picture may show, by the database of names: each a search of its own.
async function name() {
  named?.abort();
  $("names").replaceChildren();
  if (!collection?.names || !query.picture) return;
  named = new AbortController();
  const body = { image: query.picture, k: 3 };
  if (last?.box) body.box = last.box;
  try {
    const { names, known } = await (await call("/v1/names", { body, signal: named.signal })).json();
    if (!known) { $("names").append(say("unnamed")); return; }
    $("names").append(say("itsname"), ...names.map((each) => make("button", { type: "button",
      textContent: each.probability === null ? each.name : `${each.name} ${Math.round(100 * each.probability)}%`,
      onclick: () => { query.text = $("text").value = each.name; changed(); } })));
  } catch { /* the search is there without it */ }
}

function failed(error, again) {
  if (error.name === "AbortError") return;
  if (error.status === 401) {
    const had = sessionStorage.getItem("key");
    $("keyform").hidden = false;
    $("key").focus();
    status(had ? say("wrongkey") : say("needkey"), Boolean(had));
  } else if (error.status === 429 || error.status === 503) {
    status(say(error.status === 429 ? "busy" : "warming"));
    retry = setTimeout(again, 1000 * Math.min(error.after, 30));
  } else if (error.status === 413) status(say("toolarge"), true);
  else if (error.status === 415 || error.code === "invalid_image") { status(say("nopicture"), true); }
  else status(error.status ? error.message : say("offline"), true);
}

function status(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

function columns() {
  const kinds = /^(string|large_string|bool|list<.*string>|large_list<.*string>|dictionary.*)$/;
  return Object.entries(collection?.columns ?? {}).filter(([, kind]) => kinds.test(kind))
    .map(([name]) => name).sort((one, other) => rank(one) - rank(other)).slice(0, FACETS);
}

// Colour and pattern first, then what people know by name.
function rank(name) {
  const place = Object.keys(TAGS.ko).indexOf(name);
  return place < 0 ? Infinity : place;
}

async function take(file) {
  if (!file) return;
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
    const canvas = make("canvas", { width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale)) });
    const context = canvas.getContext("2d");
    context.fillStyle = "white"; // what is transparent
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    query.picture = canvas.toDataURL("image/jpeg", 0.92);
    query.like = null;
    whole();
    changed();
  } catch { status(say("nopicture"), true); }
}

function moreLike(hit) {
  query.like = { id: hit.id, title: hit.title, url: hit.image?.url ?? null };
  query.picture = null;
  query.text = $("text").value = "";
  query.terms = [];
  whole();
  changed();
  scrollTo({ top: 0 });
}

// The whole picture counts again.
function whole() {
  Object.assign(query, { box: null, locate: "" });
}

function add(some) {
  query.terms = [...query.terms, ...some].slice(0, MOST_TERMS);
  $("text").value = query.text;
  changed();
}

// What stands in the box and was not searched for yet.
function addSaid(sign) {
  const said = $("text").value.trim();
  if (said && said !== query.text) add([{ text: said, label: said, weight: sign }]);
  else { $("text").select(); status(say("sayterm")); }
}

function addLike(hit, sign) {
  add([{ like: hit.id, label: hit.title || hit.id, url: hit.image?.url ?? null, weight: sign }]);
}

function toggle(name, value) {
  const values = new Set(query.where[name] ?? []);
  if (!values.delete(value)) values.add(value);
  if (values.size) query.where[name] = [...values]; else delete query.where[name];
  changed();
}

// --- what is drawn

function drawChips() {
  const chips = [];
  const chip = (text, image, remove) => {
    const button = make("button", { type: "button", className: "chip", onclick: () => { remove(); changed(); } });
    button.setAttribute("aria-label", say("remove", text));
    if (image) button.append(image);
    button.append(text);
    chips.push(button);
  };
  if (query.text) chip(query.text, null, () => { query.text = $("text").value = ""; });
  if (query.picture) chips.push(pictureChip(say("mine"), make("img", { src: query.picture, alt: "" }), () => { query.picture = null; }));
  if (query.like) {
    const image = make("img", { alt: "" });
    if (query.like.url) show(image, query.like.url, 96);
    const gone = () => { query.like = null; };
    if (query.like.url && collection?.pictures) chips.push(pictureChip(say("likeof", query.like.title), image, gone));
    else chip(say("likeof", query.like.title), null, gone);
  }
  chips.push(...query.terms.map(termChip));
  for (const [name, values] of Object.entries(query.where)) {
    for (const value of values) chip(`${tagged(name)}: ${shown(value)}`, null, () => {
      query.where[name] = query.where[name].filter((each) => each !== value);
      if (!query.where[name].length) delete query.where[name];
    });
  }
  if (!query.picture) { named?.abort(); $("names").replaceChildren(); }
  redraw($("chips"), chips);
  $("terms").hidden = !(query.text || query.picture || query.like || query.terms.length);
  $("mix").hidden = !(query.text && (query.picture || query.like));
}

// A picture, of which a part may be chosen.
function pictureChip(text, image, remove) {
  const part = query.locate || (query.box ? say("part") : "");
  const crop = make("button", { type: "button", className: "crop", title: say("crop"), onclick: openCropper }, image, part ? `${text} · ${part}` : text);
  const away = make("button", { type: "button", className: "away", onclick: () => { remove(); whole(); changed(); } });
  away.setAttribute("aria-label", say("remove", text));
  return make("span", { className: "chip parts" }, crop, away);
}

// Something to add or to take away: its sign turns, its weight goes round, and it can be removed.
function termChip(term, number) {
  const plus = term.weight > 0;
  const become = (weight) => { term.weight = weight; changed({ small: true }); };
  const turn = make("button", { type: "button", className: "sign", textContent: plus ? "+" : "−", onclick: () => become(-term.weight) });
  turn.setAttribute("aria-label", say(plus ? "takeaway" : "addto", term.label));
  const label = make("button", { type: "button", className: "weight", title: say("weightkeys"), onclick: () => become(terms.next(term.weight)),
    onkeydown: (event) => {
      if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
      event.preventDefault();
      event.stopPropagation();
      become(terms.nudged(term.weight, event.key === "ArrowUp"));
    } });
  if (term.url) { const image = make("img", { alt: "" }); show(image, term.url, 96); label.append(image); }
  label.append(term.label + terms.times(term.weight));
  label.setAttribute("aria-label", say("weightof", term.label, Math.abs(term.weight)));
  const away = make("button", { type: "button", className: "away", onclick: () => { query.terms = query.terms.filter((each) => each !== term); changed(); } });
  away.setAttribute("aria-label", say("remove", term.label));
  for (const [name, button] of Object.entries({ turn, label, away })) button.dataset.key = `${name}${number}`;
  const chip = make("span", { className: `chip parts term ${plus ? "plus" : "minus"}` }, turn, label, away);
  chip.setAttribute("role", "group");
  return chip;
}

const shown = (value) => (value === true ? say("yes") : value === false ? say("no") : String(value));

function drawResults() {
  redraw($("facets"), Object.entries(last?.facets ?? {}).flatMap(facet));
  redraw($("grid"), (last?.hits ?? []).map(card));
}

// New children; what had the focus among the old keeps it, else a keyboard's next key would go to nothing.
function redraw(parent, children) {
  const at = parent.contains(document.activeElement) ? document.activeElement : null;
  const keys = [at?.dataset.key, at?.closest("[data-id]")?.dataset.key].filter(Boolean);
  parent.replaceChildren(...children);
  const all = [...parent.querySelectorAll("[data-key]")];
  const found = keys.map((key) => all.find((each) => each.dataset.key === key)).find(Boolean);
  (found ?? (at && all[0]))?.focus({ preventScroll: true });
}

function facet([name, counts]) {
  const chosen = query.where[name] ?? [];
  // What is chosen stays, so that it can be taken back.
  const rows = counts.filter((each) => each.value !== "").slice(0, VALUES);
  for (const value of chosen) if (!rows.some((each) => each.value === value)) rows.push({ value, count: 0 });
  if (!rows.length || (rows.length < 2 && !chosen.length)) return [];
  const buttons = rows.map(({ value, count }) => {
    const button = make("button", { type: "button", onclick: () => toggle(name, value) },
      make("span", { textContent: shown(value) }), make("span", { className: "count", textContent: count }));
    button.setAttribute("aria-pressed", chosen.includes(value));
    button.dataset.key = JSON.stringify([name, value]);
    return button;
  });
  return [make("section", {}, make("h2", { textContent: tagged(name) }), ...buttons)];
}

function card(hit) {
  const image = make("img", { alt: hit.image?.caption || hit.title, loading: "lazy", decoding: "async" });
  const canvas = make("canvas");
  const picture = make("div", { className: "picture" }, image, canvas);
  let current = hit.image;
  if (current) show(image, current.url);
  const most = Math.max(...last.hits.map((each) => Math.max(...Object.values(each.parts))));
  const why = make("div", { className: "why" });
  for (const [part, score] of Object.entries(hit.parts)) {
    const bar = make("div", { className: `bar ${part}` });
    bar.style.width = `${Math.max(2, (100 * score) / (most || 1))}%`;
    why.append(make("span", { textContent: say(PARTS[part]) }), bar, make("span", { textContent: score.toFixed(4) }));
  }
  const actions = make("div", { className: "actions" }, make("button", { type: "button", className: "like", textContent: say("like"), onclick: () => moreLike(hit) }));
  if (hit.image) for (const [sign, name] of [[1, "addlike"], [-1, "unlike"]]) {
    const button = make("button", { type: "button", className: sign > 0 ? "more" : "less", textContent: sign > 0 ? "+" : "−", title: say(name), onclick: () => addLike(hit, sign) });
    button.setAttribute("aria-label", say(name));
    actions.append(button);
  }
  if (hit.images > 1 && query.text && collection?.pictures) {
    actions.append(make("button", { type: "button", className: "choose", textContent: `${say("thumbnails")} (${hit.images})`, onclick: () => choose(hit, (chosen) => {
      current = chosen;
      canvas.classList.remove("shown");
      show(image, chosen.url);
    }) }));
  }
  const item = make("li", { className: "hit", tabIndex: 0 }, picture, make("div", { className: "said" },
    make("h3", { textContent: hit.title || hit.id }), make("p", { textContent: hit.body }), why, actions));
  item.dataset.id = hit.id;
  item.dataset.key = JSON.stringify([hit.id]);
  for (const button of actions.children) button.dataset.key = JSON.stringify([hit.id, button.className]);
  let timer = 0;
  const enter = () => { timer = setTimeout(() => current && heat(hit, current, canvas), 200); };
  const leave = () => { clearTimeout(timer); canvas.classList.remove("shown"); };
  item.addEventListener("mouseenter", enter);
  item.addEventListener("mouseleave", leave);
  item.addEventListener("focusin", enter);
  item.addEventListener("focusout", leave);
  return item;
}

const heats = new Map();

async function heat(hit, image, canvas) {
  if (!collection?.heat_maps || !query.text) return;
  const path = `/v1/heat?${new URLSearchParams({ document: hit.id, hash: image.hash, text: query.text })}`;
  try {
    if (!heats.has(path)) heats.set(path, (await (await call(path)).json()).heat);
  } catch { return; } // it only says why; the results are there without it
  if (heats.size > 500) heats.delete(heats.keys().next().value);
  const rows = heats.get(path);
  canvas.height = rows.length;
  canvas.width = rows[0].length;
  const pixels = new ImageData(canvas.width, canvas.height);
  rows.flat().forEach((value, at) => pixels.data.set([255, 90 * (1 - value), 0, 255 * value], 4 * at));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  canvas.classList.add("shown");
}

async function choose(hit, chosen) {
  try {
    const response = await call("/v1/thumbnails", { body: { document: hit.id, text: query.text } });
    const { thumbnails, left_out } = await response.json();
    $("choosertitle").textContent = hit.title;
    $("choosersaid").textContent = thumbnails.length ? "" : say("nothumbnail");
    const shownAs = (image) => {
      const picture = make("img", { alt: image.caption || hit.title });
      show(picture, image.url, 240);
      return picture;
    };
    $("thumbnails").replaceChildren(...thumbnails.map(({ image, score, terms }) => {
      const why = Object.entries(terms).map(([name, value]) => `${say(name)} ${value.toFixed(3)}`).join(" · ");
      return make("li", {}, make("button", { type: "button", title: why, onclick: () => { chosen(image); $("chooser").close(); } },
        shownAs(image), make("span", { textContent: score.toFixed(3) })));
    }), ...left_out.map(({ image, reason, similarity }) => {
      // What is dangerous is not shown here either, and what is not searched could mostly not be had.
      const picture = reason === "below_floor" ? shownAs(image) : make("div", { className: "unseen" });
      const why = reason === "below_floor" && similarity !== null ? `${say(reason)} (${similarity.toFixed(3)})` : say(reason);
      return make("li", { className: "leftout" }, picture, make("span", { textContent: why }));
    }));
    $("chooser").showModal();
  } catch (error) { failed(error, () => choose(hit, chosen)); }
}

function speak() {
  document.documentElement.lang = language;
  document.title = say("title");
  for (const each of document.querySelectorAll("[data-t]")) each.textContent = say(each.dataset.t);
  for (const each of document.querySelectorAll("[data-t-placeholder]")) each.placeholder = say(each.dataset.tPlaceholder);
  for (const each of document.querySelectorAll("[data-t-title]")) each.title = say(each.dataset.tTitle);
  for (const each of document.querySelectorAll("[data-t-aria]")) each.setAttribute("aria-label", say(each.dataset.tAria));
  drawChips();
  drawResults();
}

// --- pictures from prompts

let painting = false;

function turn(to) {
  painting = to;
  document.body.classList.toggle("painting", painting);
  $("find").setAttribute("aria-selected", !painting);
  $("paint").setAttribute("aria-selected", painting);
  $("text").placeholder = say(painting ? "describe" : "placeholder");
  $("go").textContent = say(painting ? "draw" : "search");
  drawFrom();
  asked?.abort();
  if (painting) { $("grid").replaceChildren(); status(""); } else changed();
  $("text").focus();
}

// A picture to begin from: the query's own, or that of the document it is like.
let from = true;

function drawFrom() {
  const has = Boolean(query.picture || query.like?.url);
  $("from").hidden = !(painting && has);
  if (query.picture) $("fromimage").src = query.picture;
  else if (has) show($("fromimage"), query.like.url, 96);
  $("usefrom").checked = from;
  $("strength").disabled = !from;
}

async function beginning() {
  if (!from || $("from").hidden) return null;
  if (query.picture) return query.picture;
  const blob = await (await call(`${query.like.url}&side=1024`)).blob();
  return new Promise((done, failed) => {
    const reader = Object.assign(new FileReader(), { onload: () => done(reader.result), onerror: failed });
    reader.readAsDataURL(blob);
  });
}

async function paint(prompt) {
  asked?.abort();
  clearTimeout(retry);
  if (!prompt) return;
  asked = new AbortController();
  status(say("drawing"));
  try {
    const body = { prompt };
    const image = await beginning();
    if (image) Object.assign(body, { image, strength: Number($("strength").value) });
    const response = await call("/v1/generate", { body, signal: asked.signal });
    draw(prompt, await response.json());
  } catch (error) { failed(error, () => paint(prompt)); }
}

function draw(prompt, { image, seed, blackened }) {
  const use = make("button", { type: "button", className: "use", textContent: say("searchwith"), onclick: () => {
    Object.assign(query, { picture: image, like: null, text: "" });
    whole();
    $("text").value = "";
    turn(false);
  } });
  const said = make("div", { className: "said" }, make("h3", { textContent: prompt }), make("p", { textContent: `seed ${seed}` }));
  if (!blackened) said.append(make("div", { className: "actions" }, use));
  $("grid").prepend(make("li", { className: "hit painted" }, make("div", { className: "picture" }, make("img", { src: image, alt: prompt })), said));
  status(say(blackened ? "blackened" : "drawn"));
}

// --- what people do

$("usefrom").addEventListener("change", () => { from = $("usefrom").checked; drawFrom(); });
$("find").addEventListener("click", () => turn(false));
$("paint").addEventListener("click", () => turn(true));

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (painting) { paint($("text").value.trim()); return; }
  const said = terms.parse($("text").value);
  if (said) { add(said); return; }
  query.text = $("text").value.trim();
  changed();
});
$("plus").addEventListener("click", () => addSaid(1));
$("minus").addEventListener("click", () => addSaid(-1));
$("pick").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { take($("file").files[0]); $("file").value = ""; });
$("weight").addEventListener("change", () => { query.weight = Number($("weight").value); changed({ small: true }); });
window.addEventListener("popstate", ({ state }) => {
  recall(state);
  if (painting) turn(false);
  else { drawChips(); search(); }
});
$("language").addEventListener("click", () => {
  language = language === "ko" ? "en" : "ko";
  localStorage.setItem("language", language);
  speak();
  if (painting) turn(true);
});
$("keyform").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value.trim());
  $("key").value = "";
  $("keyform").hidden = true;
  begin();
});

const pictureOf = (items) => [...items].find((each) => each.type.startsWith("image/"));
document.addEventListener("paste", (event) => {
  const file = pictureOf(event.clipboardData.files);
  if (file) { event.preventDefault(); take(file); }
});
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const { files } = event.dataTransfer;
  if (files.length) take(pictureOf(files) ?? files[0]);
});

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey || $("chooser").open || $("cropper").open || painting) return;
  const typing = event.target.matches("input:not([type=range])");
  const hit = event.target.closest?.(".hit");
  if (event.key === "/" && !typing) { event.preventDefault(); $("text").select(); }
  else if (event.key === "Escape") { $("text").value = ""; Object.assign(query, structuredClone(BLANK), { weight: query.weight }); changed(); $("text").focus(); }
  else if (event.key === "ArrowDown" && event.target === $("text")) { event.preventDefault(); $("grid").firstElementChild?.focus(); }
  else if (hit && event.key.toLowerCase() === "m") hit.querySelector(".like").click();
  else if (hit && event.key.toLowerCase() === "t") hit.querySelector(".choose")?.click();
  else if (hit && event.key === "+") hit.querySelector(".more")?.click();
  else if (hit && event.key === "-") hit.querySelector(".less")?.click();
  else if (hit && event.key.startsWith("Arrow")) { event.preventDefault(); move(hit, event.key); }
});

function move(hit, key) {
  const cards = [...$("grid").children];
  const across = Math.max(1, cards.findIndex((each) => each.offsetTop > cards[0].offsetTop));
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[key];
  const next = cards.indexOf(hit) + step;
  if (next < 0 && key === "ArrowUp") $("text").focus();
  else cards[Math.min(Math.max(next, 0), cards.length - 1)].focus();
}

// --- a part of the picture

const cropper = new Cropper($("frame"), $("box"));

function openCropper() {
  if (query.picture) $("whole").src = query.picture;
  else show($("whole"), query.like.url, 1024);
  cropper.set(query.box ?? last?.box ?? null);
  $("locate").value = query.locate;
  $("locateform").hidden = !collection?.heat_maps;
  $("cropper").showModal();
  $("box").focus();
}

function use(box) {
  Object.assign(query, { box, locate: "" });
  $("cropper").close();
  changed();
}

$("locateform").addEventListener("submit", (event) => {
  event.preventDefault();
  Object.assign(query, { box: null, locate: $("locate").value.trim() });
  changed();
});
$("usebox").addEventListener("click", () => use(cropper.value));
$("usewhole").addEventListener("click", () => use(null));
$("box").addEventListener("keydown", (event) => { if (event.key === "Enter") use(cropper.value); });

async function begin() {
  try {
    collection = await (await call("/v1/collection")).json();
    $("tabs").hidden = !collection.generates;
    status("");
    changed({ small: true });
  } catch (error) { failed(error, begin); }
}

recall(history.state);
speak();
begin();
