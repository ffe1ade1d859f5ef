// Lenses that were made later join a look that is shown.
import type { RawDocument } from "./document";

/** The document with the lenses of `found` that its look lacks, and the first of their grids. */
export function joined(
  shown: RawDocument,
  found: RawDocument,
  at: number,
): { document: RawDocument; grid: string | null } {
  const [look, made] = [shown.looks[at], found.looks[0]];
  if (!look || !made) return { document: shown, grid: null };
  const there = new Set(look.lenses.map((lens) => lens.id));
  const lenses = made.lenses.filter((lens) => !there.has(lens.id));
  const all = new Set(made.lenses.map((lens) => lens.id).filter((id) => id !== look.lenses[0]?.id));
  const ids = new Set(lenses.map((lens) => lens.id));
  const grids = made.grids.filter((grid) => grid.lens != null && ids.has(grid.lens));
  const first = made.grids.find((grid) => grid.lens != null && all.has(grid.lens));
  const more = {
    ...look,
    lenses: [...look.lenses, ...lenses],
    grids: [...look.grids, ...grids],
    vocabulary: { ...made.vocabulary, ...look.vocabulary },
  };
  return {
    document: { ...shown, looks: shown.looks.map((one, i) => (i === at ? more : one)) },
    grid: first?.id ?? null,
  };
}
