// What is looked at: which look, which grids, which cell, in which orientation.

import type { Theme } from "./colours";
import { difference } from "./compare";
import { arcs, firstHead, queryOf, type Seen } from "./attention";
import { attentionGrid, headsAt } from "./derived";
import { type Asked, type Cell, type Doc, type Grid, type Look, margins, type Side } from "./document";
import {
  boxOf,
  columnsOf,
  fitted,
  FOOT,
  type Geometry,
  headOf,
  linesOf,
  MARGIN,
  type Orientation,
  zoomed,
} from "./geometry";
import { keep, type Kept, kept } from "./kept";

export const NONE = "none"; // a side that shows nothing
export const OFF = "off"; // no head's arcs
const LANE = 52;

export class View {
  doc: Doc = $state.raw({} as Doc);
  /** Index of the look, or "difference" of the first two. */
  choice: number | "difference" = $state(0);
  wanted: Record<Side, string | null> = $state({ left: null, right: null });
  hovered: Cell | null = $state.raw(null);
  pinned: Cell | null = $state.raw(null);
  /** The token that was pinned last, also where a head is pinned now. */
  anchor: number | null = $state(null);
  /** The head whose arcs are drawn: chosen in the list (null: not yet), or under the pointer. */
  chosenHead: string | null = $state(null);
  hoveredHead: string | null = $state(null);
  flip = $state(false);
  transpose = $state(false);
  theme: "system" | Theme = $state("system");
  systemIsDark = $state(false);
  showsTable = $state(false);
  cellW = $state(40);
  cellH = $state(22);
  x = $state(0);
  y = $state(0);
  /** Of a side whose columns are no tokens: how far it is scrolled along them, and stretched. */
  along: Record<Side, number> = $state({ left: 0, right: 0 });
  stretch: Record<Side, number> = $state({ left: 1, right: 1 });
  room = $state.raw({ width: 600, height: 400 });
  rooms: Record<Side, { width: number; height: number }> = $state({
    left: { width: 600, height: 400 },
    right: { width: 600, height: 400 },
  });

  look: Look = $derived.by(() => {
    const [a, b] = this.doc.looks;
    if (this.choice === "difference" && a && b) return difference(a, b);
    return this.doc.looks[this.choice === "difference" ? 0 : this.choice] ?? a!;
  });
  /** The token whose heads are told about: the pinned one, else the focus, else the last. */
  token: number = $derived(this.anchor ?? this.look.focus ?? this.doc.labels.length - 1);
  /** The grids of the look, and those that are made of them for the token. */
  grids: readonly Grid[] = $derived.by(() => {
    const { look, doc, token } = this;
    const traces = look.grids.filter(({ parts, columns }) => parts === "head" && !columns);
    const made = traces.map((grid) => headsAt(grid, doc.labels, token));
    const { attention } = look;
    if (attention)
      made.push(attentionGrid(look, doc.labels, attention, queryOf(attention, [token])));
    return [...look.grids, ...made];
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
  /** The scores with nothing restored that stand above: those of the right grid, where it has them. */
  asked: Asked | null = $derived(this.right?.asked ?? this.left?.asked ?? null);
  focus: number | null = $derived(this.asked?.focus ?? this.look.focus);
  /** How deep the lane of the arcs is, beside the tokens. */
  lane = $derived(this.look.attention ? LANE : 0);
  /** Whether the sides stand one below the other; else their rows line up. */
  stacked = $state(false);
  gutter = $derived(this.transpose ? 110 + this.lane : 50);
  /** The head whose arcs are drawn, the token that looks, and what it looks at. */
  arcs: { head: string; query: number; seen: readonly Seen[] } | null = $derived.by(() => {
    const { attention } = this.look;
    if (!attention) return null;
    const near = [this.hovered, this.pinned].map((cell) => (cell?.space ? null : cell?.token));
    const query = queryOf(attention, [...near, this.anchor, this.focus]);
    const head = this.#head(query);
    return head ? { head, query, seen: arcs(attention, head, query) } : null;
  });

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
    this.hovered = this.hoveredHead = null;
    if (doc.labels.length !== tokens || this.look.rows.length !== before) {
      this.pinned = this.anchor = null;
      this.fit();
    }
    const space = this.pinned?.space ?? "";
    if (!this.grids.some((grid) => grid.space === space)) this.unpin();
  }

  /** The cell that a grid lights up: under the pointer, else the pinned one. */
  currentIn(space: string): Cell | null {
    const here = (cell: Cell | null) => (cell && (cell.space ?? "") === space ? cell : null);
    return here(this.hovered) ?? here(this.pinned);
  }

  /** A grid that has a cell: one that is shown, or any. */
  gridOf(cell: Cell): Grid | null {
    const here = (grid: Grid | null) => grid?.space === (cell.space ?? "");
    return [this.left, this.right].find(here) ?? this.grids.find(here) ?? null;
  }

  #grid(side: Side): Grid | null {
    const wanted = this.wanted[side];
    const found = this.grids.find(({ id }) => id === wanted);
    if (found) return found;
    const other = side === "left" ? "right" : "left";
    const canHide = this.wanted[other] !== NONE && this.#first(other) !== null;
    return wanted === NONE && canHide ? null : this.#first(side);
  }

  /** What a side shows at first; with nothing of its own, the right one shows a second lens. */
  #first(side: Side): Grid | null {
    const { grids, lenses } = this.look;
    const own = grids.find((grid) => grid.side === side);
    const second = grids.find(({ lens }) => lens !== null && lens === lenses[1]);
    return own ?? (side === "right" ? second : null) ?? null;
  }

  #head(query: number): string | null {
    const { look, hoveredHead, chosenHead } = this;
    const known = look.attention!.heads;
    if (hoveredHead && known.includes(hoveredHead)) return hoveredHead;
    if (chosenHead === OFF) return null;
    if (chosenHead && known.includes(chosenHead)) return chosenHead;
    return firstHead(look, look.attention!, this.focus ?? query);
  }

  choose(side: Side, id: string): void {
    this.wanted[side] = id;
    this.along[side] = 0;
    this.stretch[side] = 1;
  }

  /** The geometry of a side: shared, but for columns that are no tokens. */
  geometryOf(side: Side): Geometry {
    const columns = this[side]?.columns;
    if (!columns) return this.geometry;
    const n = { ...this.orientation, tokens: columns.length };
    const { cellW, cellH } = fitted(this.rooms[side], n);
    const [size, far] = [(this.transpose ? cellH : cellW) * this.stretch[side], this.along[side]];
    return {
      ...this.geometry,
      ...n,
      ...(this.transpose ? { cellH: size, y: far } : { cellW: size, x: far }),
    };
  }

  /** Pixels above the cells of a side. */
  headOf(side: Side): number {
    const needed = (side: Side) => {
      const grid = this[side];
      if (!grid) return 0;
      if (this.transpose) return 22;
      if (!grid.columns) return 86 + this.lane;
      return headOf(grid.columns, this.geometryOf(side).cellW);
    };
    if (this.stacked) return needed(side);
    return Math.max(needed("left"), needed("right"));
  }

  /** Scroll a side; what is shared moves the other side too. */
  scroll(side: Side, x: number, y: number): void {
    const own = this[side]?.columns;
    if (own && this.transpose) [this.x, this.along[side]] = [x, y];
    else if (own) [this.along[side], this.y] = [x, y];
    else [this.x, this.y] = [x, y];
  }

  fit(): void {
    Object.assign(this, fitted(this.room, this.orientation));
    this.x = this.y = 0;
    this.along = { left: 0, right: 0 };
    this.stretch = { left: 1, right: 1 };
    if (this.focus !== null) this.reveal({ row: 0, token: this.focus });
  }

  /** Scroll as little as shows a cell (and a little of what comes after it). */
  reveal(cell: Cell, side: Side = this.left?.columns ? "right" : "left"): void {
    const g = this.geometryOf(side);
    const box = boxOf(g, cell);
    const [right, bottom] = [this.room.width - MARGIN, this.room.height - FOOT];
    let { x, y } = g;
    if (box.left < 0) x += box.left;
    else if (box.left + box.width > right) x += box.left + 1.5 * box.width - right;
    if (box.top < 0) y += box.top;
    else if (box.top + box.height > bottom) y += box.top + 1.5 * box.height - bottom;
    this.scroll(side, x, y);
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

  /** Zoom so that what is under a point of the visible part of a side stays there. */
  zoom(factor: number, px: number, py: number, side: Side = "left"): void {
    const before = this.geometryOf(side);
    const sizes = zoomed({ cellW: this.cellW, cellH: this.cellH }, factor);
    if (this[side]?.columns) {
      if (this.transpose) this.cellW = sizes.cellW;
      else this.cellH = sizes.cellH;
      this.stretch[side] = Math.min(6, Math.max(0.15, this.stretch[side] * factor));
    } else Object.assign(this, sizes);
    const after = this.geometryOf(side);
    this.scroll(
      side,
      Math.max(0, ((before.x + px) * after.cellW) / before.cellW - px),
      Math.max(0, ((before.y + py) * after.cellH) / before.cellH - py),
    );
  }

  pin(cell: Cell | null): void {
    const { pinned } = this;
    const at = (one: Cell | null) => one && `${one.row}/${one.token}/${one.space ?? ""}`;
    const same = at(cell) === at(pinned);
    this.#pinned(same ? null : cell);
  }

  #pinned(cell: Cell | null): void {
    this.pinned = cell;
    if (!cell?.space) this.anchor = cell?.token ?? null;
  }

  unpin(): void {
    this.#pinned(null);
  }

  /** Move the pinned cell of a side by columns and lines of the view. */
  move(columns: number, lines: number, side: Side = "left"): void {
    const { rows, tokens, flip, transpose } = this.geometryOf(side);
    const space = this[side]?.space ?? "";
    const start = space ? 0 : Math.min(tokens - 1, this.focus ?? tokens - 1);
    const own = this.pinned && (this.pinned.space ?? "") === space ? this.pinned : null;
    if (!own) return this.#pinned({ row: rows - 1, token: start, space });
    const [token, along] = transpose ? [lines, columns] : [columns, lines];
    const clamp = (value: number, n: number) => Math.max(0, Math.min(n - 1, value));
    this.#pinned({
      row: clamp(own.row + (flip ? -along : along), rows),
      token: clamp(own.token + token, tokens),
      space,
    });
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
    keep({ flip, transpose, theme });
  }
}
