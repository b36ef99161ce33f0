// A query as the page's address, so that a link repeats it and the browser's arrows go through them.
// A person's own picture, and the part of it that counts, stay out: links are passed on.

import { asked } from "/page/terms.js";

const list = (value) => (Array.isArray(value) ? value : []);
const number = (value) => typeof value === "number" && Number.isFinite(value);
const text = (value) => (typeof value === "string" ? value : "");

function parsed(json) {
  try { return JSON.parse(json); } catch { return null; }
}

// What the address says of a query: "?q=…&like=…", or nothing.
export function write({ text, picture, like, where, weight, terms, box, locate }, blank) {
  const found = new URLSearchParams();
  if (text) found.set("q", text);
  if (like) found.set("like", like.id);
  if (terms.length) found.set("terms", JSON.stringify(terms.map(asked)));
  if (Object.keys(where).length) found.set("where", JSON.stringify(where));
  if (weight !== blank.weight) found.set("weight", weight);
  if (!picture && locate) found.set("locate", locate);
  else if (!picture && box) found.set("box", box.map((each) => each.toFixed(3)).join(","));
  const all = found.toString();
  return all && `?${all}`;
}

// The query that an address says; what makes no sense in it is left out.
export function read(search, blank) {
  const said = new URLSearchParams(search);
  const where = {};
  for (const [name, values] of Object.entries(parsed(said.get("where")) ?? {})) {
    const some = list(values).filter((each) => ["string", "boolean"].includes(typeof each));
    if (some.length) where[name] = some;
  }
  const terms = list(parsed(said.get("terms"))).flatMap((each) => {
    const [like, words] = [text(each?.like), text(each?.text)];
    if (!(like || words) || !number(each.weight) || !each.weight) return [];
    return [like ? { like, label: like, weight: each.weight } : { text: words, label: words, weight: each.weight }];
  });
  const weight = Number(said.get("weight") ?? blank.weight);
  const box = (said.get("box") ?? "").split(",").map(Number);
  const like = said.get("like");
  return {
    ...structuredClone(blank),
    text: said.get("q") ?? "",
    like: like ? { id: like, title: like } : null,
    where,
    terms,
    weight: weight >= 0 && weight <= 1 ? weight : blank.weight,
    box: like && box.length === 4 && box.every(number) ? box : null,
    locate: (like && said.get("locate")) || "",
  };
}
