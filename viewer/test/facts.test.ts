import { expect, test } from "vitest";
import type { FactRow, Request, RunInfo } from "../src/client";
import { decode, topOf } from "../src/document";
import { ALL, address, inSight, missing, PAGE, pagesOf, parted, progressOf, requestOf, scrolledTo, sorted, statusOf } from "../src/facts";
import { areSideways, headOf } from "../src/geometry";
import { isMarked, lines, whereabouts } from "../src/words";
import { floats, raw } from "./made";

const row: FactRow = {
  fact: 7, id: "7", status: "measured", known: true, reason: null, prompt: "The Tower of the Tower is in",
  subject: " Tower", answer: "␣A", said: "␣A", probability: 0.5, clean: 0.5, corrupted: 0.1,
};

test("the rows in sight are those that a list shows, and a few more, of those there are", () => {
  expect(inSight(0, 200, 20, 1000, 2)).toEqual([0, 12]);
  expect(inSight(2010, 200, 20, 1000, 2)).toEqual([98, 113]);
  expect(inSight(19800, 200, 20, 1000, 2)).toEqual([988, 1000]);
  expect(inSight(500, 200, 20, 3, 2)).toEqual([3, 3]);
  expect(inSight(0, 200, 20, 0)).toEqual([0, 0]);
});

test("pages of rows, and what is asked for one", () => {
  expect(pagesOf([0, 1])).toEqual([0]);
  expect(pagesOf([PAGE - 1, PAGE + 1])).toEqual([0, 1]);
  expect(pagesOf([5, 5])).toEqual([]);
  const asked = new URLSearchParams(address({ ...ALL, search: "a&b=c", sort: "clean" }, 3));
  expect(Object.fromEntries(asked)).toEqual({
    search: "a&b=c", status: "any", sort: "clean", descending: "false", offset: String(3 * PAGE), limit: String(PAGE),
  });
});

test("a column sorts, once more the other way; numbers begin with the largest", () => {
  const once = sorted(ALL, "clean");
  expect([once.sort, once.descending]).toEqual(["clean", true]);
  expect(sorted(once, "clean").descending).toBe(false);
  expect(sorted(once, "prompt").descending).toBe(false);
});

test("a row is scrolled to as little as shows it", () => {
  expect(scrolledTo(5, 0, 200, 20)).toBe(0);
  expect(scrolledTo(10, 0, 200, 20)).toBe(20);
  expect(scrolledTo(3, 100, 200, 20)).toBe(60);
});

test("what the model knows, and why a fact has no grids", () => {
  expect(statusOf(row)).toBe("known");
  expect(statusOf({ status: "measured", known: null })).toBe("measured");
  expect(statusOf({ status: "measured", known: false })).toBe("unknown");
  expect(statusOf({ status: "failed", known: null })).toBe("failed");
  expect(missing(row)).toBeNull();
  expect(missing({ ...row, status: "failed", reason: "too long" })).toContain("too long");
  expect(missing({ ...row, status: "unknown", said: "␣B" })).toContain("says ␣B, not ␣A");
});

test("the subject of a prompt is where it stands last", () => {
  expect(parted(row.prompt, row.subject)).toEqual(["The Tower of the ", "Tower", " is in"]);
  expect(parted("nothing", "else")).toEqual(["nothing", "", ""]);
  expect(parted("nothing", " ")).toEqual(["nothing", "", ""]);
});

test("how far a run is", () => {
  const run: RunInfo = {
    name: "x", model: "m", data: "d", facts: 10000, done: 1200, measured: 900, known: 900, unknown: 290,
    failed: 10, begun: "", served: null, problem: null,
  };
  expect(progressOf(run)).toBe("1,200 of 10,000 facts · 900 measured · 900 known, 290 unknown · 10 failed");
  expect(progressOf({ ...run, done: 10000, known: 0, unknown: 0, failed: 0 })).toBe("10,000 facts · 900 measured");
});

test("a fact is asked for again as its run measured it", () => {
  const base = { model: "other", prompt: "p", subject_tokens: [[1, 2]], neurons: true, top_k: 5 } as unknown as Request;
  const settings = {
    measure: ["trace", "lens"], kinds: ["mlp"], window: 3, metric: "logit", direction: "noise", corruption: "noise",
    sigma: 0.2, times_std: 3, samples: 4, seed: 9, rule: "gaussian", df: 3, replace: true, answer_id: 12, counterfactual: "q",
  };
  const made = requestOf(base, "hamlet", row, settings);
  expect(made).toMatchObject({
    model: "hamlet", prompt: row.prompt, subject: [row.subject], answer: 12, kinds: ["mlp"], window: 3, metric: "logit",
    direction: "noise", sigma: 0.2, samples: 4, seed: 9, noise_replaces: true, counterfactual: null, subject_tokens: [], top_k: 5,
  });
  const other = requestOf(base, "hamlet", row, { ...settings, corruption: "counterfactual" });
  expect(other).toMatchObject({ counterfactual: "q", sigma: null });
});

test("a mean says its interval and of how many facts it is", () => {
  const document = raw();
  const look = document.looks[0]!;
  const columns = ["last subject", "focus"];
  const details = { low: floats([NaN, 0.1], [1, 2]), high: floats([NaN, 0.3], [1, 2]), facts: floats([1, 1234], [1, 2]) };
  const average = { ...look.grids[1]!, asked: null, columns, column: "role", details, values: floats([0.5, 0.2], [1, 2]) };
  const doc = decode({ ...document, looks: [{ ...look, settings: [{ level: 0.9 }], grids: [average] }] });
  const [made] = doc.looks;
  const grid = made!.grids[0]!;
  const told = (token: number) => lines(doc, made!, grid, { row: 0, token }).map(({ name, value }) => `${name}: ${value}`);
  expect(told(1)).toEqual(["mean effect: +0.2", "90 % interval: +0.1 to +0.3", "facts with such a token: 1234"]);
  expect(told(0)[1]).toBe("90 % interval: –");
  expect(whereabouts(doc, made!, { row: 1, token: 0 }, grid)).toBe("layer 0, last subject");
});

test("a lens of which only the first tokens are kept says them, and stars the answer", () => {
  const document = raw();
  const look = document.looks[0]!;
  const lens = { ...look.lenses[1]!, id: "final", unit: "none" as const, values: floats([NaN, NaN, NaN, 1, NaN, NaN], [2, 3, 1]) };
  const details = { marked: floats([0, 0, 0, 1, 0, 0], [2, 3]), rank: floats([4, 3, 2, 1, 5, 6], [2, 3]) };
  const doc = decode({ ...document, looks: [{ ...look, lenses: [lens], grids: [{ ...look.grids[0]!, details }] }] });
  const [made] = doc.looks;
  const grid = made!.grids[0]!;
  expect(topOf(made!, grid.lens, { row: 0, token: 0 })).toMatchObject([{ label: "z", value: NaN }]);
  const told = lines(doc, made!, grid, { row: 0, token: 0 });
  expect(told.map(({ name, value }) => [name, value])).toEqual([["z", ""], ["probability", "0"], ["answer's rank", "4"]]);
  expect(lines(doc, made!, grid, { row: 1, token: 0 })[0]!.mark).toBe(true);
  expect(isMarked(doc, grid, { row: 1, token: 0 })).toBe(true);
  expect(isMarked(doc, grid, { row: 0, token: 0 })).toBe(false);
});

test("names of columns have several lines before they stand sideways", () => {
  expect(areSideways(["last subject", "focus"], 60)).toBe(false);
  expect(areSideways(["last subject", "focus"], 40)).toBe(true);
  expect(headOf(["H0", "H11"], 20)).toBe(26);
  expect(headOf(["last subject"], 60)).toBe(44);
  expect(headOf(["middle subject"], 40)).toBe(98);
});
