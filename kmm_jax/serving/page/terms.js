// Terms of a composed query as people write them: "+ 꽃무늬 - 빨간색*0.5".

export const WEIGHTS = [0.5, 1, 2]; // what a click goes through
export const STEP = 0.25;
export const MOST = 4;

const SIGNS = /"[^"]*"|(?:^|(?<=\s))([+＋−－–-])(?=\s|$)/g;

// The terms of a text; null where it begins with no sign or one of them says nothing.
export function parse(text) {
  const signs = [...text.matchAll(SIGNS)].filter((each) => each[1]);
  if (!signs.length || text.slice(0, signs[0].index).trim()) return null;
  const found = signs.map((each, number) => {
    const end = signs[number + 1]?.index ?? text.length;
    const body = text.slice(each.index + 1, end).trim();
    const [, quoted, plain, weight] = body.match(/^(?:"([^"]*)"|(.*?))\s*(?:[*×]\s*(\d*\.?\d+))?$/s) ?? [];
    const said = (quoted ?? plain ?? "").trim();
    const size = Math.min(Number(weight ?? 1), 100);
    return { text: said, label: said, weight: "+＋".includes(each[1]) ? size : -size };
  });
  return found.every((each) => each.text && each.weight) ? found : null;
}

export const asked = ({ text, like, weight }) => (like ? { like, weight } : { text, weight });

// As a person reads a weight: nothing where it is 1.
export const times = (weight) => (Math.abs(weight) === 1 ? "" : ` ×${Math.abs(weight)}`);

// The next weight of a click, with its sign.
export function next(weight) {
  const size = Math.abs(weight);
  return Math.sign(weight) * (WEIGHTS.find((each) => each > size) ?? WEIGHTS[0]);
}

export const nudged = (weight, up) =>
  Math.sign(weight) * Math.min(MOST, Math.max(STEP, Math.abs(weight) + (up ? STEP : -STEP)));
