// What a head looks at from a token, and the line of an arc.

import { type Attention, type Look, meanAt } from "./document";

const LEAST = 0.01; // weaker weights are no arc
export const MOST_ARCS = 24;

export interface Seen {
  readonly token: number;
  readonly weight: number;
}

/** All that a head looks at from a token, strongest first (nothing where that is not here). */
export function seen(attention: Attention, head: string, query: number): Seen[] {
  const h = attention.heads.indexOf(head);
  const q = attention.queries.indexOf(query);
  const [, queries = 0, n = 0] = attention.weights.shape;
  if (h < 0 || q < 0) return [];
  const start = (h * queries + q) * n;
  const found: Seen[] = [];
  for (let i = 0; i < n; i++) {
    const weight = attention.weights.data[start + i]!;
    const token = attention.tokens ? attention.tokens.data[start + i]! : i;
    if (weight > 0) found.push({ token, weight });
  }
  return found.sort((a, b) => b.weight - a.weight);
}

/** Those worth an arc. */
export function arcs(attention: Attention, head: string, query: number): Seen[] {
  return seen(attention, head, query).filter(({ weight }) => weight >= LEAST).slice(0, MOST_ARCS);
}

/** The first of some tokens from which it is known what is looked at, else the last such token. */
export function queryOf(attention: Attention, wanted: readonly (number | null | undefined)[]): number {
  const there = wanted.find((token) => token != null && attention.queries.includes(token));
  return there ?? attention.queries.at(-1) ?? 0;
}

/** The head to begin with: the one that matches best, else the one that looks hardest from the
 * token at another one than itself and the first. */
export function firstHead(look: Look, attention: Attention, query: number): string | null {
  const scores = look.grids.find((grid) => grid.column === "head");
  let best: string | null = null;
  let most = -Infinity;
  for (const head of attention.heads) {
    const value = scores ? scoreOf(look, head, scores) : strength(attention, head, query);
    if (value > most) [best, most] = [head, value];
  }
  return best;
}

function scoreOf(look: Look, head: string, scores: Look["grids"][number]): number {
  const [layer, name = ""] = head.split(".");
  const row = look.rows.indexOf(layer ?? "");
  const token = scores.columns?.indexOf(name) ?? -1;
  const value = row < 0 || token < 0 ? NaN : meanAt(scores.values, { row, token });
  return Number.isNaN(value) ? -Infinity : value;
}

function strength(attention: Attention, head: string, query: number): number {
  const other = seen(attention, head, query).find(({ token }) => token !== query && token !== 0);
  return other?.weight ?? 0;
}

export interface Lane {
  /** How deep the lane of the arcs is, and how far apart tokens are. */
  readonly depth: number;
  readonly step: number;
  readonly tokens: number;
}

/** The path of an arc between two tokens along a lane: far ones rise higher, a token's own loops. */
export function path(lane: Lane, from: number, to: number, vertical: boolean): string {
  const [a, b] = [(from + 0.5) * lane.step, (to + 0.5) * lane.step];
  const base = lane.depth;
  const reach = Math.sqrt(Math.abs(from - to) / Math.max(1, lane.tokens - 1));
  const rise = (base - 4) * Math.min(1, 0.3 + 0.9 * reach) * (4 / 3);
  const wide = from === to ? Math.min(9, lane.step * 0.4) : 0;
  const points = [[a - wide, base], [a - wide, base - rise], [b + wide, base - rise], [b + wide, base]];
  const [p, q, r, s] = points.map(([along, across]) =>
    (vertical ? [across, along] : [along, across]).map((x) => x!.toFixed(1)).join(" "),
  );
  return `M${p}C${q} ${r} ${s}`;
}

/** What is seen of arcs: tokens in sight by their arc, the strongest out of sight by name. */
export function inSight(
  seen: readonly Seen[],
  range: readonly [number, number],
  most: number,
): { near: Seen[]; before: Seen[]; after: Seen[] } {
  const [first, stop] = range;
  return {
    near: seen.filter(({ token }) => token >= first && token < stop),
    before: seen.filter(({ token }) => token < first).slice(0, most),
    after: seen.filter(({ token }) => token >= stop).slice(0, most),
  };
}

/** The path of an arc that ends at the edge of what is seen, at a depth of the lane. */
export function pathOut(lane: Lane, from: number, edge: number, depth: number, vertical: boolean): string {
  const a = (from + 0.5) * lane.step;
  const points = [[a, lane.depth], [a, depth], [a + (edge - a) * 0.15, depth], [edge, depth]];
  const [p, q, r, s] = points.map(([along, across]) =>
    (vertical ? [across, along] : [along, across]).map((x) => x!.toFixed(1)).join(" "),
  );
  return `M${p}C${q} ${r} ${s}`;
}

export function thickness(weight: number): number {
  return 1 + 4.5 * weight;
}

export function opacity(weight: number): number {
  return Math.min(1, 0.22 + 0.9 * weight);
}
