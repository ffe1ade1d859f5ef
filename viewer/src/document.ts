// A document as it comes (base64 arrays) and as the page uses it (typed arrays).

import type { components } from "./api";

type Schemas = components["schemas"];
export type RawDocument = Schemas["Document"];
export type RawLook = Schemas["Look"];
export type RawGrid = Schemas["Grid"];
export type RawArray = Schemas["Array"];
export type Scale = RawGrid["scale"];
export type Asked = Schemas["Asked"];
export type Side = RawGrid["side"];

export const SCHEMA_VERSION = 1;

export interface Numbers {
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array | Uint16Array | Uint8Array;
}

export interface Cell {
  readonly row: number;
  readonly token: number;
}

export interface Grid {
  readonly id: string;
  readonly side: Side;
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
}

export interface Look {
  readonly raw: RawLook;
  readonly name: string;
  readonly rows: readonly string[];
  readonly grids: readonly Grid[];
  readonly subject: readonly boolean[];
  readonly focus: number | null;
  readonly surprisal: Numbers | null;
  readonly top: { unit: "probability" | "logit"; ids: Numbers; values: Numbers } | null;
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
  return {
    raw,
    name: raw.name,
    rows: raw.rows,
    grids: raw.grids.map(decodeGrid),
    subject: raw.subject,
    focus: raw.focus ?? null,
    surprisal: raw.surprisal ? numbers(raw.surprisal) : null,
    top: raw.top
      ? { unit: raw.top.unit, ids: numbers(raw.top.ids), values: numbers(raw.top.values) }
      : null,
  };
}

function decodeGrid(raw: RawGrid): Grid {
  const details: Record<string, Numbers> = {};
  for (const [name, array] of Object.entries(raw.details ?? {})) details[name] = numbers(array);
  return { ...raw, parts: raw.parts ?? "none", values: numbers(raw.values), details, asked: raw.asked ?? null };
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

/** The top tokens of a cell of the lens, likeliest first. */
export function topOf(look: Look, cell: Cell): { id: number; label: string; value: number }[] {
  if (!look.top) return [];
  const ids = partsAt(look.top.ids, cell);
  const values = partsAt(look.top.values, cell);
  return Array.from(ids, (id, k) => ({ id, label: labelOf(look, id), value: values[k]! })).filter(
    ({ value }) => !Number.isNaN(value),
  );
}

/** Whether the lens' first token there is the one that really follows. */
export function isRight(doc: Doc, look: Look, cell: Cell): boolean {
  const next = doc.ids[cell.token + 1];
  return look.top !== null && next !== undefined && at(look.top.ids, cell) === next;
}
