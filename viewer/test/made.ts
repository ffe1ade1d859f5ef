// Small documents for the tests.

import { decode, type Doc, type RawArray, type RawDocument } from "../src/document";

export function floats(values: number[], shape: number[]): RawArray {
  const bytes = new Uint8Array(new Float32Array(values).buffer);
  return { dtype: "float32", shape, data: btoa(String.fromCharCode(...bytes)) };
}

export function whole(values: number[], shape: number[]): RawArray {
  const bytes = new Uint8Array(new Uint16Array(values).buffer);
  return { dtype: "uint16", shape, data: btoa(String.fromCharCode(...bytes)) };
}

const grid = {
  title: "a grid",
  subtitle: "",
  meaning: "what it means",
  parts: "none" as const,
  details: {},
  asked: null,
  group: "a group",
  columns: null,
  column: "token",
  lens: null,
  marked: null,
  experts: {},
};
const asked = { metric: "probability", direction: "denoise" as const, focus: 2, answer: "z", clean: 0.9, corrupted: 0.1 };

/** Two rows, three tokens: "a", "<img onerror=x>", "b". */
export function raw(scale = 1): RawDocument {
  return {
    flip: false,
    transpose: false,
    schema_version: 2,
    twinlens: "0",
    tokens: { text: "a<img onerror=x>b", ids: [5, 6, 7], labels: ["a", "<img onerror=x>", "b"], special: [false, false, false] },
    looks: [
      {
        name: scale === 1 ? "one" : "two",
        rows: ["embed", "0"],
        vocabulary: { "5": "a", "6": "<img onerror=x>", "7": "b", "9": "z" },
        subject: [true, false, false],
        focus: 2,
        notes: [],
        settings: [],
        provenance: {},
        surprisal: floats([NaN, 1, 2], [3]),
        lenses: [{
          id: "final",
          name: "logit lens",
          unit: "probability",
          ids: whole([6, 9, 7, 9, 9, 9, 6, 9, 9, 9, 9, 9], [2, 3, 2]),
          values: floats([0.5, 0.2, 0.4, 0.3, 0.6, 0.1, 0.9, 0.05, 0.8, 0.1, 0.7, 0.2], [2, 3, 2]),
        }, {
          id: "tuned",
          name: "tuned lens",
          unit: "probability",
          ids: whole([9, 9, 9, 9, 9, 9], [2, 3, 1]),
          values: floats([1, 1, 1, 1, 1, 1], [2, 3, 1]),
        }],
        attention: {
          heads: ["0.H0", "0.H1"],
          queries: [0, 1, 2],
          weights: floats([1, 0, 0, 0.25, 0.75, 0, 0.1, 0.2, 0.7, 1, 0, 0, 1, 0, 0, 0.9, 0.1, 0], [2, 3, 3]),
          tokens: null,
          value_weighted: false,
        },
        neurons: {},
        grids: [
          { ...grid, id: "lens", lens: "final", side: "left", name: "probability", scale: "sequential", low: 0, high: 1,
            values: floats([0, 0.1, 0.2, 0.3, 0.4, 0.5], [2, 3]) },
          { ...grid, asked, id: "trace.block", side: "right", name: "block", scale: "diverging", low: -0.8, high: 0.8,
            values: floats([0.8 * scale, 0, 0, 0.01, NaN, -0.4], [2, 3]),
            details: { score: floats([0.9, 0.1, 0.1, 0.11, 0.1, 0], [2, 3]), spread: floats([0.02, 0, 0, 0, 0, 0], [2, 3]) } },
          { ...grid, asked, id: "neurons.map", side: "right", name: "neuron map", scale: "symlog", low: -1, high: 1, parts: "unit",
            values: floats([...Array(6)].flatMap((_, cell) => [cell / 10, -1, 0.001, 0]), [2, 3, 4]),
            details: { exact: { dtype: "uint8", shape: [2, 3, 4], data: btoa(String.fromCharCode(...Array(24).fill(0).map((_, i) => Number(i % 4 === 1)))) } } },
          { ...grid, id: "lens.tuned", lens: "tuned", side: "left", name: "probability", scale: "sequential", low: 0, high: 1,
            values: floats([1, 1, 1, 1, 1, 1], [2, 3]) },
          { ...grid, asked, id: "trace.head", side: "right", name: "head", scale: "diverging", low: -1, high: 1, parts: "head",
            values: floats([NaN, NaN, NaN, NaN, NaN, NaN, 0.1, -0.9, 0.3, 0.2, 0.5, 0.6], [2, 3, 2]) },
          { ...grid, id: "heads", side: "right", name: "prefix matching", scale: "sequential", low: 0, high: 1,
            columns: ["H0", "H1"], column: "head", marked: "above 0.5: induction head",
            values: floats([NaN, NaN, 0.92, 0.05], [2, 2]),
            details: { spread: floats([NaN, NaN, 0.01, 0.01], [2, 2]), marked: { dtype: "uint8", shape: [2, 2], data: btoa(String.fromCharCode(0, 0, 1, 0)) } } },
        ],
      },
    ],
  };
}

export function doc(): Doc {
  return decode(raw());
}
