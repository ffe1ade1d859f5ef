// The colours of some cells as pixels: one a cell, or one a part of a cell.

import { position, palette, type Theme } from "./colours";
import { type Grid, partsAt, partsOf } from "./document";
import { cellAt, type Orientation } from "./geometry";

export const WIDE = 80; // units across a cell at most

/** How the parts of a cell are laid out in it, in reading order. */
export function block(grid: Grid): { across: number; down: number } {
  const n = partsOf(grid.values);
  if (grid.parts !== "unit") return { across: n, down: 1 };
  const down = Math.ceil(n / WIDE);
  return { across: Math.ceil(n / down), down };
}

export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray<ArrayBuffer>;
}

/** RGBA pixels of the cells in some columns and lines, in the orientation of the view. */
export function pixels(
  grid: Grid,
  o: Orientation,
  columns: readonly [number, number],
  lines: readonly [number, number],
  theme: Theme,
): Pixels {
  const { across, down } = block(grid);
  const width = Math.max(1, (columns[1] - columns[0]) * across);
  const height = Math.max(1, (lines[1] - lines[0]) * down);
  const data = new Uint8ClampedArray(width * height * 4);
  const colours = palette(grid.scale, theme);
  const empty: readonly number[] = theme === "dark" ? [43, 48, 55] : [228, 228, 226];
  for (let line = lines[0]; line < lines[1]; line++)
    for (let column = columns[0]; column < columns[1]; column++) {
      const parts = partsAt(grid.values, cellAt(o, { column, line }));
      for (let part = 0; part < across * down; part++) {
        const x = (column - columns[0]) * across + (part % across);
        const y = (line - lines[0]) * down + Math.floor(part / across);
        const t = part < parts.length ? position(grid, parts[part]!) : NaN;
        const to = (y * width + x) * 4;
        if (Number.isNaN(t)) {
          data[to] = empty[0]!;
          data[to + 1] = empty[1]!;
          data[to + 2] = empty[2]!;
        } else {
          const from = 3 * Math.round(t * (colours.steps - 1));
          data[to] = colours.bytes[from]!;
          data[to + 1] = colours.bytes[from + 1]!;
          data[to + 2] = colours.bytes[from + 2]!;
        }
        data[to + 3] = 255;
      }
    }
  return { width, height, data };
}
