import { expect, test } from "vitest";
import { joined } from "../src/lenses";
import { raw } from "./made";

test("new lenses and their grids join the look; what is there stays once", () => {
  const shown = raw();
  const lens = { ...shown.looks[0]!.lenses[0]!, id: "final · restored", name: "restored" };
  const grid = { ...shown.looks[0]!.grids[0]!, id: "lens.restored.probability", lens: lens.id };
  const found = raw();
  found.looks[0] = {
    ...found.looks[0]!,
    lenses: [found.looks[0]!.lenses[0]!, lens],
    grids: [...found.looks[0]!.grids, grid],
    vocabulary: { "11": "new" },
  };
  const made = joined(shown, found, 0);
  const look = made.document.looks[0]!;
  expect(look.lenses.map((one) => one.id)).toEqual(["final", "tuned", lens.id]);
  expect(look.grids.length).toBe(shown.looks[0]!.grids.length + 1);
  expect(look.vocabulary).toMatchObject({ "5": "a", "11": "new" });
  expect(made.grid).toBe(grid.id);
  const again = joined(made.document, found, 0);
  expect(again.document.looks[0]!.lenses.length).toBe(3);
  expect(again.grid).toBe(grid.id);
});
