import { expect, test } from "vitest";
import { arcs, firstHead, inSight, MOST_ARCS, path, queryOf, seen, thickness } from "../src/attention";
import { attentionGrid, headAt, headsAt } from "../src/derived";
import { at, type Attention, decode } from "../src/document";
import { doc, raw, whole } from "./made";

const made = doc();
const look = made.looks[0]!;
const attention = look.attention!;

test("what a head looks at from a token, strongest first", () => {
  expect(seen(attention, "0.H0", 2).map(({ token }) => token)).toEqual([2, 1, 0]);
  expect(seen(attention, "0.H0", 2)[0]!.weight).toBeCloseTo(0.7);
  expect(seen(attention, "7.H7", 2)).toEqual([]);
  expect(seen(attention, "0.H0", 9)).toEqual([]);
});

test("where only the strongest are kept, they are of the tokens that are named", () => {
  const changed = raw();
  changed.looks[0]!.attention!.tokens = whole(
    [0, 1, 2, 1, 0, 2, 2, 1, 0, 0, 1, 2, 0, 1, 2, 0, 1, 2], [2, 3, 3],
  );
  const kept = decode(changed).looks[0]!.attention!;
  expect(seen(kept, "0.H0", 2)[0]).toMatchObject({ token: 0 });
});

test("arcs leave out what is next to nothing, and are not too many", () => {
  const n = 100;
  const many: Attention = {
    heads: ["0.H0"], queries: [99], tokens: null, valueWeighted: false,
    weights: { shape: [1, 1, n], data: Float32Array.from({ length: n }, (_, i) => (i < 50 ? 0.019 : 0.001)) },
  };
  const drawn = arcs(many, "0.H0", 99);
  expect(drawn).toHaveLength(MOST_ARCS);
  expect(drawn.every(({ weight }) => weight > 0.01)).toBe(true);
});

test("the token that looks: the first that is known, else the last that is", () => {
  const few = { ...attention, queries: [0, 2] };
  expect(queryOf(few, [null, 1, 2, 0])).toBe(2);
  expect(queryOf(few, [undefined, 1])).toBe(2);
});

test("the head to begin with: the best by its score, else the one that looks hardest elsewhere", () => {
  expect(firstHead(look, attention, 2)).toBe("0.H0");
  const bare = { ...look, grids: [] };
  expect(firstHead(bare, attention, 2)).toBe("0.H0"); // 0.2 on token 1; 0.H1 has 0.1 there
});

test("an arc starts and ends in the middle of its tokens, far ones rise higher", () => {
  const lane = { depth: 50, step: 10, tokens: 100 };
  const near = path(lane, 9, 8, false);
  const far = path(lane, 90, 2, false);
  expect(near).toMatch(/^M95\.0 50\.0C.* 85\.0 50\.0$/);
  const height = (arc: string) => Number(/C[\d.]+ (-?[\d.]+)/.exec(arc)![1]);
  expect(height(far)).toBeLessThan(height(near));
  expect(path(lane, 9, 8, true)).toMatch(/^M50\.0 95\.0/);
  expect(thickness(1)).toBeGreaterThan(2 * thickness(0.1));
});

test("tokens out of sight are told apart by their side", () => {
  const found = inSight([5, 30, 12, 40, 1].map((token) => ({ token, weight: 0.2 })), [10, 35], 1);
  expect(found.near.map(({ token }) => token)).toEqual([30, 12]);
  expect(found.before.map(({ token }) => token)).toEqual([5]);
  expect(found.after.map(({ token }) => token)).toEqual([40]);
});

test("the heads of a trace at a token are columns", () => {
  const trace = look.grids.find(({ id }) => id === "trace.head")!;
  const grid = headsAt(trace, made.labels, 1);
  expect(grid.columns).toEqual(["H0", "H1"]);
  expect(grid.values.shape).toEqual([2, 2]);
  expect(at(grid.values, { row: 1, token: 1 })).toBeCloseTo(0.2);
  expect(at(grid.values, { row: 0, token: 1 })).toBeNaN();
  expect(grid.space).toBe(look.grids.find(({ id }) => id === "heads")!.space);
  expect(grid.space).not.toBe(trace.space);
});

test("attention from a token: heads are the parts of a cell, rows without heads are empty", () => {
  const grid = attentionGrid(look, made.labels, attention, 2);
  expect(grid.values.shape).toEqual([2, 3, 2]);
  expect(at(grid.values, { row: 1, token: 2 }, 0)).toBeCloseTo(0.7);
  expect(at(grid.values, { row: 1, token: 0 }, 1)).toBeCloseTo(0.9);
  expect(at(grid.values, { row: 0, token: 0 }, 0)).toBeNaN();
});

test("a head is named by its layer; the embedding has none", () => {
  expect(headAt(look, 1, 3)).toBe("0.H3");
  expect(headAt(look, 0, 3)).toBeNull();
  expect(headAt(look, 9, 3)).toBeNull();
});
