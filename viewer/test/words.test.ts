import { expect, test } from "vitest";
import { block, pixels } from "../src/bitmap";
import { palette, position } from "../src/colours";
import { difference } from "../src/compare";
import { decode } from "../src/document";
import { brief, inside, isMarked, lines, sentence, strongUnits, unitName, whereabouts } from "../src/words";
import { doc, raw } from "./made";

const made = doc();
const look = made.looks[0]!;
const [lens, trace, units] = [look.grids[0]!, look.grids[1]!, look.grids[2]!];

test("a cell of the lens shows its first token, a cell of the trace a large effect", () => {
  expect(inside(look, lens, { row: 0, token: 0 })).toBe("<img onerror=x>");
  expect(inside(look, trace, { row: 0, token: 0 })).toBe("+.8");
  expect(inside(look, trace, { row: 1, token: 0 })).toBe("");
  expect(inside(look, trace, { row: 1, token: 1 })).toBe("");
  expect(inside(look, trace, { row: 1, token: 2 })).toBe("−.4");
});

test("the card of the lens: top tokens with probabilities, the true one marked", () => {
  const told = lines(made, look, lens, { row: 0, token: 0 });
  expect(told[0]).toMatchObject({ name: "<img onerror=x>", value: "0.5", mark: true });
  expect(told[1]).toMatchObject({ name: "z", mark: false });
});

test("the card of the trace: effect, spread, restored, clean and corrupted score", () => {
  const told = lines(made, look, trace, { row: 0, token: 0 });
  expect(told.map(({ name }) => name)).toEqual(["effect", "spread over samples", "probability restored", "clean", "corrupted"]);
  expect(told.map(({ value }) => value)).toEqual(["+0.8", "± 0.02", "0.9", "0.9", "0.1"]);
});

test("the strongest units, exact or estimated", () => {
  const strong = strongUnits(units, { row: 1, token: 2 }, 2);
  expect(strong[0]).toMatchObject({ unit: 1, effect: -1, exact: true });
  expect(strong[1]).toMatchObject({ unit: 0, exact: false });
  expect(unitName(units, "0", 7)).toBe("0.7");
  expect(lines(made, look, units, { row: 1, token: 2 })[1]!.name).toContain("(estimated)");
});

test("neurons of experts have names wherever they are told", () => {
  const mixed = { ...units, experts: { "0": [2, 1, 2] } };
  const names = [0, 1, 2, 3].map((unit) => unitName(mixed, "0", unit));
  expect(names).toEqual(["0.E0.N0", "0.E1.N0", "0.S.N0", "0.S.N1"]);
  expect(unitName(mixed, "1", 3)).toBe("1.3");
  const told = lines(made, look, mixed, { row: 1, token: 2 });
  expect(told.map(({ name }) => name).slice(0, 3)).toEqual(["0.E1.N0", "0.E0.N0 (estimated)", "0.S.N0 (estimated)"]);
  const older = raw();
  delete (older.looks[0]!.grids[2] as { experts?: unknown }).experts;
  expect(decode(older).looks[0]!.grids[2]!.experts).toEqual({});
});

test("a difference tells of both and of itself", () => {
  const both = difference(look, decode(raw(0.5)).looks[0]!);
  const grid = both.grids.find(({ id }) => id === "trace.block")!;
  expect(lines(made, both, grid, { row: 0, token: 0 }).map(({ value }) => value)).toEqual(["0.8", "0.4", "+0.4"]);
});

test("those who listen hear it all", () => {
  const told = sentence(made, look, [lens, trace], { row: 0, token: 0 });
  expect(told).toContain(whereabouts(made, look, { row: 0, token: 0 }));
  expect(told).toContain("effect +0.8");
  expect(told).toContain("true next");
});

test("a block of units is 80 wide at most and in reading order", () => {
  expect(block(units)).toEqual({ across: 4, down: 1 });
  const many = { ...units, values: { shape: [1, 1, 768], data: new Float32Array(768) } };
  expect(block(many)).toEqual({ across: 77, down: 10 });
});

test("pixels have the colours of the values, empty where there is none", () => {
  const o = { rows: 2, tokens: 3, flip: false, transpose: false };
  const { width, height, data } = pixels(trace, o, [0, 3], [0, 2], "light");
  expect([width, height]).toEqual([3, 2]);
  const colour = palette("diverging", "light").css(position(trace, trace.values.data[0]!));
  expect(`rgb(${data.slice(0, 3).join(" ")})`).toBe(colour);
  expect(Array.from(data.slice(16, 19))).toEqual([228, 228, 226]); // NaN at row 0, token 1 of line 1
});

test("flipped pixels are the same lines from below", () => {
  const o = { rows: 2, tokens: 3, flip: false, transpose: false };
  const plain = pixels(trace, o, [0, 3], [0, 2], "light").data;
  const flipped = pixels(trace, { ...o, flip: true }, [0, 3], [0, 2], "light").data;
  expect(Array.from(flipped.slice(0, 12))).toEqual(Array.from(plain.slice(12)));
});

test("a grid of heads: share, spread, what its star means, and the head's name", () => {
  const heads = look.grids.find(({ id }) => id === "heads")!;
  const cell = { row: 1, token: 0, space: heads.space };
  expect(inside(look, heads, cell)).toBe(".92");
  expect(isMarked(made, heads, cell)).toBe(true);
  expect(isMarked(made, heads, { ...cell, token: 1 })).toBe(false);
  expect(lines(made, look, heads, cell).map(({ name }) => name)).toEqual([
    "prefix matching", "spread", "★ above 0.5: induction head",
  ]);
  expect(whereabouts(made, look, cell, heads)).toBe("head 0.H0");
  const told = sentence(made, look, [lens, heads], cell);
  expect(told).toContain("head 0.H0");
  expect(told).not.toContain("token"); // the lens has no such column
  expect(brief(look, heads, { ...cell, row: 0 })).toBe("");
});

test("columns of another kind are named by what they are", () => {
  const grid = { ...lens, lens: null, columns: ["first", "second"], column: "occurrence", space: "x" };
  expect(whereabouts(made, look, { row: 1, token: 1, space: "x" }, grid)).toBe("layer 0, occurrence second");
});

test("each lens has its own top tokens", () => {
  const tuned = look.grids.find(({ id }) => id === "lens.tuned")!;
  expect(inside(look, tuned, { row: 0, token: 0 })).toBe("z");
  expect(brief(look, tuned, { row: 0, token: 0 })).toBe("z 1");
  expect(inside(look, lens, { row: 0, token: 0 })).toBe("<img onerror=x>");
});

test("in a cell of heads the one that is pointed at comes first", () => {
  const grid = look.grids.find(({ id }) => id === "trace.head")!;
  const cell = { row: 1, token: 0 };
  expect(lines(made, look, grid, cell)[0]).toMatchObject({ name: "head 0.H1", head: "0.H1" });
  expect(lines(made, look, grid, cell, "0.H0")[0]).toMatchObject({ head: "0.H0" });
  expect(lines(made, look, grid, { row: 0, token: 0 }).filter(({ head }) => head)).toEqual([]);
});
