// What is looked at: which look, which grids, which cell, in which orientation.

import type { Theme } from "./colours";
import { difference } from "./compare";
import { type Asked, type Cell, type Doc, type Grid, type Look, margins, type Side } from "./document";
import {
  boxOf,
  columnsOf,
  fitted,
  FOOT,
  type Geometry,
  linesOf,
  MARGIN,
  type Orientation,
  zoomed,
} from "./geometry";

const KEPT = "twinlens.view";

interface Kept {
  flip: boolean;
  transpose: boolean;
  theme: "system" | Theme;
}

export class View {
  doc: Doc = $state.raw({} as Doc);
  /** Index of the look, or "difference" of the first two. */
  choice: number | "difference" = $state(0);
  wanted: Record<Side, string | null> = $state({ left: null, right: null });
  hovered: Cell | null = $state.raw(null);
  pinned: Cell | null = $state.raw(null);
  flip = $state(false);
  transpose = $state(false);
  theme: "system" | Theme = $state("system");
  systemIsDark = $state(false);
  showsTable = $state(false);
  cellW = $state(40);
  cellH = $state(22);
  x = $state(0);
  y = $state(0);
  room = $state.raw({ width: 600, height: 400 });

  look: Look = $derived.by(() => {
    const [a, b] = this.doc.looks;
    if (this.choice === "difference" && a && b) return difference(a, b);
    return this.doc.looks[this.choice === "difference" ? 0 : this.choice] ?? a!;
  });
  left: Grid | null = $derived(this.#grid("left"));
  right: Grid | null = $derived(this.#grid("right"));
  shown: Theme = $derived(
    this.theme === "system" ? (this.systemIsDark ? "dark" : "light") : this.theme,
  );
  orientation: Orientation = $derived({
    rows: this.look.rows.length,
    tokens: this.doc.labels.length,
    flip: this.flip,
    transpose: this.transpose,
  });
  geometry: Geometry = $derived({
    ...this.orientation,
    ...this.room,
    cellW: this.cellW,
    cellH: this.cellH,
    x: this.x,
    y: this.y,
  });
  /** The grid whose scores with nothing restored stand above: the right one, where it has them. */
  asked: Asked | null = $derived(this.right?.asked ?? null);
  focus: number | null = $derived(this.asked?.focus ?? this.look.focus);
  /** The cell that is told about: under the pointer, else the pinned one. */
  current: Cell | null = $derived(this.hovered ?? this.pinned);

  constructor(doc: Doc) {
    this.doc = doc;
    Object.assign(this, kept());
    if (doc.raw.flip) this.flip = true;
    if (doc.raw.transpose) this.transpose = true;
  }

  /** Another document in the place of this one; what still makes sense stays. */
  show(doc: Doc): void {
    const before = this.look.rows.length;
    const tokens = this.doc.labels.length;
    this.doc = doc;
    if (this.choice === "difference" ? doc.looks.length < 2 : this.choice >= doc.looks.length)
      this.choice = 0;
    this.hovered = null;
    if (doc.labels.length !== tokens || this.look.rows.length !== before) {
      this.pinned = null;
      this.fit();
    }
  }

  grids(side: Side): readonly Grid[] {
    return this.look.grids.filter((grid) => grid.side === side);
  }

  #grid(side: Side): Grid | null {
    const all = this.look.grids.filter((grid) => grid.side === side);
    return all.find((grid) => grid.id === this.wanted[side]) ?? all[0] ?? null;
  }

  choose(side: Side, id: string): void {
    this.wanted[side] = id;
  }

  fit(): void {
    Object.assign(this, fitted(this.room, this.orientation));
    this.x = this.y = 0;
    if (this.focus !== null) this.reveal({ row: 0, token: this.focus });
  }

  /** Scroll as little as shows a cell (and a little of what comes after it). */
  reveal(cell: Cell): void {
    const box = boxOf(this.geometry, cell);
    const [right, bottom] = [this.room.width - MARGIN, this.room.height - FOOT];
    if (box.left < 0) this.x += box.left;
    else if (box.left + box.width > right) this.x += box.left + 1.5 * box.width - right;
    if (box.top < 0) this.y += box.top;
    else if (box.top + box.height > bottom) this.y += box.top + 1.5 * box.height - bottom;
  }

  /** All columns at once, however small. */
  overview(): void {
    const width = (this.room.width - MARGIN) / columnsOf(this.orientation);
    const height = (this.room.height - FOOT) / linesOf(this.orientation);
    Object.assign(this, {
      cellW: Math.min(130, Math.max(2, width)),
      cellH: Math.min(40, Math.max(3, height)),
      x: 0,
      y: 0,
    });
  }

  /** Zoom so that what is under a point of the visible part stays there. */
  zoom(factor: number, px: number, py: number): void {
    const before = { w: this.cellW, h: this.cellH };
    Object.assign(this, zoomed({ cellW: this.cellW, cellH: this.cellH }, factor));
    this.x = Math.max(0, ((this.x + px) * this.cellW) / before.w - px);
    this.y = Math.max(0, ((this.y + py) * this.cellH) / before.h - py);
  }

  pin(cell: Cell | null): void {
    const same = cell && this.pinned?.row === cell.row && this.pinned.token === cell.token;
    this.pinned = same ? null : cell;
  }

  /** Move the pinned cell by columns and lines of the view. */
  move(columns: number, lines: number): void {
    const { rows, tokens, flip, transpose } = this.orientation;
    const from = this.pinned ?? {
      row: rows - 1,
      token: Math.min(tokens - 1, this.focus ?? tokens - 1),
    };
    if (!this.pinned) {
      this.pinned = from;
      return;
    }
    const [token, along] = transpose ? [lines, columns] : [columns, lines];
    const clamp = (value: number, n: number) => Math.max(0, Math.min(n - 1, value));
    this.pinned = {
      row: clamp(from.row + (flip ? -along : along), rows),
      token: clamp(from.token + token, tokens),
    };
  }

  /** Means along the lines and columns of a grid, in the orientation of the view. */
  means(grid: Grid): { lines: Float64Array; columns: Float64Array } {
    const { byRow, byToken } = margins(grid.values);
    const rows = this.flip ? byRow.slice().reverse() : byRow;
    return this.transpose ? { lines: byToken, columns: rows } : { lines: rows, columns: byToken };
  }

  turn(change: Partial<Kept>): void {
    Object.assign(this, change);
    const { flip, transpose, theme } = this;
    try {
      localStorage.setItem(KEPT, JSON.stringify({ flip, transpose, theme } satisfies Kept));
    } catch {
      // a page without storage forgets, that is all
    }
  }
}

function kept(): Partial<Kept> {
  try {
    const read: unknown = JSON.parse(localStorage.getItem(KEPT) ?? "{}");
    if (typeof read !== "object" || read === null) return {};
    const { flip, transpose, theme } = read as Record<string, unknown>;
    return {
      flip: flip === true,
      transpose: transpose === true,
      theme: theme === "dark" || theme === "light" ? theme : "system",
    };
  } catch {
    return {};
  }
}
