// Where a cell is on the screen. One geometry serves both grids, so that they line up.
//
// A cell (row, token) stands in a column and a line: token and row, or the other way round where
// the view is transposed; flipped, the rows run from the last to the first.

import type { Cell } from "./document";

export const MARGIN = 46; // right of the cells: means along each line
export const FOOT = 36; // below the cells: means along each column
const SMALLEST = 2;
const LARGEST = 160;

export interface Orientation {
  readonly rows: number;
  readonly tokens: number;
  readonly flip: boolean;
  readonly transpose: boolean;
}

/** Sizes in CSS pixels. */
export interface Geometry extends Orientation {
  readonly cellW: number;
  readonly cellH: number;
  /** How far the cells are scrolled. */
  readonly x: number;
  readonly y: number;
  /** Of the visible part, margin and foot included. */
  readonly width: number;
  readonly height: number;
}

export interface Place {
  readonly column: number;
  readonly line: number;
}

export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

export function columnsOf(o: Orientation): number {
  return o.transpose ? o.rows : o.tokens;
}

export function linesOf(o: Orientation): number {
  return o.transpose ? o.tokens : o.rows;
}

export function placeOf(o: Orientation, cell: Cell): Place {
  const along = o.flip ? o.rows - 1 - cell.row : cell.row;
  return o.transpose ? { column: along, line: cell.token } : { column: cell.token, line: along };
}

export function cellAt(o: Orientation, place: Place): Cell {
  const along = o.transpose ? place.column : place.line;
  const token = o.transpose ? place.line : place.column;
  return { row: o.flip ? o.rows - 1 - along : along, token };
}

/** Which cell is under a point of the visible part, if any. */
export function hit(g: Geometry, px: number, py: number): Cell | null {
  if (px < 0 || px >= g.width - MARGIN || py < 0 || py >= g.height - FOOT) return null;
  const column = Math.floor((px + g.x) / g.cellW);
  const line = Math.floor((py + g.y) / g.cellH);
  if (column < 0 || column >= columnsOf(g) || line < 0 || line >= linesOf(g)) return null;
  return cellAt(g, { column, line });
}

/** Where a cell is in the visible part. */
export function boxOf(g: Geometry, cell: Cell): Box {
  const { column, line } = placeOf(g, cell);
  return {
    left: column * g.cellW - g.x,
    top: line * g.cellH - g.y,
    width: g.cellW,
    height: g.cellH,
  };
}

/** The columns and lines that can be seen: first, and after the last. */
export function visible(g: Geometry): { columns: [number, number]; lines: [number, number] } {
  return {
    columns: within(g.x, g.width - MARGIN, g.cellW, columnsOf(g)),
    lines: within(g.y, g.height - FOOT, g.cellH, linesOf(g)),
  };
}

function within(from: number, room: number, size: number, n: number): [number, number] {
  const first = Math.max(0, Math.min(n, Math.floor(from / size)));
  return [first, Math.max(first, Math.min(n, Math.ceil((from + room) / size)))];
}

/** How wide and high all cells are together, with margin and foot. */
export function extent(g: Orientation & { cellW: number; cellH: number }): {
  width: number;
  height: number;
} {
  return {
    width: columnsOf(g) * g.cellW + MARGIN,
    height: linesOf(g) * g.cellH + FOOT,
  };
}

/** Cell sizes that fill the room: no smaller than is readable, no larger than is pleasant. */
export function fitted(
  room: { width: number; height: number },
  o: Orientation,
): { cellW: number; cellH: number } {
  const cellW = (room.width - MARGIN) / Math.max(1, columnsOf(o));
  const cellH = (room.height - FOOT) / Math.max(1, linesOf(o));
  return { cellW: Math.min(130, Math.max(34, cellW)), cellH: Math.min(columnsOf(o) > 24 ? 28 : 40, Math.max(16, cellH)) };
}

/** The same sizes, `factor` times as large, within reason. */
export function zoomed(
  g: { cellW: number; cellH: number },
  factor: number,
): { cellW: number; cellH: number } {
  const clamp = (size: number) => Math.min(LARGEST, Math.max(SMALLEST, size));
  return { cellW: clamp(g.cellW * factor), cellH: clamp(g.cellH * factor) };
}

/** Whether names of columns must stand sideways; a name of several words may have several lines. */
export function areSideways(names: readonly string[], cellW: number): boolean {
  const words = names.flatMap((name) => name.split(" "));
  return cellW < 10 + 6.5 * Math.max(1, ...words.map((word) => word.length));
}

/** How high the names of columns stand above the cells. */
export function headOf(names: readonly string[], cellW: number): number {
  const longest = Math.max(0, ...names.map((name) => name.length));
  if (longest <= 4) return 26;
  return areSideways(names, cellW) ? Math.max(86, 7 * longest) : 44;
}

/** One below the other where half the width is too little for the tokens of either grid. */
export function isStacked(width: number, columns: number): boolean {
  return width < 860 || (width - 160) / 2 < 34 * Math.min(columns, 26);
}

/** Where a card stands beside a cell without leaving the room. */
export function beside(
  room: { width: number; height: number },
  box: Box,
  card: { width: number; height: number },
): { left: number; top: number } {
  const right = box.left + box.width + 10;
  const left = right + card.width <= room.width ? right : box.left - card.width - 10;
  return {
    left: Math.max(0, Math.min(left, room.width - card.width)),
    top: Math.max(0, Math.min(box.top + box.height + 6, room.height - card.height)),
  };
}
