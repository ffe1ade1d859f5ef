// Lenses of other runs: which cell of a trace one can be asked for, and how it joins a look.

import {
  at,
  type Cell,
  type Grid,
  type Look,
  partsAt,
  type RawArray,
  type RawDocument,
  type RawLook,
} from "./document";
import { headAt } from "./derived";

const WHAT = { block: "this", mlp: "this MLP", attn: "this attention" };

/** A cell of a trace as the server knows it, and what the button says. */
export interface Restorable {
  readonly cell: string;
  readonly label: string;
}

/** The state of a trace whose run has a lens of its own; of a cell with heads, the strongest one.
 * Null where the trace restored nothing (or is none). `token`: where the heads are set apart. */
export function restorable(look: Look, grid: Grid, cell: Cell, token: number): Restorable | null {
  const kind = /^trace\.(block|mlp|attn|head)(@token)?$/.exec(grid.id)?.[1];
  const position = grid.columns ? token : cell.token;
  if (!kind || !grid.asked || position > grid.asked.focus) return null;
  const verb = grid.asked.direction === "noise" ? "corrupting" : "restoring";
  const place = `${kind}:${look.rows[cell.row]}:${position}`;
  if (kind !== "head") {
    if (!Number.isFinite(at(grid.values, cell))) return null;
    return { cell: place, label: `lens after ${verb} ${WHAT[kind as keyof typeof WHAT]}` };
  }
  const head = grid.columns ? cell.token : strongestPart(partsAt(grid.values, cell));
  const known = Number.isFinite(grid.columns ? at(grid.values, cell) : head);
  const name = headAt(look, cell.row, head);
  return known && name
    ? { cell: `${place}:${head}`, label: `lens after ${verb} ${name}` }
    : null;
}

/** Which part has the largest magnitude; NaN where none is known. */
function strongestPart(values: ArrayLike<number>): number {
  let best = NaN;
  for (let part = 0; part < values.length; part++)
    if (Number.isFinite(values[part]) && !(Math.abs(values[part]!) <= Math.abs(values[best] ?? NaN)))
      best = part;
  return best;
}

/** The lenses of `found` join the look that has these settings (the same object); and the first
 * grid of the lens that was asked for. A look that is gone is left alone. */
export function joined(
  shown: RawDocument,
  found: RawDocument,
  settings: RawLook["settings"],
): { document: RawDocument; grid: string | null } {
  const look = shown.looks.find((one) => one.settings === settings);
  const [made] = found.looks;
  if (!look || !made) return { document: shown, grid: null };
  const rows = made.rows.every((row) => look.rows.includes(row)) ? look.rows : made.rows;
  const there = onRows(look, rows);
  const known = new Set(look.lenses.map(({ id }) => id));
  const fresh = onRows(
    { ...made, lenses: made.lenses.filter(({ id }) => !known.has(id)) },
    rows,
  );
  const ids = new Set(fresh.lenses.map(({ id }) => id));
  const more = {
    ...there,
    lenses: [...there.lenses, ...fresh.lenses],
    grids: [...there.grids, ...fresh.grids.filter(({ lens }) => lens != null && ids.has(lens))],
    vocabulary: { ...made.vocabulary, ...look.vocabulary },
  };
  const asked = made.lenses[made.lenses.length - 1]?.id;
  return {
    document: { ...shown, looks: shown.looks.map((one) => (one === look ? more : one)) },
    grid: made.grids.find(({ lens }) => lens != null && lens === asked)?.id ?? null,
  };
}

/** A look on other rows, by their names: a row that it lacks is empty. */
function onRows(look: RawLook, rows: string[]): RawLook {
  if (rows.join("\n") === look.rows.join("\n")) return look;
  const lay = (array: RawArray) => laid(array, look.rows, rows);
  return {
    ...look,
    rows,
    lenses: look.lenses.map((lens) => ({ ...lens, ids: lay(lens.ids), values: lay(lens.values) })),
    grids: look.grids.map((grid) => ({
      ...grid,
      values: lay(grid.values),
      details: Object.fromEntries(
        Object.entries(grid.details ?? {}).map(([name, array]) => [name, lay(array)]),
      ),
    })),
  };
}

const NAN = [0, 0, 0xc0, 0x7f]; // little-endian bytes of what stands where nothing is known
const EMPTY = { float32: NAN, int32: [0xff, 0xff, 0xff, 0xff], uint16: [0, 0], uint8: [0] };

function laid(array: RawArray, from: readonly string[], to: readonly string[]): RawArray {
  const old = atob(array.data);
  const size = old.length / from.length;
  const blank = String.fromCharCode(...EMPTY[array.dtype]);
  const empty = blank.repeat(size / blank.length);
  const rows = to.map((name) => {
    const row = from.indexOf(name);
    return row < 0 ? empty : old.slice(row * size, (row + 1) * size);
  });
  return { ...array, shape: [to.length, ...array.shape.slice(1)], data: btoa(rows.join("")) };
}
