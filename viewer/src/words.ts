// What is said of a cell: inside it, in the card beside it, and to those who listen.

import { said, signed } from "./colours";
import {
  at,
  type Cell,
  type Doc,
  type Grid,
  isRight,
  labelOf,
  type Lens,
  type Look,
  meanAt,
  type Numbers,
  partsAt,
  partsOf,
  strongest,
  topOf,
} from "./document";
import { headAt } from "./derived";

const WORTH_A_NUMBER = 0.2; // of the largest effect: from here on a cell shows its number

/** The text inside a cell: the lens' first token, or a large effect or share. */
export function inside(look: Look, grid: Grid, cell: Cell): string {
  if (grid.lens) return labelOf(look, at(grid.lens.ids, cell));
  if (partsOf(grid.values) > 1) return "";
  const value = at(grid.values, cell);
  const signs = grid.scale === "diverging";
  if (!(signs || grid.columns) || !(Math.abs(value) >= WORTH_A_NUMBER * grid.high)) return "";
  if (value === 0) return "";
  return (signs ? signed : said)(value, 2).replace(/^([+−]?)0\./, "$1.");
}

/** Whether a cell has a star: the lens names the true next token, or the grid itself says so. */
export function isMarked(doc: Doc, grid: Grid, cell: Cell): boolean {
  const { marked } = grid.details;
  return marked ? at(marked, cell) === 1 : isRight(doc, grid.lens, cell);
}

export interface Line {
  readonly name: string;
  readonly value: string;
  /** 0 to 1, for a bar. */
  readonly share?: number;
  readonly mark?: boolean;
  /** The head that the line is about. */
  readonly head?: string;
}

/** The lines of the card of a cell. */
export function lines(
  doc: Doc,
  look: Look,
  grid: Grid,
  cell: Cell,
  pointed: string | null = null,
): Line[] {
  if (grid.details["a"]) return ofDifference(grid, cell);
  if (grid.details["facts"]) return ofAverage(look, grid, cell);
  if (grid.lens) return ofLens(doc, look, grid, grid.lens, cell);
  if (grid.parts === "head") return [...ofHeads(look, grid, cell, pointed), ...runs(grid)];
  return grid.asked ? ofTrace(look, grid, cell) : ofPlain(grid, cell);
}

function ofLens(doc: Doc, look: Look, grid: Grid, lens: Lens, cell: Cell): Line[] {
  const next = doc.ids[cell.token + 1];
  const top = topOf(look, lens, cell).map(({ id, label, value }) => ({
    name: label,
    value: Number.isNaN(value) ? "" : said(value),
    ...(lens.unit === "probability" ? { share: value } : {}),
    mark: id === next,
  }));
  const { marked, rank } = grid.details;
  if (marked && at(marked, cell) === 1 && top[0]) top[0].mark = true;
  const shown = /\.(top_probability|top_logit)\./.test(grid.id)
    ? []
    : [{ name: grid.name, value: said(at(grid.values, cell)) }];
  const place = rank && grid.scale !== "log" ? [{ name: "answer's rank", value: said(at(rank, cell)) }] : [];
  return [...top, ...shown, ...place];
}

/** A mean over facts, its interval, and of how many facts it is. */
function ofAverage(look: Look, grid: Grid, cell: Cell): Line[] {
  const { low, high, facts } = grid.details;
  const tell = grid.scale === "diverging" ? signed : said;
  const number = (values: Numbers | undefined) => (values ? at(values, cell) : NaN);
  const level = Math.round(100 * Number(look.raw.settings[0]?.["level"] ?? 0.95));
  const known = Number.isFinite(number(low));
  return [
    { name: `mean ${grid.scale === "diverging" ? "effect" : "probability"}`, value: tell(number(grid.values)) },
    { name: `${level} % interval`, value: known ? `${tell(number(low), 2)} to ${tell(number(high), 2)}` : "–" },
    { name: "facts with such a token", value: said(number(facts), 8) },
  ];
}

function ofTrace(look: Look, grid: Grid, cell: Cell): Line[] {
  if (grid.parts === "unit") {
    const units = strongUnits(grid, cell, 5).map((unit) => ({
      name: `${unitName(grid, look.rows[cell.row] ?? "?", unit.unit)}${unit.exact ? "" : " (estimated)"}`,
      value: signed(unit.effect),
    }));
    return [...units, ...runs(grid)];
  }
  const found: Line[] = [{ name: "effect", value: signed(at(grid.values, cell)) }];
  const { score, spread } = grid.details;
  if (spread && Number.isFinite(at(spread, cell)))
    found.push({ name: "spread over samples", value: `± ${said(at(spread, cell), 2)}` });
  if (score) found.push({ name: `${metric(grid)} ${done(grid)}`, value: said(at(score, cell)) });
  return [...found, ...runs(grid)];
}

/** A number with its spread, and what its star means. */
function ofPlain(grid: Grid, cell: Cell): Line[] {
  const { spread, marked } = grid.details;
  const found: Line[] = [{ name: grid.name, value: said(at(grid.values, cell)) }];
  if (spread && Number.isFinite(at(spread, cell)))
    found.push({ name: "spread", value: `± ${said(at(spread, cell), 2)}` });
  if (marked && at(marked, cell) === 1 && grid.marked)
    found.push({ name: `★ ${grid.marked}`, value: "" });
  return found;
}

/** The strongest heads of a cell, and first the one that is pointed at. */
function ofHeads(look: Look, grid: Grid, cell: Cell, pointed: string | null): Line[] {
  const spread = grid.details["spread"];
  const found = Array.from(partsAt(grid.values, cell), (value, head) => {
    const wide = spread ? at(spread, cell, head) : NaN;
    const tail = Number.isFinite(wide) ? ` ± ${said(wide, 2)}` : "";
    const name = headAt(look, cell.row, head) ?? `head ${head}`;
    const told = grid.scale === "diverging" ? signed(value) : said(value);
    return { name: `head ${name}`, value: told + tail, head: name, size: Math.abs(value) };
  })
    .filter(({ size }) => Number.isFinite(size))
    .sort((a, b) => b.size - a.size);
  const first = found.filter(({ head }) => head === pointed);
  return [...first, ...found.filter(({ head }) => head !== pointed)].slice(0, 6);
}

function ofDifference(grid: Grid, cell: Cell): Line[] {
  return [
    ...(partsOf(grid.values) > 1 ? [{ name: "means over the cell", value: "" }] : []),
    ...["a", "b"].map((name) => ({
      name: name.toUpperCase(),
      value: said(meanAt(grid.details[name]!, cell)),
    })),
    { name: "A − B", value: signed(meanAt(grid.values, cell)) },
  ];
}

/** The scores with nothing restored. */
export function runs({ asked }: Grid): Line[] {
  if (asked?.clean == null || asked.corrupted == null) return [];
  const { clean, corrupted } = asked;
  return [
    { name: "clean", value: said(clean) },
    { name: "corrupted", value: said(corrupted) },
  ];
}

export function metric({ asked }: Grid): string {
  return (asked?.metric ?? "score").replaceAll("_", " ");
}

function done({ asked }: Grid): string {
  return asked?.direction === "noise" ? "corrupted here" : "restored";
}

export interface Unit {
  readonly unit: number;
  readonly effect: number;
  readonly exact: boolean;
}

/** The units of a cell with the largest effects, by magnitude. */
export function strongUnits(grid: Grid, cell: Cell, k: number): Unit[] {
  const { unit, exact } = grid.details;
  return Array.from(partsAt(grid.values, cell), (effect, part) => ({
    unit: unit ? at(unit, cell, part) : part,
    effect,
    exact: exact ? at(exact, cell, part) === 1 : false,
  }))
    .filter(({ effect }) => Number.isFinite(effect) && effect !== 0)
    .sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect))
    .slice(0, k);
}

/** `4.112`: unit 112 of block 4; of experts `4.E2.N17`, of shared ones `4.S.N17` (as in Python). */
export function unitName(grid: Grid, row: string, unit: number): string {
  const [count = 0, width = 1] = grid.experts[row] ?? [];
  if (!count) return `${row}.${unit}`;
  const routed = count * width;
  if (unit >= routed) return `${row}.S.N${unit - routed}`;
  return `${row}.E${Math.floor(unit / width)}.N${unit % width}`;
}

/** A cell in words: its first token and number, or its number alone. */
export function brief(look: Look, grid: Grid, cell: Cell): string {
  const value = strongest(grid.values, cell);
  if (Number.isNaN(value)) return "";
  const number = grid.scale === "diverging" || grid.scale === "symlog" ? signed(value, 2) : said(value, 2);
  return grid.lens ? `${labelOf(look, at(grid.lens.ids, cell))} ${number}` : number;
}

/** Which cell it is. */
export function whereabouts(doc: Doc, look: Look, cell: Cell, grid: Grid | null = null): string {
  const row = look.rows[cell.row] ?? "?";
  const layer = row === "embed" ? "embedding" : `layer ${row}`;
  if (grid?.columns) {
    const name = grid.columns[cell.token] ?? "";
    if (grid.column === "role") return `${layer}, ${name}`;
    return grid.column === "head" ? `head ${row}.${name}` : `${layer}, ${grid.column} ${name}`;
  }
  return `${layer}, token ${cell.token} ${doc.labels[cell.token] ?? ""}`;
}

/** All of a cell in a sentence, for those who listen. */
export function sentence(doc: Doc, look: Look, grids: readonly Grid[], cell: Cell): string {
  const here = grids.filter(({ space }) => space === (cell.space ?? ""));
  const parts = here.map((grid) => {
    const told = lines(doc, look, grid, cell).map(
      ({ name, value, mark }) => `${name} ${value}${mark ? " (true next token)" : ""}`,
    );
    return `${grid.title}: ${told.join("; ") || "nothing"}`;
  });
  const right = here.some((grid) => isRight(doc, grid.lens, cell))
    ? " The first token is the true next one."
    : "";
  return `${whereabouts(doc, look, cell, here[0] ?? null)}. ${parts.join(". ")}.${right}`;
}
