// A document as it comes (base64 arrays) and as the page uses it (typed arrays).

import type { components } from "./api";

type Schemas = components["schemas"];
export type RawDocument = Schemas["Document"];
export type RawLook = Schemas["Look"];
export type RawGrid = Schemas["Grid"];
export type RawAttention = Schemas["Attention"];
export type RawArray = Schemas["Array"];
export type Scale = RawGrid["scale"];
export type Asked = Schemas["Asked"];
export type Side = RawGrid["side"];

export const SCHEMA_VERSION = 2;

export interface Numbers {
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array | Uint16Array | Uint8Array;
}

/** A place on a grid. Where its columns are no tokens, `space` says whose columns are meant. */
export interface Cell {
  readonly row: number;
  readonly token: number;
  readonly space?: string;
}

/** The top tokens of a lens, likeliest first. */
export interface Lens {
  readonly id: string;
  readonly name: string;
  readonly unit: "probability" | "logit" | "none";
  readonly ids: Numbers;
  readonly values: Numbers;
}

export interface Grid {
  readonly id: string;
  readonly side: Side;
  readonly group: string;
  readonly name: string;
  readonly title: string;
  readonly subtitle: string;
  readonly meaning: string;
  readonly scale: Scale;
  readonly low: number;
  readonly high: number;
  readonly values: Numbers;
  readonly parts: RawGrid["parts"];
  readonly details: Readonly<Record<string, Numbers>>;
  readonly asked: Asked | null;
  /** Names of the columns, where they are not the prompt's tokens; `column` is what one is. */
  readonly columns: readonly string[] | null;
  readonly column: string;
  /** Empty, or the same for all grids with these columns. */
  readonly space: string;
  /** The lens whose top tokens stand in the cells. */
  readonly lens: Lens | null;
  /** What a star means. */
  readonly marked: string | null;
  /** By row: how many experts, neurons of each, neurons of the shared ones; others are not here. */
  readonly experts: Readonly<Record<string, readonly number[]>>;
}

/** How much heads look at tokens: `weights[head, query, token]`, or of the tokens that are kept. */
export interface Attention {
  readonly heads: readonly string[];
  readonly queries: readonly number[];
  readonly weights: Numbers;
  readonly tokens: Numbers | null;
  readonly valueWeighted: boolean;
}

export interface Look {
  readonly raw: RawLook;
  readonly name: string;
  readonly rows: readonly string[];
  readonly grids: readonly Grid[];
  readonly subject: readonly boolean[];
  readonly focus: number | null;
  readonly surprisal: Numbers | null;
  readonly lenses: readonly Lens[];
  readonly attention: Attention | null;
}

export interface Doc {
  readonly raw: RawDocument;
  readonly labels: readonly string[];
  readonly ids: readonly number[];
  readonly looks: readonly Look[];
}

export class DocumentError extends Error {}

export function decode(raw: RawDocument): Doc {
  if (raw?.schema_version !== SCHEMA_VERSION)
    throw new DocumentError(
      `this page reads documents of schema ${SCHEMA_VERSION}, and this one has ${raw?.schema_version}`,
    );
  return {
    raw,
    labels: raw.tokens.labels,
    ids: raw.tokens.ids,
    looks: raw.looks.map(decodeLook),
  };
}

function decodeLook(raw: RawLook): Look {
  const lenses = raw.lenses.map((lens) => ({
    ...lens,
    ids: numbers(lens.ids),
    values: numbers(lens.values),
  }));
  return {
    raw,
    name: raw.name,
    rows: raw.rows,
    grids: raw.grids.map((grid) => decodeGrid(grid, lenses)),
    subject: raw.subject,
    focus: raw.focus ?? null,
    surprisal: raw.surprisal ? numbers(raw.surprisal) : null,
    lenses,
    attention: raw.attention ? attentionOf(raw.attention) : null,
  };
}

function decodeGrid(raw: RawGrid, lenses: readonly Lens[]): Grid {
  const details: Record<string, Numbers> = {};
  for (const [name, array] of Object.entries(raw.details ?? {})) details[name] = numbers(array);
  return {
    ...raw,
    values: numbers(raw.values),
    details,
    space: spaceOf(raw.column, raw.columns),
    lens: lenses.find((lens) => lens.id === raw.lens) ?? null,
    experts: raw.experts ?? {},
  };
}

/** What two grids share whose columns are the same; empty for the prompt's tokens. */
export function spaceOf(column: string, columns: readonly string[] | null): string {
  return columns ? `${column}\n${columns.join("\n")}` : "";
}

function attentionOf(raw: RawAttention): Attention {
  return {
    heads: raw.heads,
    queries: raw.queries,
    weights: numbers(raw.weights),
    tokens: raw.tokens ? numbers(raw.tokens) : null,
    valueWeighted: raw.value_weighted,
  };
}

export function numbers(raw: RawArray): Numbers {
  const text = atob(raw.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const data = typed(raw.dtype, bytes.buffer);
  const wanted = raw.shape.reduce((a, b) => a * b, 1);
  if (data.length !== wanted)
    throw new DocumentError(`an array of shape [${raw.shape}] has ${data.length} numbers`);
  return { shape: raw.shape, data };
}

function typed(dtype: RawArray["dtype"], buffer: ArrayBuffer): Numbers["data"] {
  switch (dtype) {
    case "float32":
      return new Float32Array(buffer);
    case "int32":
      return new Int32Array(buffer);
    case "uint16":
      return new Uint16Array(buffer);
    case "uint8":
      return new Uint8Array(buffer);
  }
}

/** How many numbers a cell has: 1, or its heads or units. */
export function partsOf(values: Numbers): number {
  return values.shape[2] ?? 1;
}

/** The number (or one of the numbers) of a cell. */
export function at(values: Numbers, { row, token }: Cell, part = 0): number {
  const tokens = values.shape[1] ?? 0;
  return values.data[(row * tokens + token) * partsOf(values) + part] ?? NaN;
}

/** The numbers of a cell that has parts, without a copy. */
export function partsAt(values: Numbers, { row, token }: Cell): Numbers["data"] {
  const n = partsOf(values);
  const start = (row * (values.shape[1] ?? 0) + token) * n;
  return values.data.subarray(start, start + n);
}

/** A cell in one number: itself, or the part with the largest magnitude. */
export function strongest(values: Numbers, cell: Cell): number {
  if (partsOf(values) === 1) return at(values, cell);
  let best = NaN;
  for (const value of partsAt(values, cell))
    if (!(Math.abs(value) <= Math.abs(best))) best = Number.isNaN(value) ? best : value;
  return best;
}

/** A cell in one number: itself, or the mean of its parts. */
export function meanAt(values: Numbers, cell: Cell): number {
  let sum = 0;
  let n = 0;
  for (const value of partsAt(values, cell))
    if (Number.isFinite(value)) {
      sum += value;
      n++;
    }
  return n ? sum / n : NaN;
}

/** Means over the tokens of each row, and over the rows of each token. */
export function margins(values: Numbers): { byRow: Float64Array; byToken: Float64Array } {
  const [rows = 0, tokens = 0] = values.shape;
  const byRow = new Float64Array(rows);
  const byToken = new Float64Array(tokens);
  const nRow = new Float64Array(rows);
  const nToken = new Float64Array(tokens);
  for (let row = 0; row < rows; row++)
    for (let token = 0; token < tokens; token++) {
      const value = meanAt(values, { row, token });
      if (!Number.isFinite(value)) continue;
      byRow[row]! += value;
      byToken[token]! += value;
      nRow[row]!++;
      nToken[token]!++;
    }
  return {
    byRow: byRow.map((sum, i) => sum / nRow[i]!),
    byToken: byToken.map((sum, i) => sum / nToken[i]!),
  };
}

/** The label of a token id in a look (empty for "no token"). */
export function labelOf(look: Look, id: number): string {
  return look.raw.vocabulary[String(id)] ?? (id < 0 ? "" : `#${id}`);
}

/** The top tokens of a cell of a lens, likeliest first. */
export function topOf(
  look: Look,
  lens: Lens | null,
  cell: Cell,
): { id: number; label: string; value: number }[] {
  if (!lens) return [];
  const ids = partsAt(lens.ids, cell);
  const values = partsAt(lens.values, cell);
  return Array.from(ids, (id, k) => ({ id, label: labelOf(look, id), value: values[k]! })).filter(
    ({ id, value }) => (lens.unit === "none" ? id >= 0 : !Number.isNaN(value)),
  );
}

/** Whether the lens' first token there is the one that really follows. */
export function isRight(doc: Doc, lens: Lens | null, cell: Cell): boolean {
  const next = doc.ids[cell.token + 1];
  return lens !== null && next !== undefined && at(lens.ids, cell) === next;
}
