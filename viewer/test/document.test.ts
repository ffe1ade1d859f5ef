import { expect, test } from "vitest";
import { difference } from "../src/compare";
import { at, decode, DocumentError, isRight, labelOf, margins, numbers, partsAt, strongest, topOf } from "../src/document";
import { doc, floats, raw } from "./made";

test("arrays come back as they were", () => {
  const values = [1.5, -2, NaN, 0, 1e-7, 3];
  const read = numbers(floats(values, [2, 3]));
  expect(Array.from(read.data)).toEqual(values.map(Math.fround));
  expect(at(read, { row: 1, token: 0 })).toBe(0);
});

test("an array whose length is not its shape's is refused", () => {
  expect(() => numbers(floats([1, 2, 3], [2, 2]))).toThrow(DocumentError);
});

test("another schema is refused with both numbers", () => {
  expect(() => decode({ ...raw(), schema_version: 7 })).toThrow(/schema 2.*7/);
});

test("a cell's parts are its own", () => {
  const map = doc().looks[0]!.grids[2]!;
  expect(Array.from(partsAt(map.values, { row: 1, token: 2 }))).toEqual([0.5, -1, 0.001, 0].map(Math.fround));
  expect(strongest(map.values, { row: 0, token: 0 })).toBe(-1);
});

test("top tokens, their labels, and where the lens is right", () => {
  const made = doc();
  const look = made.looks[0]!;
  expect(topOf(look, look.lenses[0]!, { row: 0, token: 0 }).map(({ label }) => label)).toEqual(["<img onerror=x>", "z"]);
  expect(isRight(made, look.lenses[0]!, { row: 0, token: 0 })).toBe(true);
  expect(isRight(made, look.lenses[0]!, { row: 1, token: 1 })).toBe(false);
  expect(isRight(made, look.lenses[0]!, { row: 1, token: 2 })).toBe(false); // nothing follows the last
  expect(labelOf(look, -1)).toBe("");
  expect(labelOf(look, 123)).toBe("#123");
});

test("means leave out what is no number", () => {
  const { byRow, byToken } = margins(doc().looks[0]!.grids[1]!.values);
  expect(byRow[0]).toBeCloseTo(0.8 / 3);
  expect(byRow[1]).toBeCloseTo((0.01 - 0.4) / 2);
  expect(byToken[1]).toBe(0);
});

test("a difference is A - B on the same grid, symmetric around zero, and remembers both", () => {
  const [a, b] = [decode(raw()).looks[0]!, decode(raw(0.5)).looks[0]!];
  const made = difference(a, b);
  const grid = made.grids.find(({ id }) => id === "trace.block")!;
  expect(at(grid.values, { row: 0, token: 0 })).toBeCloseTo(0.4);
  expect([grid.low, grid.high]).toEqual([-grid.high, grid.high]);
  expect(at(grid.details["a"]!, { row: 0, token: 0 })).toBeCloseTo(0.8);
  expect(at(grid.details["b"]!, { row: 0, token: 0 })).toBeCloseTo(0.4);
  expect(made.name).toBe("one − two");
});

test("grids of other shapes are not subtracted", () => {
  const other = raw();
  other.looks[0]!.grids[1] = { ...other.looks[0]!.grids[1]!, values: floats([1, 2, 3, 4], [2, 2]) };
  const made = difference(doc().looks[0]!, decode(other).looks[0]!);
  expect(made.grids.map(({ id }) => id)).not.toContain("trace.block");
});
