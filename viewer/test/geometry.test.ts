import { expect, test } from "vitest";
import { beside, boxOf, cellAt, extent, fitted, type Geometry, hit, isStacked, MARGIN, placeOf, visible, zoomed } from "../src/geometry";

const base: Geometry = {
  rows: 7, tokens: 30, flip: false, transpose: false,
  cellW: 40, cellH: 20, x: 0, y: 0, width: 500, height: 180,
};
const TURNED = [false, true].flatMap((flip) => [false, true].map((transpose) => ({ flip, transpose })));

test.each(TURNED)("every cell has one place, flip $flip, transpose $transpose", (turn) => {
  const o = { ...base, ...turn };
  const seen = new Set<string>();
  for (let row = 0; row < o.rows; row++)
    for (let token = 0; token < o.tokens; token++) {
      const place = placeOf(o, { row, token });
      expect(cellAt(o, place)).toEqual({ row, token });
      seen.add(`${place.column}/${place.line}`);
    }
  expect(seen.size).toBe(o.rows * o.tokens);
});

test.each(TURNED)("the middle of a cell's box hits the cell, flip $flip, transpose $transpose", (turn) => {
  const g = { ...base, ...turn, x: 13, y: 7, width: 5000, height: 5000 };
  for (const cell of [{ row: 1, token: 2 }, { row: 6, token: 29 }, { row: 3, token: 15 }]) {
    const box = boxOf(g, cell);
    expect(hit(g, box.left + box.width / 2, box.top + box.height / 2)).toEqual(cell);
  }
});

test("layers run from top to bottom, tokens from left to right, until one turns them", () => {
  expect(placeOf(base, { row: 0, token: 5 })).toEqual({ column: 5, line: 0 });
  expect(placeOf({ ...base, flip: true }, { row: 0, token: 5 })).toEqual({ column: 5, line: 6 });
  expect(placeOf({ ...base, transpose: true }, { row: 0, token: 5 })).toEqual({ column: 0, line: 5 });
});

test("margins and the space beyond the cells hit nothing", () => {
  expect(hit(base, base.width - MARGIN + 1, 5)).toBeNull();
  expect(hit({ ...base, width: 5000 }, 40 * 30 + 1, 5)).toBeNull();
  expect(hit(base, -1, 5)).toBeNull();
});

test("only what can be seen is drawn", () => {
  const { columns, lines } = visible({ ...base, x: 400 });
  expect(columns[0]).toBe(10);
  expect(columns[1] - columns[0]).toBeLessThanOrEqual(Math.ceil((500 - MARGIN) / 40) + 1);
  expect(lines).toEqual([0, 7]);
  expect(visible({ ...base, x: 99999 }).columns).toEqual([30, 30]);
});

test("cells fill the room and stay readable", () => {
  const wide = fitted({ width: 1000, height: 400 }, { ...base, tokens: 8 });
  expect(extent({ ...base, tokens: 8, ...wide }).width).toBeLessThanOrEqual(1000);
  expect(fitted({ width: 300, height: 100 }, { ...base, tokens: 400 }).cellW).toBe(34);
});

test("zoom stays within reason", () => {
  expect(zoomed({ cellW: 40, cellH: 20 }, 1e6).cellW).toBeLessThanOrEqual(160);
  expect(zoomed({ cellW: 40, cellH: 20 }, 1e-6).cellH).toBeGreaterThanOrEqual(2);
});

test("narrow screens and long prompts are stacked", () => {
  expect(isStacked(700, 8)).toBe(true);
  expect(isStacked(1500, 8)).toBe(false);
  expect(isStacked(1500, 300)).toBe(true);
});

test("a card stays in the room", () => {
  const room = { width: 400, height: 300 };
  for (const left of [0, 180, 390])
    for (const top of [0, 150, 295]) {
      const at = beside(room, { left, top, width: 20, height: 20 }, { width: 236, height: 150 });
      expect(at.left).toBeGreaterThanOrEqual(0);
      expect(at.left + 236).toBeLessThanOrEqual(400);
      expect(at.top + 150).toBeLessThanOrEqual(300);
    }
});
