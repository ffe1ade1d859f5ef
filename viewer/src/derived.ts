// Grids that are another view of what a look has: what heads look at from a token, and the heads
// of a trace at one token side by side.

import { seen } from "./attention";
import { type Attention, type Grid, type Look, type Numbers, spaceOf } from "./document";

/** The name of a head at a row of the grid, `part` of a cell or a column; null where there is none. */
export function headAt(look: Look, row: number, head: number): string | null {
  const layer = look.rows[row];
  return layer === undefined || !/^\d+$/.test(layer) ? null : `${layer}.H${head}`;
}

/** What every head looks at from a token: heads are the parts of a cell. */
export function attentionGrid(
  look: Look,
  labels: readonly string[],
  attention: Attention,
  query: number,
): Grid {
  const heads = attention.heads.map((name) => {
    const [layer = "", number = ""] = name.split(".H");
    return { name, row: look.rows.indexOf(layer), head: Number(number) };
  });
  const n = 1 + Math.max(0, ...heads.map(({ head }) => head));
  const data = new Float32Array(look.rows.length * labels.length * n).fill(NaN);
  let high = 0;
  for (const { name, row, head } of heads) {
    if (row < 0) continue;
    for (let token = 0; token < labels.length; token++)
      data[(row * labels.length + token) * n + head] = 0;
    for (const { token, weight } of seen(attention, name, query)) {
      data[(row * labels.length + token) * n + head] = weight;
      high = Math.max(high, weight);
    }
  }
  const weighted = attention.valueWeighted ? ", times the length of what is written" : "";
  return {
    ...PLAIN,
    id: "attention",
    group: "attention",
    name: "all heads, from the token",
    title: `attention from token ${query} ${labels[query] ?? ""}`,
    subtitle: "what each head looks at from the pinned token (else the focus); pin another to see its",
    meaning: `share of attention${weighted} (in each cell: heads 0 to ${n - 1})`,
    scale: "sequential",
    low: 0,
    high: high || 1,
    values: { shape: [look.rows.length, labels.length, n], data },
    parts: "head",
  };
}

const PLAIN = {
  side: "right",
  details: {},
  asked: null,
  columns: null,
  column: "token",
  space: "",
  lens: null,
  marked: null,
  experts: {},
} as const;

/** The heads of a trace at one token: layers top to bottom, heads left to right. */
export function headsAt(grid: Grid, labels: readonly string[], token: number): Grid {
  const n = grid.values.shape[2] ?? 1;
  const columns = Array.from({ length: n }, (_, head) => `H${head}`);
  const details: Record<string, Numbers> = {};
  for (const [name, array] of Object.entries(grid.details)) details[name] = slice(array, token);
  return {
    ...grid,
    id: `${grid.id}@token`,
    group: "heads at the token",
    name: grid.title.replace("causal trace: ", "trace of each "),
    title: `heads at token ${token} ${labels[token] ?? ""}`,
    meaning: grid.meaning.replace(/ \(in each cell: .*\)$/, ""),
    values: slice(grid.values, token),
    parts: "none",
    details,
    columns,
    column: "head",
    space: spaceOf("head", columns),
  };
}

function slice({ shape, data }: Numbers, token: number): Numbers {
  const [rows = 0, tokens = 0, n = 1] = shape;
  const found = new Float32Array(rows * n);
  for (let row = 0; row < rows; row++)
    for (let part = 0; part < n; part++)
      found[row * n + part] = data[(row * tokens + token) * n + part] ?? NaN;
  return { shape: [rows, n], data: found };
}
