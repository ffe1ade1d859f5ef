// Two looks at the same tokens as one: A - B, on the grids that both have.

import { type Grid, type Look, type Numbers, partsOf } from "./document";

export function difference(a: Look, b: Look): Look {
  const grids = a.grids.flatMap((grid) => {
    const other = b.grids.find((candidate) => candidate.id === grid.id);
    return other && sameShape(grid.values, other.values) && !grid.details["unit"]
      ? [differenceOf(grid, other, a.name, b.name)]
      : [];
  });
  // what belongs to one of them alone would read as if it were the difference's
  return { ...a, raw: { ...a.raw, notes: [], neurons: {} }, name: `${a.name} − ${b.name}`, grids, lenses: [], attention: null };
}

function bothExact(a: Grid, b: Grid): Record<string, Numbers> {
  const [one, other] = [a.details["exact"], b.details["exact"]];
  if (!one || !other) return {};
  const data = Uint8Array.from(one.data, (exact, i) => exact & (other.data[i] ?? 0));
  return { exact: { shape: one.shape, data } };
}

function sameShape(a: Numbers, b: Numbers): boolean {
  return a.shape.length === b.shape.length && a.shape.every((n, i) => n === b.shape[i]);
}

function differenceOf(a: Grid, b: Grid, nameA: string, nameB: string): Grid {
  const data = new Float32Array(a.values.data.length);
  let limit = 0;
  for (let i = 0; i < data.length; i++) {
    data[i] = a.values.data[i]! - b.values.data[i]!;
    const size = Math.abs(data[i]!);
    if (size > limit && Number.isFinite(size)) limit = size;
  }
  return {
    ...a,
    title: `${a.title}: ${nameA} − ${nameB}`,
    subtitle: `${nameA}: ${a.subtitle}. ${nameB}: ${b.subtitle}`,
    meaning:
      a.meaning === b.meaning
        ? `difference of: ${a.meaning}`
        : `${nameA}: ${a.meaning}; less ${nameB}: ${b.meaning}`,
    scale: partsOf(a.values) > 1 && a.parts === "unit" ? "symlog" : "diverging",
    low: -(limit || 1),
    high: limit || 1,
    values: { shape: a.values.shape, data },
    details: { a: a.values, b: b.values, ...bothExact(a, b) },
    asked: null,
    lens: null,
    marked: null,
  };
}
