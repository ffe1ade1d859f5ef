import { expect, test } from "vitest";
import { headsAt } from "../src/derived";
import { decode, numbers, type RawDocument } from "../src/document";
import { joined, restorable } from "../src/lenses";
import { doc, floats, raw } from "./made";

/** What the server answers: the clean lens again, and one of another run. */
function found(): { document: RawDocument; id: string } {
  const made = raw();
  const look = made.looks[0]!;
  const lens = { ...look.lenses[0]!, id: "final.restored", name: "restored" };
  const grid = { ...look.grids[0]!, id: "lens.restored.probability", lens: lens.id };
  made.looks[0] = {
    ...look,
    settings: [],
    lenses: [look.lenses[0]!, lens],
    grids: [look.grids[0]!, grid],
    vocabulary: { "11": "new" },
  };
  return { document: made, id: grid.id };
}

test("a new lens and its grids join the look; what is there stays once", () => {
  const shown = raw();
  const { settings } = shown.looks[0]!;
  const { document, id } = found();
  const made = joined(shown, document, settings);
  const look = made.document.looks[0]!;
  expect(look.lenses.map((one) => one.id)).toEqual(["final", "tuned", "final.restored"]);
  expect(look.grids.length).toBe(shown.looks[0]!.grids.length + 1);
  expect(look.vocabulary).toMatchObject({ "5": "a", "11": "new" });
  expect(made.grid).toBe(id);
  const again = joined(made.document, document, settings);
  expect(again.document.looks[0]!.lenses.length).toBe(3);
  expect(again.grid).toBe(id);
});

test("it joins the look that it was asked of, and no other", () => {
  const two = { ...raw(), looks: [raw().looks[0]!, raw().looks[0]!] };
  const { document } = joined(two, found().document, two.looks[1]!.settings);
  expect(document.looks.map(({ lenses }) => lenses.length)).toEqual([2, 3]);
  expect(joined(two, found().document, [])).toEqual({ document: two, grid: null });
});

test("a look without the embedding's row gets one, empty in what it had", () => {
  const shown = raw();
  const { document, id } = found();
  const few = shown.looks[0]!;
  few.rows = ["0"];
  few.lenses = [{ ...few.lenses[1]!, ids: { dtype: "int32", shape: [1, 1, 1], data: btoa("\x09\0\0\0") }, values: floats([0.5], [1, 1, 1]) }];
  few.grids = [{ ...few.grids[1]!, values: floats([1, 2, 3], [1, 3]), details: {} }];
  const look = joined(shown, document, few.settings).document.looks[0]!;
  expect(look.rows).toEqual(["embed", "0"]);
  expect(Array.from(numbers(look.grids[0]!.values).data)).toEqual([NaN, NaN, NaN, 1, 2, 3]);
  expect(Array.from(numbers(look.lenses[0]!.ids).data)).toEqual([-1, 9]);
  expect(look.grids.at(-1)!.id).toBe(id);
  decode({ ...shown, looks: [look] });
});

test("which cells have a run of their own, and what the button says", () => {
  const { looks, labels } = doc();
  const look = looks[0]!;
  const trace = look.grids.find(({ id }) => id === "trace.block")!;
  const heads = look.grids.find(({ id }) => id === "trace.head")!;
  const told = { cell: "block:0:0", label: "lens after restoring this" };
  expect(restorable(look, trace, { row: 1, token: 0 }, 2)).toEqual(told);
  expect(restorable(look, trace, { row: 1, token: 1 }, 2)).toBeNull(); // not traced
  const before = { ...trace, asked: { ...trace.asked!, focus: 1, direction: "noise" as const } };
  expect(restorable(look, before, { row: 1, token: 2 }, 2)).toBeNull(); // after the focus
  expect(restorable(look, before, { row: 0, token: 1 }, 2)?.label).toBe("lens after corrupting this");
  const strongest = { cell: "head:0:0:1", label: "lens after restoring 0.H1" };
  expect(restorable(look, heads, { row: 1, token: 0 }, 2)).toEqual(strongest);
  expect(restorable(look, heads, { row: 0, token: 0 }, 2)).toBeNull(); // the embedding has none
  const apart = headsAt(heads, labels, 2);
  expect(restorable(look, apart, { row: 1, token: 0 }, 2)?.cell).toBe("head:0:2:0");
  expect(restorable(look, look.grids[0]!, { row: 1, token: 0 }, 2)).toBeNull(); // no trace
});
